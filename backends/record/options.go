package record

import (
	"fmt"
	"log/slog"
	"os"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tonsurance/lockkeeper/lock"
)

// Options for [New]. nil means the defaults. A value may serve any number of Lockers.
type Options struct {
	// Owner names this Locker to people, in errors and in Inspect. 1 to 128 bytes of
	// printable UTF-8; it need not be unique. Defaults to "host:pid".
	Owner string

	// Names makes names out of keys. Defaults to the zero Names.
	Names Names

	// Poll is how often a key that somebody waits for is looked at, where the store pushes
	// no notifications. 1ms to 1h. Defaults to 250ms.
	Poll time.Duration

	// HeadStart is how long each process of the queue has a free key to itself before the
	// next one may ask: a few round trips. 1ms to 10s; -1 means no queue. Defaults to
	// 100ms where the store pushes notifications, else to no queue, because who polls does
	// not come in time.
	HeadStart time.Duration

	// Timeout bounds each request to the store, where its caller's ctx does not, and a
	// release as a whole. 1ms to 1h. Defaults to lock.DefaultReleaseTimeout.
	Timeout time.Duration

	// Grace lets a hold be over, too, once its end by its holder's wall clock is this long
	// ago by this process's wall clock: then a program that runs once can take over after
	// a crash although the store reports no ages. It must be more than clocks of two
	// machines can ever differ: if they differ by more, there can be two holders. 1m to
	// 24h. Defaults to 0: wall clocks are not looked at.
	Grace time.Duration

	// Logger gets what nobody else can report: a clean-up that was given up. Defaults to
	// none.
	Logger *slog.Logger
}

const (
	maxOwner         = 128 // bytes
	defaultPoll      = 250 * time.Millisecond
	defaultHeadStart = 100 * time.Millisecond
)

func printable(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func (o *Options) withDefaults(pushes bool) (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	var err error
	if opts.Names, err = opts.Names.withDefaults(); err != nil {
		return opts, err
	}
	if opts.Owner == "" {
		host, err := os.Hostname()
		if err != nil || !printable(host) {
			host = "unknown-host"
		}
		opts.Owner = fmt.Sprintf("%.*s:%d", maxOwner-16, host, os.Getpid())
	}
	if len(opts.Owner) > maxOwner || !printable(opts.Owner) {
		return opts, fmt.Errorf("%w: Options.Owner is %.140q (%d bytes), want 1 to %d bytes of printable UTF-8", lock.ErrInvalid, opts.Owner, len(opts.Owner), maxOwner)
	}
	if opts.Poll == 0 {
		opts.Poll = defaultPoll
	}
	if opts.HeadStart == 0 {
		opts.HeadStart = -1
		if pushes {
			opts.HeadStart = defaultHeadStart
		}
	}
	if opts.Timeout == 0 {
		opts.Timeout = lock.DefaultReleaseTimeout
	}
	for _, d := range []struct {
		name        string
		value       time.Duration
		least, most time.Duration
	}{
		{"Poll", opts.Poll, time.Millisecond, time.Hour},
		{"HeadStart", opts.HeadStart, time.Millisecond, 10 * time.Second},
		{"Timeout", opts.Timeout, time.Millisecond, time.Hour},
		{"Grace", opts.Grace, time.Minute, 24 * time.Hour},
	} {
		off := d.name == "HeadStart" && d.value == -1 || d.name == "Grace" && d.value == 0
		if !off && (d.value < d.least || d.value > d.most) {
			return opts, fmt.Errorf("%w: Options.%s is %v, want %v to %v", lock.ErrInvalid, d.name, d.value, d.least, d.most)
		}
	}
	if opts.HeadStart == -1 {
		opts.HeadStart = 0 // within the package: no queue
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return opts, nil
}
