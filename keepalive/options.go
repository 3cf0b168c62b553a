package keepalive

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// Options for [Start] and [Do]. nil means the defaults.
type Options struct {
	// Interval is how long after one renewal the next is due; it counts from
	// when the lease was asked for. Each comes up to a tenth earlier, at random, so
	// that leases taken together are not renewed in step; many leases are renewed in
	// groups, which a backend can send together. At least 1ms. Defaults to half the
	// ttl.
	Interval time.Duration

	// Margin is how long before the lease's Expiry the context ends: the time
	// that work needs to stop when its context has ended. Until the first renewal has
	// succeeded it is at most half of what the lease began with. At least 1ms; -1 means
	// none. Defaults to a tenth of the ttl.
	Margin time.Duration

	// DrainTimeout is for how long renewal goes on after the parent context has
	// ended, so that work can wind down under the lock. After that the lease runs
	// out by itself, and its loss says so. Longer work needs a longer DrainTimeout. At
	// least 1ms; -1 means that renewal ends with the parent. Defaults to the ttl.
	DrainTimeout time.Duration

	// Acquire is how Do waits for the lease. Start does not use it. nil means to
	// wait until ctx ends.
	Acquire *lock.AcquireOptions

	// AtLeast is for how long Do keeps the key held, counted from when it was asked
	// for, also where the function has returned earlier, and whatever becomes of this
	// process after that (one that dies before loses the key with its ttl, as ever):
	// for jobs that several machines start at the same time by clocks that differ (see
	// lock.ReleaseAfter). It holds whatever the function returned. A store that can't
	// do it refuses before anything is asked. At least 1ms. Start does not use it. 0
	// means none, which is the default.
	AtLeast time.Duration

	// OnLost is called once for the loss of a lease, with the error that the context
	// has as its cause: for metrics. It is called beside the work, on a goroutine of
	// its own and not for long: work that must stop waits for Context. Its call may
	// outlast Release.
	OnLost func(k *Keeper, err error)

	// Logger gets an outage in which renewals fail, when it begins (Warn) and when it
	// has ended (Info): one record each, however many leases write to this very Logger.
	// It gets each lost lease, and each function of Do that runs on after the loss
	// (Error). While Do waits for the lease, it gets who holds the key (Info), and that
	// the store is out of reach (Warn), at each change once. A slow Logger delays neither
	// the context's end nor Release, so its last call may outlast Release. nil is silent.
	Logger *slog.Logger
}

// WithDefaults returns a copy of o with the values that it means for leases of
// this ttl, or an error matching [lock.ErrInvalid] that names what can't work.
// o may be nil.
func (o *Options) WithDefaults(ttl time.Duration) (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if ttl < lock.MinTTL || ttl > lock.MaxTTL {
		return opts, fmt.Errorf("%w: ttl is %v, want %v to %v%s", lock.ErrInvalid, ttl, lock.MinTTL, lock.MaxTTL, unitHint(ttl))
	}
	if opts.Interval == 0 {
		opts.Interval = ttl / 2
	}
	if opts.Margin == 0 {
		opts.Margin = ttl / 10
	}
	if opts.DrainTimeout == 0 {
		opts.DrainTimeout = ttl
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case tooShort(opts.Interval, ttl/2):
		return opts, refuse("Interval", opts.Interval, "")
	case opts.Margin != -1 && tooShort(opts.Margin, ttl/10):
		return opts, refuse("Margin", opts.Margin, ", or -1 for none")
	case opts.DrainTimeout != -1 && tooShort(opts.DrainTimeout, ttl):
		return opts, refuse("DrainTimeout", opts.DrainTimeout, ", or -1 for none")
	case opts.AtLeast != 0 && opts.AtLeast < floor:
		return opts, fmt.Errorf("%w: Options.AtLeast is %v, want 0 for none, or at least %v%s", lock.ErrInvalid, opts.AtLeast, floor, unitHint(opts.AtLeast))
	case opts.Interval >= ttl-max(0, opts.Margin): // this way round, nothing overflows
		return opts, fmt.Errorf("%w: Options.Interval %v and Margin %v leave no time to renew, want a sum below the ttl of %v",
			lock.ErrInvalid, opts.Interval, max(0, opts.Margin), ttl)
	}
	if opts.Acquire != nil {
		if err := opts.Acquire.Validate(); err != nil {
			return opts, err
		}
	}
	return opts, nil
}

// floor is the least for a duration: a shorter one is taken for a number whose unit was
// forgotten. As an Interval it would renew a hundred thousand times a second.
const floor = time.Millisecond

// tooShort reports whether d is too short to be meant. What is no shorter than the default
// is always good, also where that is below the floor, as with a ttl of a few milliseconds.
func tooShort(d, byDefault time.Duration) bool { return d < min(floor, byDefault) }

func refuse(name string, d time.Duration, or string) error {
	return fmt.Errorf("%w: Options.%s is %v, want 0 for the default%s, or at least %v%s", lock.ErrInvalid, name, d, or, floor, unitHint(d))
}

// unitHint explains durations that come of a number without its unit.
func unitHint(d time.Duration) string {
	if d <= 0 || d >= floor {
		return ""
	}
	return "; a number alone counts nanoseconds: write its unit, such as 5*time.Second"
}
