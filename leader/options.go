package leader

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// DefaultTTL is the ttl of a leader's lease: how long the others wait at most
// after a leader has crashed.
const DefaultTTL = 30 * time.Second

// Options for [Run] and [New]. nil means the defaults.
type Options struct {
	// TTL of the lease. Defaults to DefaultTTL.
	TTL time.Duration

	// Acquire is how to stand by. Bounded (Attempts, Timeout), the campaign ends
	// with ErrNotElected where another leads. nil means to stand by until ctx ends.
	Acquire *lock.AcquireOptions

	// Keepalive is how the lease is renewed, how long before its end fn's context
	// ends, and for how long fn may drain. Its Acquire must be nil, and its Logger
	// defaults to the one below. nil means keepalive's defaults.
	Keepalive *keepalive.Options

	// Once ends Run when a term was lost, instead of campaigning again.
	Once bool

	// OnChange receives each change of State, a term that is overdue and, while
	// standing by, that another leads, or that the store is out of reach or back. Its
	// calls come in order, one at a time, on a goroutine of Run; nothing waits for them
	// but Run's end, and that no longer than 5s. While one call lasts, changes are
	// merged: the next call reports the latest. It may call the Elector's methods.
	OnChange func(Status)

	// Logger gets terms that begin and end, who leads while this copy stands by (within
	// seconds of each change, where the locker is a lock.Inspector) and renewals that
	// succeed again (Info), failed renewals, lost terms, and a store that can't decide
	// (Warn), lost leases and overdue terms (Error). Each change is logged once; standing
	// by and leading are silent. nil is silent.
	Logger *slog.Logger
}

// settings are Options that were found good.
type settings struct {
	ttl       time.Duration
	acquire   *lock.AcquireOptions
	keepalive keepalive.Options // defaults filled in
	once      bool
	log       *slog.Logger
}

// bounded reports whether a campaign ends by itself.
func (s settings) bounded() bool {
	return s.acquire != nil && (s.acquire.Attempts > 0 || s.acquire.Timeout > 0)
}

func (e *Elector) settings(fn func(context.Context) error) (settings, error) {
	s := settings{ttl: e.opts.TTL, acquire: e.opts.Acquire, once: e.opts.Once, log: e.opts.Logger}
	if s.ttl == 0 {
		s.ttl = DefaultTTL
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	switch {
	case e.locker == nil:
		return s, fmt.Errorf("%w: locker is nil", lock.ErrInvalid)
	case fn == nil:
		return s, fmt.Errorf("%w: fn is nil", lock.ErrInvalid)
	}
	if err := lock.Check(e.key, s.ttl); err != nil {
		return s, err
	}
	if err := s.acquire.Validate(); err != nil {
		return s, err
	}
	if e.opts.Keepalive != nil {
		s.keepalive = *e.opts.Keepalive
	}
	if s.keepalive.Acquire != nil {
		return s, fmt.Errorf("%w: Options.Keepalive.Acquire is set, want it in Options.Acquire", lock.ErrInvalid)
	}
	if s.keepalive.AtLeast != 0 {
		return s, fmt.Errorf("%w: Options.Keepalive.AtLeast is %v, want 0: a leader that resigns frees the key at once", lock.ErrInvalid, s.keepalive.AtLeast)
	}
	if s.keepalive.Logger == nil {
		s.keepalive.Logger = s.log
	}
	var err error
	s.keepalive, err = s.keepalive.WithDefaults(s.ttl)
	return s, err
}
