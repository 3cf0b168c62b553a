// Package registry knows the lock stores by the schemes of their URLs. It is apart from
// package backends so that a store can register without linking all others.
package registry

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"

	"github.com/tonsurance/lockkeeper/lock"
)

// Opener makes a locker of what follows the scheme and its colon in a URL. It refuses what
// it does not understand with an error that matches lock.ErrInvalid, and quotes no
// password.
type Opener func(ctx context.Context, rest string) (lock.Locker, error)

var (
	mu      sync.RWMutex // guards openers
	openers = map[string]Opener{}
)

// Register adds a scheme. It panics if that is no URL scheme in lower case, or taken, or if
// open is nil: these are mistakes in the program.
func Register(scheme string, open Opener) {
	if u, err := url.Parse(scheme + ":x"); err != nil || u.Scheme != scheme || scheme == "" {
		panic(fmt.Sprintf("backends: Register: %q is not a URL scheme in lower case", scheme))
	}
	if open == nil {
		panic(fmt.Sprintf("backends: Register: the opener of %q is nil", scheme))
	}
	mu.Lock()
	defer mu.Unlock()
	if _, taken := openers[scheme]; taken {
		panic(fmt.Sprintf("backends: Register: %q is registered already", scheme))
	}
	openers[scheme] = open
}

// Lookup finds the opener of a scheme.
func Lookup(scheme string) (Opener, bool) {
	mu.RLock()
	defer mu.RUnlock()
	open, ok := openers[scheme]
	return open, ok
}

// Schemes are all that are registered, in order.
func Schemes() []string {
	mu.RLock()
	defer mu.RUnlock()
	return slices.Sorted(maps.Keys(openers))
}
