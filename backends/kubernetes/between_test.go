package kubernetes

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/kubetest"
	"github.com/tonsurance/lockkeeper/lock"
)

// What stands between a program and its API server: proxies, balancers, admission, quotas.

// A client that follows a redirect sends a GET in place of a PUT, and receives the Lease as it
// was: no write at all, and an answer like that to a write.
func TestAWriteThatIsRedirectedHoldsNothing(t *testing.T) {
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			s := &kubetest.Server{}
			l := locker(t, s, nil)
			used(t, l, "k")
			held, err := l.TryAcquire(t.Context(), "renewed", time.Minute)
			require.NoError(t, err)
			before := held.Expiry()
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut {
					return false
				}
				http.Redirect(w, r, "http://kubernetes"+r.URL.Path+"?secret=s3cret", code)
				return true
			})
			_, err = l.TryAcquire(t.Context(), "k", time.Minute)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.ErrorContains(t, err, "redirect")
			require.ErrorContains(t, err, "http://kubernetes")
			require.NotContains(t, err.Error(), "s3cret")
			require.ErrorIs(t, held.Extend(t.Context(), time.Hour), lock.ErrUnavailable)
			require.Equal(t, before, held.Expiry())

			fresh := locker(t, s, nil)
			_, err = fresh.TryAcquire(t.Context(), "k", time.Minute)
			require.ErrorIs(t, err, lock.ErrRefused, "asking again does not mend it")
			s.Intercept(nil)
			_, err = fresh.TryAcquire(t.Context(), "k", time.Minute)
			require.NoError(t, err, "nobody holds it")
		})
	}
}

func TestAWriteThatIsRedirectedAsItIsIsAWrite(t *testing.T) {
	s := &kubetest.Server{}
	l := locker(t, s, nil)
	used(t, l, "k")
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || r.URL.Query().Has("moved") {
			return false
		}
		http.Redirect(w, r, "http://kubernetes"+r.URL.Path+"?moved=1", http.StatusTemporaryRedirect)
		return true
	})
	_, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	_, err = locker(t, s, nil).TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrHeld)
}

// A client of the caller's may do by itself what a redirect does, or answer out of a cache.
func TestAnAnswerToAWriteThatShowsAnotherStateHoldsNothing(t *testing.T) {
	s := &kubetest.Server{}
	l := locker(t, s, nil)
	used(t, l, "k")
	client, stop := s.Client()
	t.Cleanup(stop)
	client.Transport = reads{client.Transport}
	odd, err := New(client, "http://kubernetes", &Options{Namespace: "default"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, odd.Close()) })
	_, err = odd.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	_, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
}

// reads sends a GET in place of each PUT.
type reads struct{ http.RoundTripper }

func (c reads) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPut {
		r = r.Clone(r.Context())
		r.Method, r.Body, r.ContentLength = http.MethodGet, http.NoBody, 0
	}
	return c.RoundTripper.RoundTrip(r)
}

// A quota and an admission webhook refuse with the code of a missing right, which it is not.
func TestWhatIsForbiddenForAnotherReasonIsNotCalledAMissingRight(t *testing.T) {
	s := &kubetest.Server{}
	for message, right := range map[string]bool{
		`leases.coordination.k8s.io is forbidden: User \"system:serviceaccount:a:b\" cannot create resource \"leases\" in API group \"coordination.k8s.io\" in the namespace \"default\"`: true,
		`leases.coordination.k8s.io \"k\" is forbidden: exceeded quota: objects, requested: count/leases.coordination.k8s.io=1, used: 9, limited: 9`:                                      false,
		`admission webhook \"names.example.com\" denied the request: want a team label`:                                                                                                   false,
	} {
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"%s","reason":"Forbidden","code":403,"details":{"kind":"leases","group":"coordination.k8s.io"}}`, message)
			return true
		})
		_, err := locker(t, s, nil).TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrRefused)
		if right {
			require.ErrorContains(t, err, "bind a Role")
		} else {
			require.NotContains(t, err.Error(), "bind a Role")
		}
	}
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		http.Error(w, "<html>s3cret", http.StatusForbidden)
		return true
	})
	_, err := locker(t, s, nil).TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "not by an API server")
	require.NotContains(t, err.Error(), "s3cret")
}

// Proxies send Retry-After as a date, too.
func TestATimeToComeAgainMayBeADate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &kubetest.Server{}
		l := locker(t, s, nil)
		used(t, l, "k")
		begin := time.Now()
		// Both are of the server: this machine's clock may be off by hours.
		s.SetClock(5 * time.Hour)
		s.Throttle(1, begin.Add(5*time.Hour+2*time.Second).UTC().Format(http.TimeFormat))
		_, err := l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
		require.WithinRange(t, time.Now(), begin.Add(time.Second), begin.Add(3*time.Second))
	})
}
