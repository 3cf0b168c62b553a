// Package resign is how a leader is asked from outside, through the store, to end its
// term: a short lock on a reserved name, in which the term's token is. So a request never
// meets the next leader, needs nothing that a store does not have, and ends by itself.
package resign

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// Name is that of the request to end the term of key which has token.
func Name(key string, token uint64) string {
	suffix := fmt.Sprintf(";resign=%d", token)
	if len(key)+len(suffix) > lock.MaxKeyLen {
		key = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(key)))
	}
	return key + suffix
}

// atLeast is how long a request stands at the least. A leader looks once an interval of
// its renewals.
const atLeast = time.Minute

// ErrNobody says that nobody holds the key.
var ErrNobody = errors.New("nobody holds it")

// Ask asks the process that holds key to end this term. The request stands until it is released or
// its ttl is up, and in some stores no longer than this process lives: see Leave. request
// is nil if another's request stands already.
func Ask(ctx context.Context, l lock.Locker, key string) (term lock.Info, request lock.Lease, err error) {
	inspector, ok := lock.As[lock.Inspector](l)
	if !ok {
		return lock.Info{}, nil, fmt.Errorf("this store can't tell who holds %q: %w", key, errors.ErrUnsupported)
	}
	term, err = inspector.Inspect(ctx, key)
	switch {
	case err != nil:
		return term, nil, err
	case term.Holder == "":
		return term, nil, fmt.Errorf("%q: %w", key, ErrNobody)
	case term.Token == 0:
		return term, nil, fmt.Errorf("%w: nobody was asked: too few nodes report the token of %q, by which the term would be named", lock.ErrUnavailable, key)
	}
	// Twice what is left is more than its leader's whole ttl once it has renewed in time,
	// or else the term is over before the request.
	ttl := max(atLeast, min(2*term.TTL, lock.MaxTTL))
	if m, ok := lock.As[lock.MaxReleaseAfterer](l); ok && m.MaxReleaseAfter() > 0 {
		ttl = min(ttl, m.MaxReleaseAfter()) // which bounds every ttl in such a store
	}
	request, err = l.TryAcquire(ctx, Name(key, term.Token), ttl)
	if errors.Is(err, lock.ErrHeld) {
		return term, nil, nil
	}
	return term, request, err
}

// Slots are the names by which the holders of key are asked, and the locker that knows them:
// those of its slots where l is or has a lock.Semaphore, and otherwise key itself.
func Slots(l lock.Locker, key string) (below lock.Locker, names []string) {
	s, ok := lock.As[interface {
		Slots(key string) (below lock.Locker, names []string)
	}](l)
	if !ok {
		return l, []string{key}
	}
	return s.Slots(key)
}

// SlotOf is the name among those by which the holder of lease is asked.
func SlotOf(lease lock.Lease, names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	name := ""
	for _, n := range names {
		// The lease has the full name in its store, which prefixes may precede. (The longest, because
		// a key may end like another's slot.)
		if len(n) > len(name) && strings.HasSuffix(lease.Key(), n) {
			name = n
		}
	}
	return name
}

// Leave lets request stand by itself, also after this process has ended.
func Leave(ctx context.Context, request lock.Lease) error {
	if request == nil {
		return nil // another's stands
	}
	a, ok := request.(lock.AfterReleaser)
	if !ok || a.MaxReleaseAfter() <= 0 {
		return nil // it ends with its ttl, if the store does not watch processes
	}
	return a.ReleaseAfter(ctx, min(max(atLeast, time.Until(request.Expiry())), a.MaxReleaseAfter()))
}

// Asked reports who has asked for the end of the term of key which has token; "" is nobody.
func Asked(ctx context.Context, i lock.Inspector, key string, token uint64) (by string, err error) {
	info, err := i.Inspect(ctx, Name(key, token))
	return info.Holder, err
}
