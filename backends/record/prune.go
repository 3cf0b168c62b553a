package record

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// DefaultRetention is how long a free key keeps its record, unless [Locker.Prune] is called
// with another.
const DefaultRetention = 7 * 24 * time.Hour

// pruneBatch is how many records are pruned for one write of the largest token.
const pruneBatch = 100

// Prune deletes the records of keys that have been free for longer than retention (0:
// DefaultRetention; at least an hour) and returns how many. It may run at any time, in any
// number of processes: a record that is used meanwhile stays, and tokens still rise,
// because the largest token of what is deleted is kept in a record of its own. Keys that
// are used once (job ids) otherwise leave a record each. Its error matches
// errors.ErrUnsupported where the store can't list or delete.
func (l *Locker) Prune(ctx context.Context, retention time.Duration) (int, error) {
	n, err := l.prune(ctx, retention)
	if err != nil {
		return n, fmt.Errorf("record: prune: %w", err)
	}
	return n, nil
}

func (l *Locker) prune(ctx context.Context, retention time.Duration) (n int, err error) {
	if retention == 0 {
		retention = DefaultRetention
	}
	if retention < time.Hour {
		return 0, fmt.Errorf("%w: retention is %v, want 0 or at least %v", lock.ErrInvalid, retention, time.Hour)
	}
	lister, lists := l.store.(Lister)
	deleter, deletes := l.store.(Deleter)
	if !lists || !deletes {
		return 0, fmt.Errorf("%w by this store", errors.ErrUnsupported)
	}
	ctx, done, err := l.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	var batch []Entry
	for e, err := range lister.List(ctx, l.opts.Names.Prefix) {
		if err != nil {
			return n, l.failed(ctx, err)
		}
		if l.prunable(e, retention) {
			batch = append(batch, e)
		}
		if len(batch) == pruneBatch {
			k, err := l.pruneBatch(ctx, deleter, batch)
			if n += k; err != nil {
				return n, err
			}
			batch = batch[:0]
		}
	}
	k, err := l.pruneBatch(ctx, deleter, batch)
	return n + k, err
}

// prunable reports whether a record is free, and has been for long. How long goes by the
// store's clock, or by the hint that its last writer left: no exclusion depends on it,
// since a free record may go at any time.
func (l *Locker) prunable(e Entry, retention time.Duration) bool {
	r := e.Record
	if e.Version == "" || r.Key == "" || r.TTL != 0 || r.Term == "" {
		return false // held, or internal
	}
	if e.Name != "" && e.Name != l.opts.Names.name(r.Key) {
		return false // of a Locker with a longer prefix
	}
	return max(e.Age, time.Since(r.Until)) > retention
}

// pruneBatch keeps the largest token first, and then deletes.
func (l *Locker) pruneBatch(ctx context.Context, deleter Deleter, batch []Entry) (n int, err error) {
	if len(batch) == 0 {
		return 0, nil
	}
	var largest uint64
	for _, e := range batch {
		largest = max(largest, e.Record.Token)
	}
	if err := l.keepToken(ctx, largest); err != nil {
		return 0, err
	}
	for _, e := range batch {
		bounded, cancel := context.WithTimeout(ctx, l.opts.Timeout)
		err := deleter.Delete(bounded, l.opts.Names.name(e.Record.Key), e.Version)
		cancel()
		switch {
		case err == nil:
			n++
		case !errors.Is(err, ErrChanged): // in use again
			return n, l.failed(ctx, err)
		}
	}
	return n, nil
}

// keepToken raises the kept token to at least this one.
func (l *Locker) keepToken(ctx context.Context, token uint64) error {
	name := l.opts.Names.internal("pruned")
	for range rewrites {
		e, err := l.get(ctx, name, internalKey)
		if err != nil {
			return err
		}
		if e.Record.Token >= token {
			return nil
		}
		r := Record{Key: internalKey, Token: token, Seq: e.Record.Seq + 1, Until: time.Now()}
		if _, err := l.put(ctx, name, r, e.Version); !errors.Is(err, ErrChanged) {
			return err
		}
	}
	return fmt.Errorf("%w: others changed the record %d times", lock.ErrUnavailable, rewrites)
}

// prunedToken is the largest token of all records that were pruned: the first hold of a
// key, whose past may have been, goes above it.
func (l *Locker) prunedToken(ctx context.Context) (uint64, error) {
	if _, deletes := l.store.(Deleter); !deletes {
		return 0, nil
	}
	e, err := l.get(ctx, l.opts.Names.internal("pruned"), internalKey)
	return e.Record.Token, err
}
