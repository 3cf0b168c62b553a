package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/tonsurance/lockkeeper/internal/procgroup"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// A command, its lockkeeper and the guard are three processes, and between two renewals each
// has to run. Of twelve at once on two cores, with a ttl of 100ms half were killed by a guard
// that did not yet know of the renewal, and of 200ms none: leastTTL is five times that. Of
// leastGrace the last fifth is for the killed to be gone, before anybody else has the lock.
const (
	leastTTL   = time.Second
	leastGrace = 100 * time.Millisecond
)

// checkTimes checks ttl and grace, between which the lease is renewed.
func (r *runner) checkTimes() error {
	switch {
	case r.grace <= 0 || r.grace >= r.ttl:
		return usage("--grace is %v, want more than 0 and less than the ttl (%v)", r.grace, r.ttl)
	case r.ttl-r.grace < 2*time.Millisecond: // keepalive's least interval, twice
		return usage("--ttl is %v and --grace %v, want 2ms or more between them, in which the lease is renewed", r.ttl, r.grace)
	}
	return nil
}

// ending is what became of a term.
type ending struct {
	stopped  bool          // a signal asked for the end
	resigned bool          // the end was asked for through the store: another is to have the lock first
	ran      time.Duration // the command, 0: not at all
	said     string        // how it ended, for people
}

// campaigns runs the command for one term, with --restart for one after another.
func (r *runner) campaigns(ctx context.Context, locker lock.Locker, path string) error {
	pauses := backoff{base: r.restartDelay}
	for {
		t, err := r.term(ctx, locker, path)
		select {
		case <-r.suspend: // while the command ran: it was that one's
		default:
		}
		if !r.restart || t.stopped {
			return err
		}
		if t.said == "" {
			return err // of the campaign: the next would end in the same way
		}
		wait := pauses.after(t.ran, err)
		if t.resigned {
			wait = max(r.restartDelay, asideTime)
		}
		for {
			r.say("%s: campaigning again in %v", t.said, wait)
			if err := r.untilSignal(ctx, func(ctx context.Context) error { return pause(ctx, wait) }); err != nil {
				return err
			}
			// Not for good: a deployment may be putting another in its place. Anyone who has no
			// command to run leaves the lock to others.
			if path, err = exec.LookPath(r.command[0]); err == nil {
				break
			}
			t.said = cantRun(r.command, err).Error()
			wait = pauses.after(0, err)
		}
		r.began = time.Now()
	}
}

const (
	asideTime = 2 * time.Second  // for another copy to take the lock, where this one was asked to resign
	steadyRun = 10 * time.Second // a command that ran so long did not fail at once
	maxPause  = time.Minute      // between two that do
)

// backoff is the pause before the next campaign: base, and twice as long as the last one
// after a command that failed at once again.
type backoff struct {
	base, last time.Duration
}

func (b *backoff) after(ran time.Duration, err error) time.Duration {
	switch {
	case err == nil || ran >= steadyRun || codeOf(err) == exitLost:
		b.last = 0
		return b.base
	case b.last == 0:
		b.last = max(b.base, 10*time.Millisecond)
		return b.base
	}
	b.last = min(2*b.last, max(b.base, maxPause))
	return b.last
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// asksForTheEnd: SIGHUP means a reload to a service, unless the terminal is gone.
func (r *runner) asksForTheEnd(s os.Signal) bool {
	return !r.restart || s != syscall.SIGHUP || r.hungUp()
}

// hungUp reports whether the terminal that there was is closed.
func (r *runner) hungUp() bool { return r.terminal && !procgroup.HasTerminal() }

// term campaigns once and runs the command for one term.
func (r *runner) term(ctx context.Context, locker lock.Locker, path string) (t ending, err error) {
	var lease lock.Lease
	err = r.untilSignal(ctx, func(ctx context.Context) (err error) {
		lease, err = r.stand(ctx, locker)
		return err
	})
	if err != nil {
		if lease != nil {
			_ = lease.Release(ctx)
		}
		var sig signalled
		return ending{stopped: errors.As(err, &sig)}, r.bounded(err)
	}
	r.lengthen(ctx, lease)
	keeper, err := keepalive.Start(context.WithoutCancel(ctx), guarded{lease, r}, r.ttl, &keepalive.Options{
		Margin:   r.grace,
		Interval: min(r.ttl/2, (r.ttl-r.grace)/2),
		Logger:   slog.New(renewals{r, "the command"}),
	})
	if err != nil {
		_ = lease.Release(ctx)
		return ending{}, err
	}
	r.sayStore(true)
	r.say("holding %s in %s, token %d", r.describe(lease), r.store.shown(), lease.Token())
	t, err = r.lead(keeper, lease, path)

	freed := r.free(ctx, keeper, t, err)
	switch {
	case errors.Is(freed, lock.ErrLost):
		t.said = words(freed)
		return t, &status{exitLost, freed}
	case freed != nil:
		r.say("the lock was not freed, it ends by itself within %v: %v", r.ttl, freed)
	}
	return t, err
}

// lengthen extends a lease that starts short, as one that was waited for may: the command
// and its guard begin with the whole ttl. Where that does not succeed in time, what there
// is goes on, and ends by itself.
func (r *runner) lengthen(ctx context.Context, lease lock.Lease) {
	left := time.Until(lease.Expiry())
	if left >= r.ttl/2 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), left/2)
	defer cancel()
	r.asking.Lock()
	defer r.asking.Unlock()
	_ = lease.Extend(ctx, r.ttl) // the keeper finds out what became of it
}

// free ends the hold: at once, or with --at-least by itself, that long after it began.
// outcome is the command's.
func (r *runner) free(ctx context.Context, keeper *keepalive.Keeper, t ending, outcome error) error {
	if r.atLeast == 0 || t.ran == 0 || outcome != nil && r.atLeastOn == "success" {
		return keeper.Release(ctx)
	}
	err := lock.ReleaseAfter(ctx, keeper, r.atLeast)
	if err != nil && !errors.Is(err, lock.ErrLost) {
		r.warn("%s may be free before the %v of --at-least have passed: %v", r.key, r.atLeast, err)
		return nil
	}
	return err
}

// cantRun is err, why the command could not be started, with its exit status.
func cantRun(command []string, err error) error {
	code := exitNoExec
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		code = exitNotFound
	}
	return &status{code, commandWords(command, err)}
}

// ended says how the command did.
func ended(g *procgroup.Group, after time.Duration) string {
	return fmt.Sprintf("the command %s after %s", g.Outcome(), short(after))
}
