package record_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
)

// settable is a store whose clock, which stamps records and tells their ages, can be set.
type settable struct {
	record.Store
	ahead  atomic.Int64
	stamps sync.Map    // by how much the clock was ahead when a name was put
	other  atomic.Bool // another clock stamped what is there, as after a restart: no age is known
}

func (s *settable) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	stamp := s.ahead.Load()
	v, err := s.Store.Put(ctx, name, r, version)
	if err == nil {
		s.stamps.Store(name, stamp)
	}
	return v, err
}

func (s *settable) Get(ctx context.Context, name string) (record.Entry, error) {
	e, err := s.Store.Get(ctx, name)
	ahead := s.ahead.Load()
	e.Time = e.Time.Add(time.Duration(ahead))
	if stamp, ok := s.stamps.Load(name); ok {
		e.Age += time.Duration(ahead - stamp.(int64))
	}
	if s.other.Load() {
		e.Age = 0
	}
	return e, err
}

func TestAClockThatIsSetForwardEndsNoHoldForWhoHasSeenIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		slow  time.Duration // of the way back of a reply before the clock is set
		ahead time.Duration
		other bool // what was seen before had no age
	}{
		{"by more than the ttl", 0, time.Minute, false},
		{"by less than the ttl", 0, 20 * time.Second, false},
		{"after a slow reply", 3 * time.Second, time.Minute, false},
		{"after a reply without an age", 0, time.Minute, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *recordtest.Memory) {
				s := &settable{Store: m.Client(true, false)}
				holder, p := over(t, s, nil), over(t, s, nil)
				began := time.Now()
				lease := take(t, holder, "k", 30*time.Second)
				holder.crash() // it holds until its expiry all the same
				p.faults.Delay(c.slow, false)
				s.other.Store(c.other)
				_, err := p.TryAcquire(t.Context(), "k", time.Second)
				require.ErrorIs(t, err, lock.ErrHeld)
				p.faults.Delay(0, false)
				s.other.Store(false)

				s.ahead.Store(int64(c.ahead))
				granted, err := lock.Acquire(t.Context(), p, "k", time.Second, nil)
				require.NoError(t, err)
				require.False(t, time.Now().Before(lease.Expiry()), "two holders")
				require.Less(t, time.Since(began), 40*time.Second, "by its own clock it knows")
				require.Greater(t, granted.Token(), lease.Token())
			})
		})
	}
}

// What two clocks may part by in the time since the last reply is no licence to end a hold earlier by
// as much: here that time is nearly a ttl longer than the hold has stood.
func TestAClockThatIsSetForwardAfterARenewalEndsNoHoldEarly(t *testing.T) {
	for _, ahead := range []time.Duration{3 * time.Second, time.Minute, time.Hour} {
		bubble(t, func(t *testing.T, m *recordtest.Memory) {
			s := &settable{Store: m.Client(true, false)}
			holder, p := over(t, s, nil), over(t, s, nil)
			lease := take(t, holder, "k", 30*time.Second)
			_, err := p.TryAcquire(t.Context(), "k", time.Second)
			require.ErrorIs(t, err, lock.ErrHeld)
			time.Sleep(25 * time.Second)
			require.NoError(t, lease.Extend(t.Context(), 30*time.Second))
			renewed := time.Now()
			holder.crash() // it holds until its expiry all the same
			s.ahead.Store(int64(ahead))
			_, err = lock.Acquire(t.Context(), p, "k", time.Second, nil)
			require.NoError(t, err)
			require.False(t, time.Now().Before(lease.Expiry()), "two holders")
			require.Less(t, time.Since(renewed), 32*time.Second)
		})
	}
}

func TestAStoresClockThatRunsFastByWhatClocksMayCostsNoTime(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		s := &settable{Store: m.Client(true, false)}
		holder, p := over(t, s, nil), over(t, s, nil)
		used(t, holder, "other")
		for i := range 100 { // 2 % in all
			s.ahead.Store(int64(time.Duration(i) * 20 * time.Millisecond))
			_, err := p.Inspect(t.Context(), "other")
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		take(t, holder, "k", 10*time.Second)
		holder.crash()
		time.Sleep(10200 * time.Millisecond)
		take(t, p, "k", time.Second) // at its first sight, by the store's age
	})
}
