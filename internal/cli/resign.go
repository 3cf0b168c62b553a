package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tonsurance/lockkeeper/internal/resign"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

func (a *app) resignCommand() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use:   "resign KEY",
		Short: "Ask the holder of a lock to let another one lead",
		Long: `Resign asks the process that holds KEY to end this term in good order: a program
that leads by package leader ends its work, a lockkeeper lead answers that it
leads no more, a lockkeeper run sends SIGTERM to its command. Then the lock is
freed, and with other copies waiting, one of them has it first; where none
waits, the same one leads again within 5s (lockkeeper run without --restart
leaves). One that is not to lead again has to be ended.

The holder learns of it when its next renewal is due, up to half its ttl later.
The request is for the term that resign has seen: if the lock changes hands
meanwhile, the next holder is not asked. It is a lock itself, named after KEY
and the term, and ends by itself. A holder of an older version, or one that is
no leader, does not learn of it.

With --wait it waits until that term is over, and reports who holds the lock
then; the exit status is 75 if the term is not over in time. Without it resign
only asks. If nobody holds the lock there is nothing to ask, and the exit status
is 0.`,
		Example: `  lockkeeper resign pricing-oracle-keeper
  # before a deployment takes its machine away
  lockkeeper resign pricing-oracle-keeper --wait 1m`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("wait") && wait < time.Millisecond {
				return usage("--wait is %v, want at least 1ms", wait)
			}
			return a.with(cmd.Context(), func(ctx context.Context, l lock.Locker) error { return a.resign(ctx, l, args[0], wait) })
		},
	}
	c.Flags().DurationVar(&wait, "wait", 0, "wait up to this `duration` until the term is over")
	return c
}

func (a *app) resign(ctx context.Context, l lock.Locker, key string, wait time.Duration) error {
	term, request, err := resign.Ask(ctx, l, key)
	switch {
	case errors.Is(err, resign.ErrNobody):
		_, err = fmt.Fprintf(a.out, "nobody holds %s\n", printable(key))
		return err
	case err != nil:
		return err
	}
	if wait == 0 {
		if err := resign.Leave(ctx, request); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(a.out, "asked %s, token %s, to resign from %s: it learns of it when its next renewal is due\n",
		printable(term.Holder), tokenText(term.Token), printable(key)); err != nil || wait == 0 {
		return err
	}
	next, err := a.untilOver(ctx, l, key, term.Token, wait)
	if err != nil {
		return err
	}
	if request != nil {
		_ = request.Release(ctx) // it has done its work; else it ends by itself
	}
	if next.Holder == "" {
		_, err = fmt.Fprintf(a.out, "the term of %s is over; nobody holds %s now\n", printable(term.Holder), printable(key))
		return err
	}
	_, err = fmt.Fprintf(a.out, "the term of %s is over; %s holds %s now, token %s\n",
		printable(term.Holder), printable(next.Holder), printable(key), tokenText(next.Token))
	return err
}

const (
	overPoll = 100 * time.Millisecond
	// nextTime is for another copy to take over, once the term is over.
	nextTime = time.Second
)

// untilOver waits until the term with token is over, and then a little for the next one.
func (a *app) untilOver(ctx context.Context, l lock.Locker, key string, token uint64, wait time.Duration) (lock.Info, error) {
	i, err := inspectorOf(l)
	if err != nil {
		return lock.Info{}, err
	}
	end := time.Now().Add(wait)
	over := time.Time{}
	var failed error
	for {
		info, err := i.Inspect(ctx, key)
		switch {
		case err != nil:
			failed = err // an outage says nothing of the term
		case info.Holder != "" && info.Token != token && info.Token != 0:
			return info, nil
		case info.Holder == "" && over.IsZero():
			over, failed = time.Now(), nil
		case info.Holder == "" && time.Since(over) > nextTime:
			return info, nil
		default:
			failed = nil
		}
		switch left := time.Until(end); {
		case left <= 0 && failed != nil:
			return info, failed
		case left <= 0 && !over.IsZero():
			return info, nil
		case left <= 0:
			return info, &status{exitHeld, fmt.Errorf("%s still holds %s after %v: it may take longer to end, or not know of requests", printable(info.Holder), printable(key), wait)}
		}
		if err := pause(ctx, overPoll); err != nil {
			return info, err
		}
	}
}

// requests sends who has asked for the end of this term, once, until ctx ends.
func (r *runner) requests(ctx context.Context, lease lock.Lease, asked chan<- string) {
	i, ok := lock.As[lock.Inspector](r.locker)
	if !ok {
		return
	}
	for pause(ctx, min(r.ttl/2, (r.ttl-r.grace)/2)) == nil {
		// (Nothing is asked while Ctrl-Z stops this process; and a renewal waits for this no
		// longer than it can.)
		r.asking.Lock()
		bounded, cancel := context.WithTimeout(ctx, r.ttl/10)
		by, err := resign.Asked(bounded, i, lease.Key(), rwlock.PlaceToken(lease))
		cancel()
		r.asking.Unlock()
		if err == nil && by != "" {
			asked <- by
			return
		}
	}
}
