package kubernetes

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/internal/kubetest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestAThrottledRequestComesAgainWhenItWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &kubetest.Server{}
		l := locker(t, s, nil)
		used(t, l, "k")
		creates, updates := s.Requests("create"), s.Requests("update")
		s.Throttle(2, "1")
		begin := time.Now()
		lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
		require.WithinRange(t, time.Now(), begin.Add(2*time.Second), begin.Add(2500*time.Millisecond))
		require.True(t, lease.Expiry().Before(begin.Add(time.Minute)), "the wait is counted")
		require.Equal(t, creates, s.Requests("create"))
		require.Equal(t, updates+1, s.Requests("update"))

		s.Throttle(1, "60") // longer than a request may last
		begin = time.Now()
		_, err = l.TryAcquire(t.Context(), "other", time.Minute)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "to be asked again in 1m0s")
		require.Less(t, time.Since(begin), time.Second)
	})
}

// counted counts a server's requests by verb since it was made.
type counted map[string]int

func countedOf(s *kubetest.Server) counted {
	c := counted{}
	for _, verb := range []string{"get", "list", "watch", "create", "update", "delete"} {
		c[verb] = s.Requests(verb)
	}
	return c
}

func (c counted) since(t *testing.T, s *kubetest.Server, want counted) {
	t.Helper()
	got := countedOf(s)
	for verb := range got {
		got[verb] -= c[verb]
		if got[verb] == 0 {
			delete(got, verb)
		}
	}
	require.Equal(t, want, got)
}

func TestRequestsAreAsThePageSays(t *testing.T) {
	s := &kubetest.Server{}
	l, other := locker(t, s, nil), locker(t, s, nil)
	c := countedOf(s)
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	c.since(t, s, counted{"get": 3, "create": 1, "update": 1})
	c = countedOf(s)
	require.NoError(t, lease.Extend(t.Context(), time.Minute))
	c.since(t, s, counted{"update": 1})
	c = countedOf(s)
	_, err = other.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrHeld)
	c.since(t, s, counted{"get": 1})
	c = countedOf(s)
	require.NoError(t, lease.Release(t.Context()))
	c.since(t, s, counted{"update": 1})
	c = countedOf(s)
	_, err = other.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	c.since(t, s, counted{"get": 1, "update": 1})
}

// watching follows the Lease of a key, and counts what comes: Leases, deletions, and that
// something may have been missed.
type watching struct{ states, deletions, missed atomic.Int64 }

func follow(t *testing.T, st *store, key string) *watching {
	t.Helper()
	w := &watching{}
	stop, err := st.Watch(t.Context(), key, func(e *record.Entry) {
		switch {
		case e == nil:
			w.missed.Add(1)
		case e.Version == "":
			w.deletions.Add(1)
		default:
			w.states.Add(1)
		}
	})
	require.NoError(t, err)
	t.Cleanup(stop)
	return w
}

func touch(s *kubetest.Server, key string) {
	s.Edit("default", key, func(o map[string]any) {
		o["metadata"].(map[string]any)["annotations"].(map[string]any)["touched"] = time.Now().String()
	})
}

func TestAWatchGoesOn(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(s *kubetest.Server)
		wait    time.Duration
		lists   int   // one more for each time that it begins anew
		missed  bool  // the engine is asked to look
		states  int64 // of three
	}{
		"where it was, when its time is over": {func(s *kubetest.Server) {}, 15 * time.Minute, 1, false, 3},
		"after bookmarks, although the history before is gone": {func(s *kubetest.Server) {
			for range 10 { // of others
				touch(s, "other")
			}
			time.Sleep(2 * time.Minute)
			s.Compact()
		}, 15 * time.Minute, 1, false, 3},
		"from the present, when its history is gone": {func(s *kubetest.Server) {
			time.Sleep(15 * time.Minute)
			for range 10 {
				touch(s, "other")
			}
			time.Sleep(time.Second)
			s.Compact()
		}, 15 * time.Minute, 2, true, 3},
		"when the server says 410 to a new one": {func(s *kubetest.Server) {
			var once atomic.Bool
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !r.URL.Query().Has("watch") || !once.CompareAndSwap(false, true) {
					return false
				}
				w.WriteHeader(http.StatusGone)
				return true
			})
		}, 15 * time.Minute, 2, true, 3},
		"when it is throttled": {func(s *kubetest.Server) {
			time.Sleep(4 * time.Minute)
			s.Throttle(3, "7")
		}, 15 * time.Minute, 1, true, 3},
		"when its server hangs": {func(s *kubetest.Server) { // no event and no bookmark any more
			var hung atomic.Int64
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Query().Has("watch") && hung.Add(1) <= 2 {
					w.WriteHeader(http.StatusOK)
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
					return true
				}
				return false
			})
		}, 20 * time.Minute, 1, true, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &kubetest.Server{}
				if c.lists == 2 {
					s.BookmarkEvery = 24 * time.Hour // they would say how far the history has got
				}
				l, st := locker(t, s, nil), over(t, s)
				used(t, l, "k")
				used(t, l, "other")
				lists := s.Requests("list")
				w := follow(t, st, "k")
				touch(s, "k")
				time.Sleep(time.Second)
				c.happens(s)
				time.Sleep(c.wait)
				touch(s, "k")
				time.Sleep(time.Minute)
				touch(s, "k")
				time.Sleep(time.Minute)
				require.Equal(t, c.states, w.states.Load())
				require.Equal(t, c.lists, s.Requests("list")-lists)
				require.Equal(t, c.missed, w.missed.Load() > 0)
				s.Remove("default", "k")
				time.Sleep(time.Minute)
				require.Equal(t, int64(1), w.deletions.Load())
				s.Intercept(nil)
			})
		})
	}
}

