package kubernetes

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/kubetest"
	"github.com/tonsurance/lockkeeper/lock"
)

// specNow is a Lease's spec as the server has it.
func specNow(s *kubetest.Server, name string) map[string]any {
	o := s.Edit("default", name, nil)
	if o == nil {
		return nil
	}
	return o["spec"].(map[string]any)
}

// elector writes a Lease's spec as client-go does, and keeps all else.
func elector(s *kubetest.Server, name, holder string, seconds int, transitions int) {
	s.Edit("default", name, func(o map[string]any) {
		now := time.Now().UTC().Format(microTime)
		o["spec"] = map[string]any{"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": now, "acquireTime": now, "leaseTransitions": transitions}
	})
}

// used makes a Lease that is free.
func used(t *testing.T, l *Locker, key string) uint64 {
	t.Helper()
	lease, err := l.TryAcquire(t.Context(), key, time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
	return lease.Token()
}

// client-go sees whole seconds of renewTime, and counts from when it saw them change.
func TestEachRenewalChangesWhatClientGoSees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &kubetest.Server{}
		l := locker(t, s, nil)
		const ttl = 1500 * time.Millisecond
		lease, err := l.TryAcquire(t.Context(), "k", ttl)
		require.NoError(t, err)
		last := time.Time{}
		holder := specNow(s, "k")["holderIdentity"]
		for range 10 { // in some milliseconds
			spec := specNow(s, "k")
			renewed, err := time.Parse(time.RFC3339, spec["renewTime"].(string))
			require.NoError(t, err)
			require.Greater(t, renewed.Truncate(time.Second), last)
			last = renewed.Truncate(time.Second)
			require.Equal(t, "2", spec["leaseDurationSeconds"].(interface{ String() string }).String(), "rounded up")
			require.Equal(t, holder, spec["holderIdentity"])
			require.NoError(t, lease.Extend(t.Context(), ttl))
		}
		require.NoError(t, lease.Release(t.Context()))
		require.Empty(t, specNow(s, "k")["holderIdentity"])
	})
}

func TestWhatOthersKeepInALeaseStays(t *testing.T) {
	s := &kubetest.Server{}
	l := locker(t, s, nil)
	used(t, l, "k")
	s.Edit("default", "k", func(o map[string]any) {
		meta := o["metadata"].(map[string]any)
		meta["labels"] = map[string]any{"team": "oracle"}
		meta["annotations"].(map[string]any)["note"] = "keep"
		meta["ownerReferences"] = []any{map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "1", "generation": 1 << 60}}
		o["spec"].(map[string]any)["strategy"] = "OldestEmulationVersion"
	})
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Extend(t.Context(), time.Minute))
	require.NoError(t, lease.Release(t.Context()))
	o := s.Edit("default", "k", nil)
	meta := o["metadata"].(map[string]any)
	require.Equal(t, map[string]any{"team": "oracle"}, meta["labels"])
	require.Equal(t, "keep", meta["annotations"].(map[string]any)["note"])
	require.Len(t, meta["ownerReferences"], 1)
	require.Equal(t, "OldestEmulationVersion", o["spec"].(map[string]any)["strategy"])
}

func TestAnOperatorsEditCounts(t *testing.T) {
	for name, c := range map[string]struct {
		holder string
		held   bool
	}{"the holder is cleared": {"", false}, "another is written": {"maintenance", true}} {
		t.Run(name, func(t *testing.T) {
			s := &kubetest.Server{}
			l, other := locker(t, s, nil), locker(t, s, nil)
			lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
			require.NoError(t, err)
			s.Edit("default", "k", func(o map[string]any) { o["spec"].(map[string]any)["holderIdentity"] = c.holder })
			require.ErrorIs(t, lease.Extend(t.Context(), time.Minute), lock.ErrLost)
			next, err := other.TryAcquire(t.Context(), "k", time.Minute)
			if !c.held {
				require.NoError(t, err)
				require.Greater(t, next.Token(), lease.Token())
				return
			}
			held, ok := errors.AsType[*lock.HeldError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, c.holder, held.Holder)
		})
	}
}

func TestAHolderWithoutADurationIsNobodysToJudge(t *testing.T) {
	s := &kubetest.Server{}
	l := locker(t, s, nil)
	used(t, l, "k")
	s.Edit("default", "k", func(o map[string]any) { o["spec"] = map[string]any{"holderIdentity": "x"} })
	_, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "no leaseDurationSeconds")
}

