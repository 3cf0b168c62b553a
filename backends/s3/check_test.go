package s3

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestAStoreThatDoesNotHonourConditionsIsRefused(t *testing.T) {
	for want, f := range map[string]*fake{
		"If-None-Match is ignored":                     {ignoreNoneMatch: true},
		"If-Match is ignored":                          {ignoreMatch: true},
		"is answered with 412, and the object written": {writesAnyway: true},
		"501 NotImplemented":                           {noConditions: true},
		"without an ETag":                              {noETag: true},
	} {
		t.Run(want, func(t *testing.T) {
			f.objects, f.requests = map[string]fakeObject{}, map[string]int{}
			for range 2 { // also where an object is there already
				l := locker(t, f.client(), nil)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				_, err := lock.Acquire(ctx, l, "k", time.Minute, nil) // it ends at once
				cancel()
				require.ErrorIs(t, err, lock.ErrRefused)
				require.ErrorContains(t, err, want)
				require.ErrorContains(t, err, "honours If-None-Match and If-Match")
				h, err := l.Health(t.Context())
				require.NoError(t, err)
				require.False(t, h.HasQuorum())
			}
			require.NotContains(t, f.objects, DefaultPrefix+"k", "no lock was tried")
		})
	}
}

// A gateway may lose the condition of one kind of request for a while: what is seen once does
// not stay.
func TestAStoreThatWasRefusedIsTriedAgain(t *testing.T) {
	f := newFake()
	f.ignoreMatch = true
	l := locker(t, f.client(), nil)
	_, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	f.set(func() { f.ignoreMatch = false })
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
}

func TestManyThatCheckAtTheSameTimeAllPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		errs := make(chan error)
		for i := range 50 {
			l := locker(t, f.client(), nil)
			go func() {
				lease, err := l.TryAcquire(t.Context(), fmt.Sprint(i), time.Minute)
				if err == nil {
					err = lease.Release(t.Context())
				}
				errs <- err
			}()
		}
		for range 50 {
			require.NoError(t, <-errs)
		}
	})
}

// The SDK repeats a request that failed with 500; the repetition meets what the first wrote.
func TestAReplyThatIsLostAndTheRepetitionOfItsRequestCostNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		lose := func() { f.set(func() { f.lose = 1 }) }
		l := locker(t, f.client(), nil)
		lose() // the check's own create
		for range 3 {
			lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
			require.NoError(t, err)
			lose()
			require.NoError(t, lease.Extend(t.Context(), time.Minute))
			lose()
			require.NoError(t, lease.Release(t.Context()))
			lose() // of the next hold
		}
	})
}

func TestAClockOfThisMachineThatIsWrongCostsNoLock(t *testing.T) {
	for _, ahead := range []time.Duration{-2 * time.Hour, 2 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.ahead = ahead
			l, other := locker(t, f.client(), nil), locker(t, f.client(), nil)
			lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
			require.NoError(t, err, "the SDK signs with the store's time after the first refusal")
			time.Sleep(40 * time.Second)
			require.NoError(t, lease.Extend(t.Context(), time.Minute))
			_, err = other.TryAcquire(t.Context(), "k", time.Minute)
			require.ErrorIs(t, err, lock.ErrHeld)
			h, err := l.Health(t.Context())
			require.NoError(t, err)
			require.Contains(t, fmt.Sprint(h.Nodes[0].Warnings), "this machine's clock is off by 2h0m")
			require.Contains(t, h.Nodes[0].Facts, lock.Fact{Name: "ages", Value: "used, less 3s"})
		})
	}
}

// A proxy that sets the Date header by a clock of its own makes each object look old.
func TestAgesByClocksThatDifferAreNotUsed(t *testing.T) {
	for _, ahead := range []time.Duration{-10 * time.Minute, 10 * time.Minute, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.dateAhead = ahead
			l := locker(t, f.client(), nil)
			_, err := l.TryAcquire(t.Context(), "k", time.Minute)
			require.NoError(t, err)
			other := locker(t, f.client(), nil)
			for range 11 { // the holder is dead, and its ttl counts from when it was first seen
				_, err = other.TryAcquire(t.Context(), "k", time.Minute)
				require.ErrorIs(t, err, lock.ErrHeld)
				time.Sleep(5 * time.Second)
			}
			h, err := other.Health(t.Context())
			require.NoError(t, err)
			require.Contains(t, fmt.Sprint(h.Nodes[0].Warnings), "so its ages are not used")
			time.Sleep(10 * time.Second)
			_, err = other.TryAcquire(t.Context(), "k", time.Minute)
			require.NoError(t, err)
		})
	}
}

