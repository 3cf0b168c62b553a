// Package lock has the core of lockkeeper.
package lock