func TestAWatchThatIsRefusedIsAnErrorAndNotATightLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &kubetest.Server{}
		st := over(t, s)
		w := follow(t, st, "k")
		asked := s.Requests("list")
		var watched atomic.Int64
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Has("watch") {
				watched.Add(1)
				w.WriteHeader(http.StatusOK) // and ends at once, as if all were well
				return true
			}
			return false
		})
		time.Sleep(time.Hour)
		require.Less(t, s.Requests("list")-asked, 3)
		require.Less(t, watched.Load(), int64(60*10))
		_ = w
		s.Users(map[string]kubetest.User{})
		s.Intercept(nil)
		before := s.Requests("watch")
		time.Sleep(time.Hour)
		require.Less(t, s.Requests("watch")-before, 60*10)
		_, err := st.Watch(t.Context(), "k", func(*record.Entry) {})
		require.ErrorIs(t, err, lock.ErrRefused)
		s.Users(nil)
	})
}

// podFiles are what a pod has.
func podFiles(t *testing.T, k *storetest.Kubernetes, token string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"token": token, "namespace": "locks"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	ca, err := os.ReadFile(k.CA())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o600))
	host, port, _ := strings.Cut(k.Addr(), ":")
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", port)
	return dir
}

func TestAPodHasAllThatItNeedsAndItsTokenMayBeRotated(t *testing.T) {
	k := start(t)
	dir := podFiles(t, k, storetest.KubeAdmin+"\n")
	l, err := inCluster(dir, nil)
	require.NoError(t, err)
	defer l.Close()
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte(storetest.KubeStranger), 0o600))
	err = lease.Extend(t.Context(), time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable, "after a success: no lease ends for it")
	require.NotContains(t, err.Error(), storetest.Password)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte(storetest.KubeAdmin), 0o600))
	require.NoError(t, lease.Extend(t.Context(), time.Minute))

	byURL, err := openURL(dir, "///")
	require.NoError(t, err)
	defer byURL.(*Locker).Close()
	_, err = byURL.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrHeld, "it is the same namespace")

	// The authority is rotated, too: connections made before go on, new ones are by the new.
	other, err := os.ReadFile(storetest.NewAuthority(t).File("ca.crt"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), other, 0o600))
	l.idle()
	require.ErrorContains(t, lease.Extend(t.Context(), time.Minute), "certificate")
	both := slices.Concat(other, readFile(t, k.CA()))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), both, 0o600))
	require.NoError(t, lease.Extend(t.Context(), time.Minute))
	require.NoError(t, lease.Release(t.Context()))
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

func TestATokenThatIsRotatedBetweenReadingAndSendingIsReadAgain(t *testing.T) {
	s := &kubetest.Server{}
	s.Users(map[string]kubetest.User{"new": {Name: "x", Admin: true}})
	st := over(t, s)
	tokens := []string{"old", "new", "new", "new"}
	st.api.token = func() (string, error) { token := tokens[0]; tokens = tokens[1:]; return token, nil }
	_, err := st.Get(t.Context(), "k")
	require.NoError(t, err)
}

func TestWhatAnswersButIsNoKubernetesIsRefused(t *testing.T) {
	s := &kubetest.Server{}
	l := locker(t, s, nil)
	for code, want := range map[int]error{http.StatusNotFound: lock.ErrRefused, http.StatusBadRequest: lock.ErrRefused, http.StatusOK: lock.ErrUnavailable, http.StatusConflict: lock.ErrUnavailable, http.StatusBadGateway: lock.ErrUnavailable} {
		s.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(code)
			_, _ = w.Write([]byte("<html>welcome</html>"))
			return true
		})
		_, err := l.TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, want, code)
		require.NotContains(t, err.Error(), "welcome")
		_, err = l.store.Get(t.Context(), "k")
		require.Error(t, err, "it says nothing of a Lease")
		_, err = l.store.Put(t.Context(), "k", record.Record{Key: "k"}, "")
		require.NotErrorIs(t, err, record.ErrChanged)
		require.Error(t, err)
	}
}

func TestHealthSaysWhatMayNotBeDone(t *testing.T) {
	s := &kubetest.Server{}
	st := over(t, s)
	st.api.token = func() (string, error) { return "t", nil }
	for verbs, warning := range map[string]string{"": "no right to list", "list": "no right to watch", "list watch": ""} {
		s.Users(map[string]kubetest.User{"t": {Name: "x", Namespace: "default", Verbs: strings.Fields(verbs)}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		h := st.Describe(ctx)
		cancel()
		require.Equal(t, warning, strings.Join(h.Warnings, ";")[:len(warning)])
		require.Equal(t, warning == "", len(h.Warnings) == 0)
		require.Contains(t, h.Facts, lock.Fact{Name: "version", Value: "v1.37.2-kubefake"})
	}
}