func TestClocksAgreeOnlyIfThatIsShown(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		apparent, within, skew time.Duration
		agree, conclusive      bool
	}{
		{0, s / 100, 2 * s, true, true},
		{s, s / 100, 2 * s, true, true},     // a new second has begun
		{2 * s, 3 * s, 2 * s, false, false}, // two seconds have passed, or a clock is ahead
		{4 * s, 20 * s, 5 * s, true, true},
		{4 * s, s / 100, 2 * s, false, true},
		{2 * s, s / 100, 2 * s, false, false},
		{-s, s / 100, 2 * s, true, true},
		{-4 * s, 20 * s, 2 * s, false, true},
		{s, s / 100, 1, true, true},
	} {
		st := newStore(nil, "b", Options{Skew: c.skew})
		now := time.Now()
		require.Equal(t, c.conclusive, st.compareClocks(object{date: now.Add(c.apparent), put: now}, c.within), c)
		require.Equal(t, c.agree, st.checks.clocksAgree.Load(), c)
	}
}

func TestAJobThatRunsOnceTakesOverAfterACrashByTheStoresClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		_, err := locker(t, f.client(), nil).TryAcquire(t.Context(), "k", time.Minute) // and it dies
		require.NoError(t, err)
		start := time.Now()
		for time.Since(start) < 5*time.Minute {
			l := locker(t, f.client(), nil) // another process each time
			lease, err := lock.Acquire(t.Context(), l, "k", time.Minute, &lock.AcquireOptions{Attempts: 1})
			if err == nil {
				require.InDelta(t, 64, time.Since(start).Seconds(), 1.5, "the ttl, 1 %, the clock's resolution, and the skew")
				require.NoError(t, lease.Release(t.Context()))
				return
			}
			require.ErrorIs(t, err, lock.ErrHeld)
			time.Sleep(500 * time.Millisecond)
		}
		t.Fatal("it is refused for ever")
	})
}

// A gateway over a file system reads time, ETag and content one after another, and a write may come
// in between.
func TestAHoldThatBeginsWhileItIsReadIsSeen(t *testing.T) {
	for _, c := range []struct {
		older    string
		tornETag bool
		after    time.Duration
	}{{"time", false, time.Hour}, {"time and content", true, time.Hour}, {"content", true, 0}} {
		t.Run(c.older, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				a, b := locker(t, f.client(), nil), locker(t, f.client(), nil)
				for _, l := range []*Locker{a, b} { // both have checked the store
					lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
					require.NoError(t, err)
					require.NoError(t, lease.Release(t.Context()))
				}
				time.Sleep(c.after)
				var held lock.Lease
				f.set(func() {
					f.tornETag = c.tornETag
					f.meanwhile = func() {
						var err error
						held, err = a.TryAcquire(t.Context(), "k", time.Minute)
						require.NoError(t, err)
					}
				})
				_, err := b.TryAcquire(t.Context(), "k", time.Minute)
				require.ErrorIs(t, err, lock.ErrHeld)
				require.NoError(t, held.Extend(t.Context(), time.Minute))
			})
		})
	}
}

func TestWithoutAgesARefusalSaysThatTheHolderMayBeDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		o := &Options{Skew: -1}
		_, err := locker(t, f.client(), o).TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		l := locker(t, f.client(), o)
		_, err = l.TryAcquire(t.Context(), "k", time.Minute)
		var held *lock.HeldError
		require.ErrorAs(t, err, &held)
		require.True(t, held.Unconfirmed)
		time.Sleep(held.RetryAfter)
		_, err = l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
	})
}

