package records

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
)

// server is the store and its clock.
type server struct {
	store *recordtest.Memory
	ages  bool

	mu   sync.Mutex // guards all below
	rate float64    // of its clock
	run  time.Time  // since when ages count: after a restart they are not known
	down bool
	late sync.WaitGroup // requests that nobody waits for
}

// link is a client's way to the server, and its clock: for a client whose clock runs at
// rate, every duration of the world is that many times as long. So what is read is
// divided by the rate, what is written multiplied, and the engine in between runs at the
// true one.
type link struct {
	s      *server
	w      *world
	rng    *rand.Rand
	rate   float64
	pushes bool

	mu      sync.Mutex // guards all below, and rng
	cut     bool
	stale   time.Duration
	watches map[*pushed]struct{}
}

var errReset = errors.New("connection reset")

// fate is what happens to one request.
type fate struct {
	there, back       time.Duration
	lost, mute, twice bool // on its way there; its reply; sent twice
	conflict          bool // refused for nothing
	down              bool
	stale             time.Duration
}

func (k *link) draw(put bool) fate {
	k.s.mu.Lock()
	down := k.s.down
	k.s.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.w.profile
	some := func(most time.Duration) time.Duration { return time.Duration(k.rng.Int64N(int64(most) + 1)) }
	f := fate{there: some(k.w.ttl / 400), back: some(k.w.ttl / 400), down: down || k.cut, stale: k.stale}
	switch n := k.rng.IntN(100); {
	case n < 3:
		f.lost = true
	case n < 6:
		f.mute = true
	case n < 10: // late: it arrives although its caller has given up
		f.there += some(2 * k.w.ttl)
	case n < 12:
		f.back += some(k.w.ttl)
	case n < 14:
		f.twice = put
	case n < 16:
		f.conflict = put && p.Conflicts
	}
	return f
}

// trip sends one request. silent requests end with their ctx only.
func trip[T any](ctx context.Context, k *link, put bool, do func(f fate) (T, error)) (T, error) {
	var none T
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	f := k.draw(put)
	k.w.run.Count("requests", 1)
	if f.down || f.lost {
		k.w.run.Count("requests lost", 1)
		select {
		case <-time.After(f.there + f.back):
			return none, errReset
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
	type reply struct {
		v   T
		err error
	}
	replies := make(chan reply, 1)
	k.s.late.Go(func() {
		time.Sleep(f.there)
		if f.twice {
			_, _ = do(f)
		}
		v, err := do(f)
		time.Sleep(f.back)
		if !f.mute {
			replies <- reply{v, err}
		}
	})
	select {
	case r := <-replies:
		return r.v, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-time.After(k.w.ttl / 2): // the driver's own timeout
		return none, errReset
	}
}

// local is a state as this client's clock has it.
func (k *link) local(e record.Entry) record.Entry {
	k.s.mu.Lock()
	age := time.Duration(float64(min(e.Age, time.Since(k.s.run))) * k.s.rate)
	k.s.mu.Unlock()
	if !k.s.ages {
		age = 0
	}
	e.Age = scale(age, 1/k.rate)
	e.Record.TTL = scale(e.Record.TTL, 1/k.rate)
	return e
}

func scale(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

func (k *link) Get(ctx context.Context, name string) (record.Entry, error) {
	return trip(ctx, k, false, func(f fate) (record.Entry, error) {
		e, err := k.s.store.GetOld(context.Background(), name, f.stale)
		return k.local(e), err
	})
}

func (k *link) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	if r.TTL > 0 {
		r.TTL = max(scale(r.TTL, k.rate), 1)
	}
	return trip(ctx, k, true, func(f fate) (string, error) {
		if f.conflict {
			return "", record.ErrChanged
		}
		return k.s.store.Put(context.Background(), name, r, version)
	})
}

func (k *link) Delete(ctx context.Context, name, version string) error {
	_, err := trip(ctx, k, true, func(f fate) (struct{}, error) {
		return struct{}{}, k.s.store.Delete(context.Background(), name, version)
	})
	return err
}

func (k *link) List(ctx context.Context, prefix string) iter.Seq2[record.Entry, error] {
	return func(yield func(record.Entry, error) bool) {
		for e, err := range k.s.store.List(ctx, prefix) {
			if !yield(k.local(e), err) {
				return
			}
		}
	}
}

// pushed is one watch of a link that pushes.
type pushed struct{ changed func(*record.Entry) }

// pushing is a link with notifications, which come late, or not at all while it is cut.
type pushing struct{ *link }

func (k pushing) Watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	stop, err := k.s.store.Watch(ctx, name, func(e *record.Entry) {
		f := k.draw(false)
		if f.down || f.lost {
			return
		}
		local := k.local(*e)
		local.Age = 0
		k.s.late.Go(func() {
			time.Sleep(f.there)
			changed(&local)
		})
	})
	if err != nil {
		return nil, err
	}
	p := &pushed{changed}
	k.mu.Lock()
	k.watches[p] = struct{}{}
	k.mu.Unlock()
	return func() {
		stop()
		k.mu.Lock()
		delete(k.watches, p)
		k.mu.Unlock()
	}, nil
}

// setCut cuts the link, or mends it, and then says that notifications were missed.
func (k *link) setCut(cut bool) {
	k.mu.Lock()
	k.cut = cut
	var watches []*pushed
	for p := range k.watches {
		watches = append(watches, p)
	}
	k.mu.Unlock()
	for _, p := range watches {
		p.changed(nil)
	}
}

func (k *link) setStale(lag time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stale = lag
}
