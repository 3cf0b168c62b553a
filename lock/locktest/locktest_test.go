package locktest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// reference is a harness with every hook, over a locker with one bug or none.
func reference(b bug) Harness {
	ref := func(l lock.Locker) *refLocker { return l.(*refLocker) }
	set := func(l lock.Locker, f func(l *refLocker)) {
		ref(l).mu.Lock()
		defer ref(l).mu.Unlock()
		f(ref(l))
	}
	return Harness{
		New: func(t *testing.T) lock.Locker {
			l := newRefLocker(newRefStore(b))
			t.Cleanup(func() { require.NoError(t, l.Close()) })
			return l
		},
		Wrap:      synctest.Test,
		Peer:      func(_ *testing.T, l lock.Locker) lock.Locker { return newRefLocker(ref(l).store) },
		Delay:     func(_ *testing.T, l lock.Locker, d time.Duration) { set(l, func(l *refLocker) { l.delay = d }) },
		LoseReply: func(_ *testing.T, l lock.Locker) { set(l, func(l *refLocker) { l.lose = true }) },
		Outage:    func(_ *testing.T, l lock.Locker, on bool) { set(l, func(l *refLocker) { l.outage = on }) },
		Break:     func(_ *testing.T, l lock.Locker, key string) { ref(l).store.remove(key, ref(l).id, "") },
		Kill: func(_ *testing.T, l lock.Locker) {
			set(l, func(l *refLocker) { l.closed, l.dead = true, true })
			ref(l).store.bury(ref(l).id)
		},
		Skew: func(_ *testing.T, l lock.Locker, d time.Duration) {
			ref(l).store.mu.Lock()
			defer ref(l).store.mu.Unlock()
			ref(l).store.skew = d
		},
		Cut: func(_ *testing.T, l lock.Locker, n int) func() bool {
			set(l, func(l *refLocker) { l.cut = n })
			return func() (hit bool) {
				set(l, func(l *refLocker) { hit, l.cut = l.cut == 0, 0 })
				return hit
			}
		},
		Repeat:     func(_ *testing.T, l lock.Locker, on bool) { set(l, func(l *refLocker) { l.repeat = on }) },
		Conflict:   func(_ *testing.T, l lock.Locker) { set(l, func(l *refLocker) { l.clash = true }) },
		StaleReads: func(_ *testing.T, l lock.Locker, on bool) { set(l, func(l *refLocker) { l.stale = on }) },
		Delete:     func(_ *testing.T, l lock.Locker, key string) { ref(l).store.forget(key) },
		AllowSkips: []string{},
	}
}

// cases has the harness keep what each case lacked, by the case's name.
func cases(h *Harness) map[string]string {
	all := map[string]string{}
	h.OnCase = func(name, missing string) { all[name] = missing }
	return all
}

func TestTheReferencePassesWithNothingSkipped(t *testing.T) {
	h := reference("")
	ran := cases(&h)
	Run(t, h)
	require.Contains(t, ran, "Expiry/TheWholeTTLIsHeld")
	n := 0
	for _, g := range groups {
		n += len(g.cases)
	}
	require.Len(t, ran, n)
	for name, missing := range ran {
		require.Empty(t, missing, name)
	}
}

func TestTheReferencePassesOnLiveTime(t *testing.T) {
	h := reference("")
	h.Wrap = nil
	h.TTL = 100 * time.Millisecond
	h.AllowSkips = []string{"Wrap"}
	ran := cases(&h)
	Run(t, h)
	require.Equal(t, "Wrap", ran["Expiry/TheWholeTTLIsHeld"])
	require.Empty(t, ran["Expiry/SlowSuccessDoesNotLengthenTheLease"])
}

// recorder takes a case's outcome in place of a *testing.T.
type recorder struct {
	mu      sync.Mutex // guards all below
	errors  []string
	skipped string
}

func (r *recorder) Helper()             {}
func (r *recorder) Logf(string, ...any) {}
func (r *recorder) FailNow()            { runtime.Goexit() }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.errors) > 0
}

func (r *recorder) Skipf(format string, args ...any) {
	r.mu.Lock()
	r.skipped = fmt.Sprintf(format, args...)
	r.mu.Unlock()
	runtime.Goexit()
}