func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		ctx := t.Context()
		l, other := locker(t, f.client(), nil), locker(t, f.client(), nil)
		sent := func(what string, want map[string]int) {
			t.Helper()
			require.Equal(t, want, f.sent(), what)
		}
		lease, err := l.TryAcquire(ctx, "k", time.Minute)
		require.NoError(t, err)
		sent("the first lock ever: the check, whose object is made, and the key's first use", map[string]int{"GET": 4, "PUT": 6})
		require.NoError(t, lease.Release(ctx))
		sent("a release", map[string]int{"PUT": 1})
		lease, err = l.TryAcquire(ctx, "k", time.Minute)
		require.NoError(t, err)
		sent("a lock", map[string]int{"GET": 1, "PUT": 1})
		require.NoError(t, lease.Extend(ctx, time.Minute))
		sent("a renewal", map[string]int{"PUT": 1})
		_, err = other.TryAcquire(ctx, "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrHeld)
		sent("a process's first refusal: the check and a read", map[string]int{"GET": 3, "PUT": 3})
		_, err = other.TryAcquire(ctx, "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrHeld)
		sent("a refusal", map[string]int{"GET": 1})
		third := locker(t, f.client(), nil)
		_, err = third.Inspect(ctx, "other")
		require.NoError(t, err)
		time.Sleep(10 * time.Second)
		f.sent()
		_, err = third.TryAcquire(ctx, "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrHeld)
		sent("a refusal by a state that is seen for the first time, and is old", map[string]int{"GET": 2})
		_, err = third.TryAcquire(ctx, "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrHeld)
		sent("and again", map[string]int{"GET": 1})
	})
}

// What waiting costs: each process asks once a second, however many wait in it.
func TestAProcessThatWaitsAsksOnceASecond(t *testing.T) {
	for _, c := range []struct{ processes, each int }{{1, 1}, {1, 20}, {4, 1}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			ctx := t.Context()
			holder := locker(t, f.client(), nil)
			lease, err := holder.TryAcquire(ctx, "k", 24*time.Hour)
			require.NoError(t, err)
			acquired := make(chan error)
			for range c.processes {
				l := locker(t, f.client(), nil)
				for range c.each {
					go func() {
						lease, err := lock.Acquire(ctx, l, "k", time.Hour, nil)
						if err == nil {
							err = lease.Release(ctx)
						}
						acquired <- err
					}()
				}
			}
			time.Sleep(time.Minute)
			f.sent()
			time.Sleep(time.Hour)
			sent := f.sent()
			t.Logf("%d processes, %d waiters in each: %v requests in an hour", c.processes, c.each, sent)
			require.InDelta(t, 3600*c.processes, sent[http.MethodGet], 0.05*3600*float64(c.processes))
			require.Zero(t, sent[http.MethodPut])
			require.NoError(t, lease.Release(ctx))
			for range c.processes * c.each {
				require.NoError(t, <-acquired)
			}
		})
	}
}

func TestAConflictOfTwoWritesIsNoOutage(t *testing.T) {
	f := newFake()
	l := locker(t, f.client(), nil)
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
	n := 0
	f.set(func() {
		f.fail = func(req *http.Request) (int, string) {
			if n++; req.Method == http.MethodPut && n < 3 {
				return http.StatusConflict, "ConditionalRequestConflict"
			}
			return 0, ""
		}
	})
	lease, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
	// Another kind of 409 is none: whether that is a holder is not known.
	st := newStore(f.client(), storetest.Bucket, Options{Prefix: DefaultPrefix, Skew: -1})
	e, err := st.Get(t.Context(), DefaultPrefix+"k")
	require.NoError(t, err)
	f.set(func() {
		f.fail = func(*http.Request) (int, string) { return http.StatusConflict, "ObjectParentIsFile" }
	})
	_, err = st.Put(t.Context(), DefaultPrefix+"k", e.Record, e.Version)
	require.Error(t, err)
	require.NotErrorIs(t, err, record.ErrChanged)
	_, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
}

func TestWhatAskingAgainDoesNotMendIsRefusedWithWhatToDo(t *testing.T) {
	for code, want := range map[string]string{
		"403 AccessDenied":          "s3:ListBucket",
		"403 InvalidAccessKeyId":    "check the credentials",
		"403 SignatureDoesNotMatch": "check the secret key",
		"400 ExpiredToken":          "get new credentials",
		"404 NoSuchBucket":          "make the bucket",
		"301 PermanentRedirect":     "set the region",
		"501 NotImplemented":        "conditional writes",
		"403 Unheard":               "check the credentials and their rights",
		"405 MethodNotAllowed":      "speaks the protocol of S3",
		"404 ":                      "speaks the protocol of S3",
		"400 400":                   "400 Bad Request; check that the endpoint",
		"403 InvalidObjectState":    "except the prefix from the lifecycle rule",
		"400 InvalidRequest":        "does not take such requests",
		"400 KMS.DisabledException": "encrypted by",
	} {
		f := newFake()
		var status int
		var name string
		_, err := fmt.Sscanf(code, "%d %s", &status, &name)
		require.True(t, err == nil || name == "", err)
		f.fail = func(*http.Request) (int, string) { return status, name }
		_, err = locker(t, f.client(), nil).TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrRefused, code)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, fmt.Sprintf("bucket %q", storetest.Bucket))
		require.NotContains(t, err.Error(), storetest.Password)
	}
	synctest.Test(t, func(t *testing.T) { // the SDK repeats these first
		for _, code := range []string{"SlowDown", "InternalError", "ServiceUnavailable"} {
			f := newFake()
			f.fail = func(*http.Request) (int, string) { return http.StatusServiceUnavailable, code }
			_, err := locker(t, f.client(), nil).TryAcquire(t.Context(), "k", time.Minute)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.ErrorContains(t, err, code)
		}
	})
}
