package lock

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// As is in place of Unwrap: nothing of one store alone is true of both.
func (b *both) As(target any) bool {
	switch t := target.(type) {
	case *Watcher:
		return ofBoth(b, t, func(old, next Watcher) Watcher { return bothWatcher{old, next} })
	case *Inspector:
		return ofBoth(b, t, func(old, next Inspector) Inspector { return bothInspector{old, next} })
	case *ForceReleaser:
		return ofBoth(b, t, func(old, next ForceReleaser) ForceReleaser { return bothForceReleaser{old, next} })
	case *HealthChecker:
		return ofBoth(b, t, func(old, next HealthChecker) HealthChecker { return bothHealthChecker{old, next} })
	case *MaxReleaseAfterer:
		return ofBoth(b, t, func(old, next MaxReleaseAfterer) MaxReleaseAfterer { return bothMaxReleaseAfterer{old, next} })
	}
	return false
}

// ofBoth sets target to what combine makes of what both stores have.
func ofBoth[T any](b *both, target *T, combine func(old, next T) T) bool {
	old, ok := As[T](b.old)
	if !ok {
		return false
	}
	next, ok := As[T](b.next)
	if ok {
		*target = combine(old, next)
	}
	return ok
}

type bothWatcher struct{ old, next Watcher }

func (w bothWatcher) Watch(ctx context.Context, key string, wake chan<- struct{}) (func(), error) {
	stopOld, err := w.old.Watch(ctx, key, wake)
	if err != nil {
		return nil, err
	}
	stopNext, err := w.next.Watch(ctx, key, wake)
	if err != nil {
		stopOld()
		return nil, err
	}
	return func() { stopOld(); stopNext() }, nil
}

type bothInspector struct{ old, next Inspector }

func (i bothInspector) Inspect(ctx context.Context, key string) (Info, error) {
	next, err := i.next.Inspect(ctx, key)
	if err != nil {
		return Info{}, err
	}
	old, err := i.old.Inspect(ctx, key)
	if err != nil {
		return Info{}, err
	}
	return together(old, next), nil
}

// together is what two stores know of one key. A waiter stands in one queue at a time, first
// in old's.
func together(old, next Info) Info {
	info := next // the holder of old may be another, who waits for next
	switch {
	case next.Holder == "":
		info = old
	case old.Holder == "" || old.Token != next.Token:
	case next.TTL == -1 || old.TTL != -1 && old.TTL < next.TTL:
		info.TTL = old.TTL // it ends when the first of them does
	}
	info.Waiting = old.Waiting + next.Waiting
	return info
}

// List yields what next has, and then what old has alone. What is in both is inspected in
// old as well, to know when it ends.
func (i bothInspector) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		inOld := map[string]Info{}
		for info, err := range i.old.List(ctx, prefix) {
			if err != nil {
				yield(Info{}, err)
				return
			}
			inOld[info.Key] = info
		}
		for next, err := range i.next.List(ctx, prefix) {
			if err != nil {
				yield(Info{}, err)
				return
			}
			if old, ok := inOld[next.Key]; ok {
				delete(inOld, next.Key)
				next = together(old, next)
			}
			if !yield(next, nil) {
				return
			}
		}
		for _, old := range inOld {
			if !yield(old, nil) {
				return
			}
		}
	}
}

type bothForceReleaser struct{ old, next ForceReleaser }

// ForceRelease breaks the term in both stores, also if one of them fails.
func (f bothForceReleaser) ForceRelease(ctx context.Context, key string, token uint64) error {
	next := f.next.ForceRelease(ctx, key, token)
	old := f.old.ForceRelease(ctx, key, token)
	for _, err := range []error{next, old} {
		if err != nil && !errors.Is(err, ErrHeld) {
			return fmt.Errorf("lock: force release %q (token %d) in both stores: %w", key, token, also(next, old))
		}
	}
	if next != nil { // another term holds it
		return next
	}
	return old
}

type bothHealthChecker struct{ old, next HealthChecker }

// Health has the nodes of both. The quorum is the sum of theirs while each has its own;
// else it is more than vote now.
func (h bothHealthChecker) Health(ctx context.Context) (Health, error) {
	old, err := h.old.Health(ctx)
	if err != nil {
		return Health{}, err
	}
	next, err := h.next.Health(ctx)
	if err != nil {
		return Health{}, err
	}
	all := Health{Quorum: old.Quorum + next.Quorum}
	for _, of := range []struct {
		name   string
		health Health
	}{{"old", old}, {"new", next}} {
		for _, n := range of.health.Nodes {
			n.Facts = append([]Fact{{Name: "store", Value: of.name}}, n.Facts...)
			all.Nodes = append(all.Nodes, n)
		}
	}
	if !old.HasQuorum() || !next.HasQuorum() {
		missing := max(0, old.Quorum-old.Voting()) + max(0, next.Quorum-next.Voting())
		all.Quorum = max(all.Quorum, all.Voting()+max(1, missing))
	}
	return all, nil
}

type bothMaxReleaseAfterer struct{ old, next MaxReleaseAfterer }

func (m bothMaxReleaseAfterer) MaxReleaseAfter() time.Duration {
	return min(m.old.MaxReleaseAfter(), m.next.MaxReleaseAfter())
}