func TestTheQueueBehindAnElectorLeavesItsSpecAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &kubetest.Server{}
		l, waiter := locker(t, s, nil), locker(t, s, nil)
		last := used(t, l, "k")
		elector(s, "k", "theirs", 15, 7)
		spec := specNow(s, "k")
		got := make(chan lock.Lease, 1)
		go func() {
			lease, err := lock.Acquire(t.Context(), waiter, "k", time.Minute, nil)
			if err == nil {
				got <- lease
			}
		}()
		for range 20 { // it lives: each renewal is seen, and none of ours counts as one
			time.Sleep(10 * time.Second)
			elector(s, "k", "theirs", 15, 7)
		}
		require.Empty(t, got)
		e, err := l.inspect(t.Context(), "k")
		require.NoError(t, err)
		require.Len(t, e.Record.Queue, 1)
		delete(spec, "renewTime")
		now := specNow(s, "k")
		delete(now, "renewTime")
		delete(spec, "acquireTime")
		delete(now, "acquireTime")
		require.Equal(t, spec, now)
		// Its release: as client-go leaves a Lease. Who waits is notified at once.
		elector(s, "k", "", 1, 7)
		begin := time.Now()
		lease := <-got
		require.Less(t, time.Since(begin), time.Second)
		require.Greater(t, lease.Token(), last)
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestAnElectorThatDiesIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &kubetest.Server{}
		l := locker(t, s, nil)
		used(t, l, "k")
		elector(s, "k", "theirs", 15, 7)
		begin := time.Now()
		for range 5 { // they wait, leave and come again: no sign of life of the holder
			waiter := locker(t, s, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			_, err := lock.Acquire(ctx, waiter, "k", time.Minute, nil)
			cancel()
			require.Error(t, err)
			_, err = l.TryAcquire(t.Context(), "k", time.Minute)
			require.ErrorIs(t, err, lock.ErrHeld)
		}
		lease, err := lock.Acquire(t.Context(), l, "k", time.Minute, nil)
		require.NoError(t, err)
		require.WithinRange(t, time.Now(), begin.Add(15*time.Second), begin.Add(18*time.Second))
		require.NoError(t, lease.Release(t.Context()))
	})
}

// A Lease that client-go has made, with a name that it chose, is a key of ours.
func TestALeaseOfOthersIsTakenInTurnAndListedAndNeverPruned(t *testing.T) {
	s := &kubetest.Server{}
	l := locker(t, s, nil)
	used(t, l, "made-by-ours") // an unmarked Lease, as others make them
	s.Edit("default", "made-by-ours", func(o map[string]any) { o["metadata"].(map[string]any)["labels"] = nil })
	elector(s, "made-by-ours", "theirs", 15, 3)
	var keys []string
	for info, err := range l.List(t.Context(), "") {
		require.NoError(t, err)
		keys = append(keys, info.Key+" "+info.Holder)
	}
	require.Equal(t, []string{"made-by-ours theirs"}, keys)
	require.NoError(t, l.ForceRelease(t.Context(), "made-by-ours", 0))
	used(t, l, "made-by-ours")
	e, err := l.inspect(t.Context(), "made-by-ours")
	require.NoError(t, err)
	require.Error(t, l.store.Delete(t.Context(), "made-by-ours", e.Version), "it was made by others")
	require.NotNil(t, specNow(s, "made-by-ours"))
}

func TestEveryUpdateNamesTheUIDAndTheVersion(t *testing.T) {
	s := &kubetest.Server{}
	l := locker(t, s, nil)
	updates := 0
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			updates++
			body, err := io.ReadAll(r.Body)
			if err != nil || !strings.Contains(string(body), `"uid":"`) || !strings.Contains(string(body), `"resourceVersion":"`) {
				t.Errorf("an update without a precondition: %s", body)
			}
			r.Body = io.NopCloser(strings.NewReader(string(body)))
		}
		return false
	})
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	s.Remove("default", "k")
	require.ErrorIs(t, lease.Extend(t.Context(), time.Minute), lock.ErrLost)
	require.Nil(t, specNow(s, "k"), "an update brought a deleted Lease back")
	require.Positive(t, updates)
}

func TestARecordThatCanNotBeReadIsNotWrittenOver(t *testing.T) {
	s := &kubetest.Server{}
	l := locker(t, s, nil)
	used(t, l, "k")
	for _, text := range []string{"", "{}", `{"v":99,"key":"k"}`} {
		s.Edit("default", "k", func(o map[string]any) {
			o["metadata"].(map[string]any)["annotations"].(map[string]any)[annotation] = text
		})
		_, err := l.TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrUnavailable, text)
		for range l.List(t.Context(), "") {
			t.Error("it is listed")
		}
	}
}

// The clocks of the servers, and only with ClockSkew.
func TestAProgramThatRunsOnceTakesOverByTheServersClock(t *testing.T) {
	for name, c := range map[string]struct {
		skew, ahead time.Duration
		after       time.Duration // a program in each second: the first that gets it
	}{
		"not known":                         {0, 0, 0},
		"one clock":                         {time.Millisecond, 0, 32 * time.Second},
		"the reader is ahead by all of it":  {10 * time.Second, 10 * time.Second, 32 * time.Second},
		"the reader is behind by all of it": {10 * time.Second, -10 * time.Second, 52 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &kubetest.Server{}
				o := &Options{ClockSkew: c.skew}
				_, err := locker(t, s, o).TryAcquire(t.Context(), "k", 30*time.Second)
				require.NoError(t, err)
				begin := time.Now()
				s.SetClock(c.ahead) // another server answers
				for time.Since(begin) < 2*time.Minute {
					time.Sleep(time.Second)
					_, err := locker(t, s, o).TryAcquire(t.Context(), "k", 30*time.Second)
					if err == nil {
						break
					}
					require.ErrorIs(t, err, lock.ErrHeld)
				}
				since := time.Since(begin)
				require.Greater(t, since, 30*time.Second, "two holders")
				if c.after == 0 {
					require.GreaterOrEqual(t, since, 2*time.Minute, "nothing says that the holder is dead")
				} else {
					require.InDelta(t, c.after.Seconds(), since.Seconds(), 2.5)
				}
			})
		})
	}
}