// record runs one case in a bubble and returns its outcome.
func record(t *testing.T, h Harness, tc testCase) (r *recorder) {
	t.Helper()
	h, err := h.withDefaults()
	require.NoError(t, err)
	r = &recorder{}
	// A bubble whose goroutines outlive it panics: that is what a leak does.
	defer func() {
		if p := recover(); p != nil {
			t.Logf("the bubble: %v", p)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() {
				if p := recover(); p != nil {
					r.Errorf("panic: %v\n%s", p, debug.Stack())
				}
			}()
			execute(t, r, &h, tc, new(string))
		}()
		<-done
	})
	return r
}

func find(t *testing.T, name string) testCase {
	t.Helper()
	groupName, caseName, _ := strings.Cut(name, "/")
	for _, g := range groups {
		for _, tc := range g.cases {
			if g.name == groupName && tc.name == caseName {
				return tc
			}
		}
	}
	require.Fail(t, "no case "+name)
	return testCase{}
}

func TestEachBugFailsInTheCaseMeantForIt(t *testing.T) {
	for _, b := range bugs {
		for _, name := range b.caught {
			t.Run(string(b.bug)+"/"+name, func(t *testing.T) {
				tc := find(t, name)
				r := record(t, reference(b.bug), tc)
				require.Empty(t, r.skipped)
				require.NotEmpty(t, r.errors, "the case passes a locker with this bug: %s", b.bug)
				t.Log(strings.Join(r.errors, "\n"))
			})
		}
	}
}

// Each look takes 0.6 ttls: the key is seen to be free late, and was not held
// too long for that.
func TestASlowMachineIsNoMistakeOfTheStore(t *testing.T) {
	for _, name := range []string{"Expiry/AnOddTTLIsHonoured", "Expiry/AnExtendedKeyGetsFreeInTime"} {
		h := reference("")
		peer := h.Peer
		h.Peer = func(t *testing.T, l lock.Locker) lock.Locker {
			slow := peer(t, l)
			h.Delay(t, slow, 600*time.Millisecond) // of a ttl of 1s
			return slow
		}
		r := record(t, h, find(t, name))
		require.Empty(t, r.skipped)
		require.Empty(t, r.errors, name)
	}
}

// A bubble's clock has no monotonic reading to lose.
func TestAnExpiryWithoutAMonotonicReadingFailsOnLiveTime(t *testing.T) {
	for b, fails := range map[bug]bool{"": false, "Expiry has no monotonic reading": true} {
		h, err := reference(b).withDefaults()
		require.NoError(t, err)
		r := &recorder{}
		execute(t, r, &h, find(t, "Expiry/ExpiryIsTheRequestPlusTheTTL"), new(string))
		require.Equal(t, fails, r.Failed(), r.errors)
	}
}

func TestEveryCaseCanFail(t *testing.T) {
	var caught []string
	for _, b := range bugs {
		caught = append(caught, b.caught...)
	}
	total := 0
	for _, g := range groups {
		for _, tc := range g.cases {
			total++
			require.Contains(t, caught, g.name+"/"+tc.name, "no broken locker shows that this case can fail")
		}
	}
	require.GreaterOrEqual(t, total, 40)
}

func TestEveryBugIsNamedOnce(t *testing.T) {
	seen := map[bug]bool{}
	for _, b := range bugs {
		require.False(t, seen[b.bug], "two entries for %q", b.bug)
		require.NotEmpty(t, b.caught, b.bug)
		seen[b.bug] = true
	}
}

func TestTheNamesAreAllDifferentAndValid(t *testing.T) {
	list := names("locktest-")
	for i, name := range list {
		require.NoError(t, lock.Check(name, time.Second))
		require.NotContains(t, list[i+1:], name)
	}
}

func TestAnUnexpectedSkipFails(t *testing.T) {
	for _, c := range []struct {
		name    string
		allow   []string
		skipped bool
	}{
		{"nil allows all", nil, true},
		{"the field is listed", []string{"Peer", "Watcher"}, true},
		{"nothing is allowed", []string{}, false},
		{"another is listed", []string{"Delay"}, false},
	} {
		for _, lacks := range []string{"Peer", "Watcher"} {
			t.Run(c.name+"/"+lacks, func(t *testing.T) {
				if lacks == "Watcher" && slices.Contains(c.allow, "Delay") {
					require.NotContains(t, c.allow, lacks)
				}
				h := Harness{AllowSkips: c.allow}
				r := &recorder{}
				done := make(chan struct{})
				go func() {
					defer close(done)
					skip(r, &h, lacks)
				}()
				<-done
				require.Equal(t, c.skipped, r.skipped != "")
				require.Equal(t, !c.skipped, r.Failed())
			})
		}
	}
}

