package serve

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// DefaultInterval is the time between two questions who holds what.
	DefaultInterval = time.Second
	// LeastInterval is the shortest that may be given.
	LeastInterval = 100 * time.Millisecond

	healthInterval = 5 * time.Second // a health check is a real vote on each node
	healthTimeout  = 5 * time.Second
	locksTimeout   = time.Minute // a listing of many locks takes a while
	// restFactor keeps a store that is slow to list from being asked all the time: a
	// listing is followed by a pause of so many times what it took.
	restFactor = 3
	// redraw is how often what passes by itself, such as the time left, is shown anew.
	redraw = time.Second
	// keptEvents is how many events can be seen of what has happened.
	keptEvents = 500
)

// state is what is known at one moment. What is published never changes.
type state struct {
	read  bool // there was an answer who holds what
	locks []Lock
	totals
	err   error // why the last question had no answer
	since time.Time
	// partial is why some locks of the last answer could not be read.
	partial  error
	answered time.Time     // when the last answer came
	took     time.Duration // by the last question

	checked bool // there was an answer how the nodes are, or why there can be none
	health  Checkup

	events []Event // the latest first
	counts map[string]int
}

// totals are what follows from the locks.
type totals struct {
	groups        []group // by key
	held, waiting int
	queued        bool // who waits is known
}

func totalsOf(locks []Lock) totals {
	t := totals{groups: groupsOf(locks)}
	for _, g := range t.groups {
		for _, l := range g.holds() {
			if l.Holder != "" {
				t.held++
			}
			t.waiting += l.Waiting
			t.queued = t.queued || l.Queues
		}
	}
	return t
}

// left is until the hold ends unless renewed, or else the last value's of nobody's; -1:
// never.
func (l Lock) left(now time.Time) time.Duration {
	left := l.Left()
	if left < 0 {
		return -1
	}
	return max(0, left-now.Sub(l.Read))
}

// take is the state after an answer who holds what.
func (s state) take(r Reading, began, now time.Time) state {
	s.took = now.Sub(began)
	s.add(r.Events)
	if r.Err != nil {
		if s.err == nil {
			s.since = now
		}
		s.err = r.Err
		return s // what was known is shown as it was
	}
	s.locks = r.Locks
	s.totals = totalsOf(s.locks)
	s.read, s.err, s.partial, s.answered = true, nil, r.Partial, now
	return s
}

// check is the state after an answer how the nodes are.
func (s state) check(c Checkup) state {
	s.checked, s.health = true, c
	s.add(c.Events)
	return s
}

// add puts events in front. s has its own slice and map afterwards.
func (s *state) add(events []Event) {
	if len(events) == 0 {
		return
	}
	latest := slices.Clone(events)
	slices.Reverse(latest)
	s.events = append(latest, s.events...)
	s.events = slices.Clip(s.events[:min(len(s.events), keptEvents)])
	s.counts = maps.Clone(s.counts)
	if s.counts == nil {
		s.counts = map[string]int{}
	}
	for _, e := range events {
		s.counts[e.Kind]++
	}
}

// feed asks a source and publishes frames.
type feed struct {
	source   Source
	interval time.Duration

	mu  sync.Mutex // guards now
	now *frame
}

func newFeed(source Source, interval time.Duration) *feed {
	return &feed{source: source, interval: interval, now: newFrame(state{}, time.Now())}
}

// frame is the latest one.
func (f *feed) frame() *frame {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// publish makes a frame of the latest state as change leaves it, and wakes who waits for
// one.
func (f *feed) publish(change func(state, time.Time) state) {
	f.mu.Lock()
	last := f.now
	now := time.Now()
	f.now = newFrame(change(last.state, now), now)
	f.mu.Unlock()
	close(last.over)
}

// run asks until ctx ends, and returns when no question is under way any more.
func (f *feed) run(ctx context.Context) {
	var asking sync.WaitGroup
	asking.Go(func() {
		repeat(ctx, locksTimeout, func(ctx context.Context) (pause time.Duration) {
			began := time.Now()
			r := f.source.Locks(ctx)
			took := time.Since(began)
			f.publish(func(s state, now time.Time) state { return s.take(r, began, now) })
			return max(f.interval-took, restFactor*took)
		})
	})
	asking.Go(func() {
		repeat(ctx, healthTimeout, func(ctx context.Context) (pause time.Duration) {
			c := f.source.Health(ctx)
			f.publish(func(s state, _ time.Time) state { return s.check(c) })
			return max(f.interval, healthInterval)
		})
	})
	asking.Go(func() {
		ticker := time.NewTicker(redraw)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				f.publish(func(s state, _ time.Time) state { return s })
			case <-ctx.Done():
				return
			}
		}
	})
	asking.Wait()
}

// repeat asks at once, and again each time that the pause is over which a question asks
// for, until ctx ends.
func repeat(ctx context.Context, timeout time.Duration, question func(context.Context) (pause time.Duration)) {
	for ctx.Err() == nil {
		asking, cancel := context.WithTimeout(ctx, timeout)
		pause := question(asking)
		cancel()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}
