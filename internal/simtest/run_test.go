package simtest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

type lease struct {
	lock.Lease
	token  uint64
	expiry time.Time
}

func (l *lease) Token() uint64     { return l.token }
func (l *lease) Expiry() time.Time { return l.expiry }

func forASecond(token uint64) *lease {
	return &lease{token: token, expiry: time.Now().Add(time.Second)}
}

// Each promise is broken once: an observer that does not see it asserts nothing.
func TestTheObserverSeesEachBrokenPromise(t *testing.T) {
	for want, breaks := range map[string]func(r *Run){
		"": func(r *Run) { // all is well
			first := r.Granted("k", "a", time.Now(), forASecond(1))
			r.Granted("other key", "b", time.Now(), forASecond(1))
			time.Sleep(time.Second)
			second := forASecond(2)
			b := r.Granted("k", "b", time.Now(), second)
			r.Write(b, second)
			r.Write(first, &lease{token: 1}) // too late
			second.expiry = time.Now().Add(time.Minute)
			r.Extended(b, second, nil)
			r.Extended(b, second, lock.ErrUnavailable)
			time.Sleep(time.Second)
			r.Concluded(b, "released")
			r.Granted("k", "a", time.Now(), forASecond(3))
		},
		`token 1 of "k" was issued twice, to a and b`: func(r *Run) {
			for _, by := range []string{"a", "b"} {
				r.Granted("k", by, time.Now(), forASecond(1))
				time.Sleep(time.Second)
			}
		},
		`token 1 of "k" was issued to b after token 2 to a`: func(r *Run) {
			r.Granted("k", "a", time.Now(), forASecond(2))
			time.Sleep(time.Second)
			r.Granted("k", "b", time.Now(), forASecond(1))
		},
		`token 1 of "k" became 2`: func(r *Run) {
			r.Extended(r.Granted("k", "a", time.Now(), forASecond(1)), forASecond(2), nil)
		},
		`a valid lease of "k" with token 1 of a is refused: 2 has written`: func(r *Run) {
			first, second := forASecond(1), forASecond(2)
			a, b := r.Granted("k", "a", time.Now(), first), r.Granted("k", "b", time.Now(), second)
			r.Write(b, second)
			r.Write(a, first)
		},
		`"k": token 1 of a is valid from 0s to 1m0s, token 2 of b from 1s to 2s`: func(r *Run) {
			long := forASecond(1)
			a := r.Granted("k", "a", time.Now(), long)
			long.expiry = time.Now().Add(time.Minute)
			r.Extended(a, long, nil)
			time.Sleep(time.Second)
			r.Granted("k", "b", time.Now(), forASecond(2))
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := NewRun(1, "any", true)
			breaks(r)
			r.End()
			require.Equal(t, want, r.Violation())
		})
	}
}

// Tokens are asserted beyond the limits, too; exclusion and valid writes are not.
func TestOverlapsBeyondTheLimitsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRun(7, "wild", false, "crashes")
		first, second := forASecond(1), forASecond(2)
		a, b := r.Granted("k", "a", time.Now(), first), r.Granted("k", "b", time.Now(), second)
		r.Write(b, second)
		r.Write(a, first)
		time.Sleep(time.Second)
		r.End()
		require.Equal(t, "seed 7, wild: 1s, 0 crashes, 2 grants, 1 overlaps", r.String())
		r.Granted("k", "c", time.Now(), forASecond(2))
		require.Contains(t, r.String(), "\nVIOLATION: token 2 of")
	})
}