// plain hides all that a locker offers beyond TryAcquire.
type plain struct{ lock.Locker }

func TestWhatTheLockerLacksIsSkippedInsideABubbleToo(t *testing.T) {
	h := reference("")
	newLocker := h.New
	h.New = func(t *testing.T) lock.Locker { return plain{newLocker(t)} }
	h.AllowSkips = nil
	for name, need := range map[string]string{
		"Optional/ClosedIsErrClosed": needCloser, "Optional/InspectTellsWhoHolds": needInspector,
		"Optional/HealthSeesTheStore": needHealthChecker, "Watch/ReleaseWakes": needWatcher, "Await/AnAttemptThatComesLaterIsRefused": needAwaiter,
		"Optional/TokensRiseAcrossForceRelease": needForceReleaser,
	} {
		h.Peer = nil
		r := record(t, h, find(t, name))
		require.Contains(t, r.skipped, need)
		require.Empty(t, r.errors)
		h.AllowSkips = []string{}
		r = record(t, h, find(t, name))
		require.Empty(t, r.skipped)
		require.NotEmpty(t, r.errors)
		h.AllowSkips = nil
	}
}

// listless has an Inspector that can't list.
type listless struct {
	plain
	lock.Inspector
}

func (listless) List(context.Context, string) iter.Seq2[lock.Info, error] {
	return func(yield func(lock.Info, error) bool) { yield(lock.Info{}, errors.ErrUnsupported) }
}

func TestAStoreThatCanNotListIsSkippedAndPrinted(t *testing.T) {
	h := reference("")
	newLocker := h.New
	h.New = func(t *testing.T) lock.Locker {
		l := newLocker(t)
		inspector, ok := lock.As[lock.Inspector](l)
		require.True(t, ok)
		return listless{plain{l}, inspector}
	}
	h.Peer, h.AllowSkips = nil, nil
	r := record(t, h, find(t, "Optional/ListStaysWithinThePrefix"))
	require.Contains(t, r.skipped, needList)
	require.Empty(t, r.errors)
	h.AllowSkips = []string{}
	r = record(t, h, find(t, "Optional/ListStaysWithinThePrefix"))
	require.Empty(t, r.skipped)
	require.NotEmpty(t, r.errors)
}

func TestAHarnessThatCanNotWorkIsRefused(t *testing.T) {
	newLocker := reference("").New
	for want, h := range map[string]Harness{
		"New is nil":              {},
		"TTL is -1ns":             {New: newLocker, TTL: -1},
		"TTL is 1ms":              {New: newLocker, TTL: time.Millisecond},
		"Cleanup is -1s":          {New: newLocker, Cleanup: -time.Second},
		"LongTTL is 20s":          {New: newLocker, LongTTL: 20 * time.Second},
		"LongTTL is 5m0s":         {New: newLocker, LongTTL: 5 * time.Minute, TTL: time.Minute},
		`AllowSkips has "Dealy"`:  {New: newLocker, AllowSkips: []string{"Dealy"}},
		"LongTTL is 2540400h0m0s": {New: newLocker, LongTTL: 290 * 365 * 24 * time.Hour},
	} {
		_, err := h.withDefaults()
		require.ErrorContains(t, err, want)
	}
	h, err := Harness{New: newLocker, TTL: 10 * time.Second}.withDefaults()
	require.NoError(t, err)
	require.Equal(t, 100*time.Second, h.LongTTL)
}

// hurried has leases whose Release fails where its ctx leaves no time for it, as it may.
type hurried struct{ *refLocker }

func (h hurried) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := h.refLocker.TryAcquire(ctx, key, ttl)
	if err != nil {
		return nil, err
	}
	return hurriedLease{lease}, nil
}

type hurriedLease struct{ lock.Lease }

func (l hurriedLease) Release(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && time.Until(deadline) < time.Millisecond {
		return lock.ErrUnavailable
	}
	return l.Lease.Release(ctx)
}

func TestAReleaseThatWasCutShortIsNoMistakeOfTheStore(t *testing.T) {
	h := reference("")
	newLocker := h.New
	h.New = func(t *testing.T) lock.Locker { return hurried{newLocker(t).(*refLocker)} }
	h.Peer = nil
	r := record(t, h, find(t, "Leak/NoGoroutineOutlivesTheLocker"))
	require.Empty(t, r.skipped)
	require.Empty(t, r.errors)
}
