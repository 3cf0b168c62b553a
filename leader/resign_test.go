package leader_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// terms are who has led, in order, with the causes of their contexts' ends.
type terms struct {
	mu   sync.Mutex
	who  []string
	ends []error
}

func (o *terms) fn(who string, drain time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		o.mu.Lock()
		o.who = append(o.who, who)
		o.mu.Unlock()
		<-ctx.Done()
		time.Sleep(drain)
		o.mu.Lock()
		o.ends = append(o.ends, context.Cause(ctx))
		o.mu.Unlock()
		return ctx.Err()
	}
}

func (o *terms) leaders() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string{}, o.who...)
}

// failsAt can't tell who has one key.
type failsAt struct {
	*memory.Locker
	key string
}

func (f failsAt) Inspect(ctx context.Context, key string) (lock.Info, error) {
	if key == f.key {
		return lock.Info{}, lock.ErrUnavailable
	}
	return f.Locker.Inspect(ctx, key)
}

func TestResign(t *testing.T) {
	bubble(t, "AnotherCopyLeadsThenAndThisOneStandsBy", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store, o := memory.New(), &terms{}
		electors := map[string]*leader.Elector{}
		var wg sync.WaitGroup
		for _, who := range []string{"a", "b"} {
			electors[who] = leader.New(store.Client(who), key, options())
			wg.Go(func() { _ = electors[who].Run(ctx, o.fn(who, 2*time.Second)) })
			synctest.Wait()
		}
		require.False(t, electors["b"].Resign(), "it stands by")
		require.True(t, electors["a"].Resign())
		require.False(t, electors["a"].Resign(), "once")
		require.Equal(t, leader.Draining, electors["a"].Status().State)
		require.False(t, electors["a"].IsLeader())
		time.Sleep(time.Second)
		require.Equal(t, "a", held(t, store), "its lease is held while fn winds down")
		require.Equal(t, []string{"a"}, o.leaders())
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"a", "b"}, o.leaders())
		require.ErrorIs(t, o.ends[0], leader.ErrResigned)
		time.Sleep(time.Minute)
		require.Equal(t, leader.StandingBy, electors["a"].Status().State)
		require.True(t, electors["b"].Resign())
		time.Sleep(time.Minute)
		require.Equal(t, []string{"a", "b", "a"}, o.leaders())
		cancel()
		wg.Wait()
	})

	bubble(t, "ALoneCopyLeadsAgainAfterABoundedTime", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o := &terms{}
		e := leader.New(memory.New(), key, options())
		r := make(chan error, 1)
		go func() { r <- e.Run(ctx, o.fn("a", 0)) }()
		synctest.Wait()
		require.True(t, e.Resign())
		time.Sleep(time.Second)
		require.Equal(t, []string{"a"}, o.leaders(), "it lets others lead first")
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"a", "a"}, o.leaders())
		cancel()
		require.ErrorIs(t, <-r, context.Canceled)
	})

	bubble(t, "WithOnceItEndsRun", func(t *testing.T) {
		opts := options()
		opts.Once = true
		e := leader.New(memory.New(), key, opts)
		failed := errors.New("failed while it wound down")
		r := make(chan error, 1)
		go func() {
			r <- e.Run(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return failed })
		}()
		synctest.Wait()
		require.True(t, e.Resign())
		require.Equal(t, failed, <-r)
	})

	bubble(t, "CtxThatEndsWhileItStandsAsideEndsRun", func(t *testing.T) {
		stop := errors.New("stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		e := leader.New(memory.New(), key, options())
		r := make(chan error, 1)
		go func() { r <- e.Run(ctx, untilDone) }()
		synctest.Wait()
		require.True(t, e.Resign())
		time.Sleep(time.Second)
		cancel(stop)
		require.Equal(t, stop, <-r)
	})
}

