package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/internal/resign"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
	"github.com/tonsurance/lockkeeper/redlock"
)

func (a *app) resignCommand() *cobra.Command {
	var wait time.Duration
	var slots bool
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

Of a key that is held with run --slots, name the slot, as in "KEY;slot=2"; slot
1 is the key itself. With --slots the holders of all slots are asked, and end at
the same time.

With --wait it waits until that term is over, and reports who holds the lock
then; the exit status is 75 if the term is not over in time, and 69 if too few
nodes answer to tell. Without it resign only asks. If nobody holds the lock
there is nothing to ask, and the exit status is 0; it is 75 if others hold slots
of it, or read (run --shared).`,
		Example: `  lockkeeper resign pricing-oracle-keeper
  # before a deployment takes its machine away
  lockkeeper resign pricing-oracle-keeper --wait 1m`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("wait") && wait < time.Millisecond {
				return usage("--wait is %v, want at least 1ms", wait)
			}
			return a.with(cmd.Context(), func(ctx context.Context, l lock.Locker) error { return a.resign(ctx, l, args[0], slots, wait) })
		},
	}
	c.Flags().BoolVar(&slots, "slots", false, "ask the holders of all slots of KEY (run --slots)")
	c.Flags().DurationVar(&wait, "wait", 0, "wait up to this `duration` until the term is over")
	return c
}

// request is what one holder was asked by.
type request struct {
	term  lock.Info
	lease lock.Lease // nil: another's request stands
}

func (a *app) resign(ctx context.Context, l lock.Locker, key string, slots bool, wait time.Duration) error {
	end := time.Now().Add(wait)
	keys, err := resignable(ctx, l, key, slots)
	if err != nil {
		return err
	}
	var requests []request
	var failed error
	for _, name := range keys {
		r, err := a.askToResign(ctx, l, name, wait == 0)
		switch {
		case errors.Is(err, resign.ErrNobody): // of several, it may have ended meanwhile
		case err != nil:
			failed = cmp.Or(failed, err) // the others are asked all the same
		default:
			requests = append(requests, r)
		}
	}
	if len(requests) == 0 && failed == nil {
		_, err = fmt.Fprintf(a.out, "nobody holds %s\n", printable(key))
		return err
	}
	if wait > 0 {
		for _, r := range requests {
			failed = cmp.Or(failed, a.reportOver(ctx, l, r, wait, end))
		}
	}
	return failed
}

// resignable are the names whose holders are asked: key or, with slots, those of its slots
// that are held.
func resignable(ctx context.Context, l lock.Locker, key string, slots bool) ([]string, error) {
	k, err := inspect.Key(ctx, l, key)
	if err != nil {
		return nil, err
	}
	if !slots && !k.Free() {
		return []string{key}, nil
	}
	k.Group(ctx, l)
	if name, other := k.StandsFor(); k.Free() && other {
		return nil, nothingOf(k, name, "nobody was asked")
	}
	parts := append(slices.Clone(k.Slots), k.Readers...)
	switch {
	case slots && k.GroupErr != nil:
		return nil, fmt.Errorf("nobody was asked: which slots of %s are held is not known: %w", printable(key), k.GroupErr)
	case !slots && len(parts) > 0:
		return nil, &status{exitHeld, fmt.Errorf("nobody was asked: %s is held in slots, or by readers: name one, as in lockkeeper resign %s, or give --slots to ask the holders of all slots", printable(key), quoted(parts[0].Key))}
	}
	keys := []string{key}
	if slots {
		for _, s := range k.Slots {
			keys = append(keys, s.Key)
		}
	}
	return keys, nil
}

// askToResign asks the holder of one name. stays: the request outlives this process.
func (a *app) askToResign(ctx context.Context, l lock.Locker, key string, stays bool) (request, error) {
	term, lease, err := resign.Ask(ctx, l, key)
	if err == nil && stays {
		err = resign.Leave(ctx, lease)
	}
	if err == nil {
		_, err = fmt.Fprintf(a.out, "asked %s, token %s, to resign from %s: it learns of it when its next renewal is due\n",
			printable(term.Holder), tokenText(term.Token), printable(key))
	}
	term.Key = key
	return request{term, lease}, err
}

// reportOver waits until a term is over, and says who has the lock then.
func (a *app) reportOver(ctx context.Context, l lock.Locker, r request, wait time.Duration, end time.Time) error {
	next, err := untilOver(ctx, l, r.term, wait, end)
	if err != nil {
		return err
	}
	if r.lease != nil {
		_ = r.lease.Release(ctx) // it has done its work; else it ends by itself
	}
	key, holder := printable(r.term.Key), printable(r.term.Holder)
	switch {
	case next.Holder != "":
		_, err = fmt.Fprintf(a.out, "the term of %s is over; %s holds %s now, token %s\n", holder, printable(next.Holder), key, tokenText(next.Token))
	case next.Unavailable() != nil:
		_, err = fmt.Fprintf(a.out, "the term of %s is over; who holds %s now is not known: %s\n", holder, key, printable(oneLine(next.Unavailable())))
	default:
		_, err = fmt.Fprintf(a.out, "the term of %s is over; nobody holds %s now\n", holder, key)
	}
	return err
}

const (
	overPoll = 100 * time.Millisecond
	// nextTime is for another copy to take over, once the term is over.
	nextTime = time.Second
)

// untilOver waits until term is over, at most until end, and then a little for the next one.
func untilOver(ctx context.Context, l lock.Locker, term lock.Info, wait time.Duration, end time.Time) (inspect.Reading, error) {
	over := time.Time{}
	var last inspect.Reading // by which the term is over: it stays so, whatever a later one fails of
	for {
		k, err := inspect.Key(ctx, l, term.Key)
		ended := err == nil && termOver(k, term)
		switch {
		case ended && k.Holder != "":
			return k, nil
		case ended && over.IsZero():
			over, last = time.Now(), k
		case ended:
			last = k
		}
		if !over.IsZero() && time.Since(over) > nextTime {
			return last, nil
		}
		if time.Until(end) <= 0 {
			switch {
			case !over.IsZero():
				return last, nil
			case err == nil:
				err = k.Unavailable()
			}
			if err != nil { // an outage says nothing of the term
				return k, fmt.Errorf("whether the term of %s is over is not known: %w", printable(term.Holder), err)
			}
			return k, &status{exitHeld, fmt.Errorf("%s still holds %s after %v: it may take longer to end, or not know of requests", printable(term.Holder), printable(term.Key), wait)}
		}
		if err := pause(ctx, overPoll); err != nil {
			return k, err
		}
	}
}

// termOver reports whether term is certainly over. With nodes down, who has the lock now, or
// with which token, may not be known where that is.
func termOver(k inspect.Reading, term lock.Info) bool {
	switch {
	case k.Holder != "":
		return k.Holder != term.Holder || k.Token != 0 && k.Token != term.Token
	case k.State() != redlock.StateUnknown:
		return true
	}
	may := 0 // how many nodes may have the term's value
	for _, n := range k.View.Nodes {
		if n.Err != nil || n.Holder == term.Holder {
			may++
		}
	}
	return may < k.View.Quorum // a later term has begun, or none has
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
