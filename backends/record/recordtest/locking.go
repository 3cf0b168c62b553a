package recordtest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// Locks says how package locktest reaches a store through the engine.
type Locks struct {
	// Open makes a new store, or names a part of a shared one that nobody else uses, and
	// returns what opens one more client of it.
	Open func(t *testing.T) (dial func(t *testing.T) record.Store)

	// Options are the engine's. nil means its defaults.
	Options *record.Options

	// TTL, IgnoreGoroutine and AllowSkips are those of locktest.Harness.
	TTL             time.Duration
	IgnoreGoroutine func(stack string) bool
	AllowSkips      []string

	// Wrap is for stores on fake time, as that of locktest.Harness; Skew too.
	Wrap func(t *testing.T, run func(t *testing.T))
	Skew func(t *testing.T, s record.Store, d time.Duration)

	// Late has delayed requests arrive late, instead of their replies.
	Late bool
	// Silent has a lost reply mean silence, instead of a connection that breaks.
	Silent bool
	// Delete has Break delete the record, instead of freeing it. The store must be a
	// record.Deleter.
	Delete bool
	// Keeps says that the store is no record.Deleter: what happens after a deletion is not
	// shown, and "Delete" must be in AllowSkips.
	Keeps bool
	// Prepare sets other faults on each client.
	Prepare func(f *Faults)
}

// Harness runs a store through all of locktest, on the engine, with the faults that
// [Faults] puts between them.
func (s Locks) Harness() locktest.Harness {
	names := record.Names{}
	if s.Options != nil {
		names = s.Options.Names
	}
	var mu sync.Mutex
	clients := map[lock.Locker]*lockClient{}
	of := func(l lock.Locker) *lockClient {
		mu.Lock()
		defer mu.Unlock()
		return clients[l]
	}
	open := func(t *testing.T, dial func(t *testing.T) record.Store) lock.Locker {
		f := &Faults{Store: dial(t)}
		if s.Prepare != nil {
			s.Prepare(f)
		}
		l, err := record.New(f.Client(), s.Options)
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		clients[l] = &lockClient{f, dial}
		mu.Unlock()
		t.Cleanup(func() {
			if err := l.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			f.Drain()
			mu.Lock()
			delete(clients, l)
			mu.Unlock()
		})
		return l
	}
	h := locktest.Harness{
		Wrap: s.Wrap, TTL: s.TTL, IgnoreGoroutine: s.IgnoreGoroutine, AllowSkips: s.AllowSkips,
		New:       func(t *testing.T) lock.Locker { return open(t, s.Open(t)) },
		Peer:      func(t *testing.T, l lock.Locker) lock.Locker { return open(t, of(l).dial) },
		Delay:     func(_ *testing.T, l lock.Locker, d time.Duration) { of(l).faults.Delay(d, s.Late) },
		LoseReply: func(_ *testing.T, l lock.Locker) { of(l).faults.LoseReply(s.Silent) },
		Outage:    func(_ *testing.T, l lock.Locker, on bool) { of(l).faults.Outage(on) },
		Kill:      func(_ *testing.T, l lock.Locker) { of(l).faults.Outage(true) },
		Break: func(t *testing.T, l lock.Locker, key string) {
			breakHold(t, of(l).faults.Store, Name(t, names, key), s.Delete)
		},
	}
	if h.AllowSkips != nil { // no store of the engine queues by itself, or starts extends
		h.AllowSkips = append(slices.Clip(h.AllowSkips), "Awaiter", "ExtendStarter")
	}
	h.Cut = func(_ *testing.T, l lock.Locker, n int) func() bool { return of(l).faults.CutAt(n, true) }
	h.Repeat = func(_ *testing.T, l lock.Locker, on bool) { of(l).faults.Double(on) }
	h.Conflict = func(_ *testing.T, l lock.Locker) { of(l).faults.Conflict() }
	h.StaleReads = func(_ *testing.T, l lock.Locker, on bool) { of(l).faults.Freeze(on) }
	if !s.Keeps {
		h.Delete = func(t *testing.T, l lock.Locker, key string) {
			breakHold(t, of(l).faults.Store, Name(t, names, key), true)
		}
	}
	if s.Skew != nil {
		h.Skew = func(t *testing.T, l lock.Locker, d time.Duration) { s.Skew(t, of(l).faults.Store, d) }
	}
	return h
}

type lockClient struct {
	faults *Faults
	dial   func(t *testing.T) record.Store
}

// breakHold takes a hold away without its holder.
func breakHold(t *testing.T, s record.Store, name string, remove bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		e, err := s.Get(ctx, name)
		if err != nil {
			t.Fatalf("Get: %v", err)
		}
		if e.Version == "" {
			return
		}
		if remove {
			err = s.(record.Deleter).Delete(ctx, name, e.Version)
		} else {
			e.Record.TTL = 0
			e.Record.Seq++
			e.Record.Beat = e.Record.Seq
			_, err = s.Put(ctx, name, e.Record, e.Version)
		}
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("breaking a hold: %v", err)
		}
	}
}

// Name is the name that a Locker with these Names gives to key.
func Name(t *testing.T, names record.Names, key string) string {
	t.Helper()
	name, err := names.Name(key)
	if err != nil {
		t.Fatal(err)
	}
	return name
}
