// Package redlock locks on a quorum of independent Redis nodes.
package redlock