func TestRequestResign(t *testing.T) {
	bubble(t, "TheLeaderEndsItsTermAtTheNextRenewal", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store, o := memory.New(), &terms{}
		app := func(who string) lock.Locker { return lock.Prefix(store.Client(who), "app:") }
		var wg sync.WaitGroup
		for _, who := range []string{"a", "b"} {
			wg.Go(func() { _ = leader.Run(ctx, app(who), key, o.fn(who, 0), options()) })
			synctest.Wait()
		}
		time.Sleep(time.Hour + time.Second) // not when a looks: the second request is to find the first one
		term, err := leader.RequestResign(ctx, app("operator"), key)
		require.NoError(t, err)
		require.Equal(t, "a", term.Holder)
		_, err = leader.RequestResign(ctx, app("another"), key)
		require.NoError(t, err, "a second request is the same one")
		time.Sleep(ttl)
		require.Equal(t, []string{"a", "b"}, o.leaders())
		time.Sleep(time.Hour)
		require.Equal(t, []string{"a", "b"}, o.leaders(), "it does not meet the next leader")
		cancel()
		wg.Wait()
	})

	for name, of := range map[string]func(l lock.Locker) lock.Locker{
		"Semaphore":           func(l lock.Locker) lock.Locker { return lock.Semaphore(l, 4) },
		"PrefixOfSemaphore":   func(l lock.Locker) lock.Locker { return lock.Prefix(lock.Semaphore(l, 4), "app:") },
		"SemaphoreOfPrefix":   func(l lock.Locker) lock.Locker { return lock.Semaphore(lock.Prefix(l, "app:"), 4) },
		"SemaphoreOfSlots":    func(l lock.Locker) lock.Locker { return lock.Semaphore(lock.Semaphore(l, 2), 2) },
		"ObservedSemaphore":   func(l lock.Locker) lock.Locker { return lock.Observe(lock.Semaphore(l, 4), func(lock.Event) {}) },
		"SemaphoreOfTwoBelow": func(l lock.Locker) lock.Locker { return lock.Semaphore(lock.Both(l, memory.New()), 4) },
	} {
		bubble(t, name+"AsksTheLeadersOfAllSlotsAlsoWhileOthersAreFree", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			store, o := memory.New(), &terms{}
			l := of(store) // of "SemaphoreOfTwoBelow" all share the second store
			var wg sync.WaitGroup
			for _, who := range []string{"a", "b"} {
				opts := options()
				opts.Once = true
				wg.Go(func() { _ = leader.Run(ctx, l, key, o.fn(who, 0), opts) })
				synctest.Wait()
			}
			time.Sleep(time.Second)
			require.Len(t, o.leaders(), 2, "both lead, of four at most")
			term, err := leader.RequestResign(ctx, l, key)
			require.NoError(t, err)
			require.NotEmpty(t, term.Holder)
			time.Sleep(ttl)
			synctest.Wait()
			require.Equal(t, []error{leader.ErrResigned, leader.ErrResigned}, o.ends)
			wg.Wait()
			_, err = leader.RequestResign(ctx, l, key)
			require.ErrorIs(t, err, leader.ErrNobodyLeads)
			cancel()
		})
	}

	bubble(t, "ASlotsNameAsksItsLeaderAlone", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store, o := memory.New(), &terms{}
		l := lock.Semaphore(store, 3)
		var wg sync.WaitGroup
		for range 3 {
			opts := options()
			opts.Once = true
			wg.Go(func() { _ = leader.Run(ctx, l, key, o.fn("one", 0), opts) })
		}
		time.Sleep(time.Second)
		require.Len(t, o.leaders(), 3)
		term, err := leader.RequestResign(ctx, store, key+";slot=2")
		require.NoError(t, err)
		require.Equal(t, key+";slot=2", term.Key)
		time.Sleep(ttl)
		synctest.Wait()
		require.Equal(t, []error{leader.ErrResigned}, o.ends)
		cancel()
		wg.Wait()
	})

	bubble(t, "ASlotThatCanNotBeAskedKeepsNoOtherFromBeingAsked", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store, o := memory.New(), &terms{}
		var wg sync.WaitGroup
		for _, slot := range []string{"", ";slot=2", ";slot=3"} {
			opts := options()
			opts.Once = true
			wg.Go(func() { _ = leader.Run(ctx, store, key+slot, o.fn(slot, 0), opts) })
		}
		time.Sleep(time.Second)
		require.Len(t, o.leaders(), 3)
		_, err := leader.RequestResign(ctx, lock.Semaphore(failsAt{store, key}, 3), key)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		time.Sleep(ttl)
		synctest.Wait()
		require.Equal(t, []error{leader.ErrResigned, leader.ErrResigned}, o.ends)
		cancel()
		wg.Wait()
	})

	bubble(t, "NobodyLeads", func(t *testing.T) {
		_, err := leader.RequestResign(t.Context(), memory.New(), key)
		require.ErrorIs(t, err, leader.ErrNobodyLeads)
		_, err = leader.RequestResign(t.Context(), lock.Semaphore(memory.New(), 3), key)
		require.ErrorIs(t, err, leader.ErrNobodyLeads)
		for _, n := range []int{0, lock.MaxSlots + 1} {
			_, err = leader.RequestResign(t.Context(), lock.Semaphore(memory.New(), n), key)
			require.ErrorIs(t, err, lock.ErrInvalid)
		}
		_, err = leader.RequestResign(t.Context(), nil, key)
		require.ErrorIs(t, err, lock.ErrInvalid)
		_, err = leader.RequestResign(t.Context(), struct{ lock.Locker }{memory.New()}, key)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	})
}
