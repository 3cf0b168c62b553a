package kubernetes

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/conformtest"
	"github.com/tonsurance/lockkeeper/internal/kubetest"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestMain(m *testing.M) { os.Exit(programtest.Main(m)) }

// The tests of this file run on an API server in a process of its own: kubefake, or with
// LOCKKEEPER_KUBE_APISERVER the real one (make kubernetes).

// start starts it.
func start(t *testing.T) *storetest.Kubernetes {
	t.Helper()
	if testing.Short() {
		t.Skip("an API server in a process of its own, left out by -short")
	}
	return storetest.StartKubernetes(t)
}

// openedAt is a locker by its URL, as programs open it; addr may be a proxy's.
func openedAt(t *testing.T, k *storetest.Kubernetes, addr, token string) *Locker {
	t.Helper()
	l, err := openURL(serviceAccount, strings.TrimPrefix(k.URL(addr, "locks", token), "kubernetes:"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.(*Locker).Close()) })
	return l.(*Locker)
}

// dialed is a store with connections of its own.
func dialed(t *testing.T, k *storetest.Kubernetes) *store {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(storetest.KubeAdmin), 0o600))
	a, transport, err := server{host: k.Host(), tokenFile: token, ca: k.CA()}.open()
	require.NoError(t, err)
	t.Cleanup(transport.CloseIdleConnections)
	return newStore(a, "locks", 0)
}

func TestTheServerIsWhatTheFakeIs(t *testing.T) {
	t.Parallel()
	k := start(t)
	client := &http.Client{Transport: bearer{storetest.KubeAdmin, &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: k.Authority().Pool, MinVersion: tls.VersionTLS12},
	}}}
	kubetest.Fidelity(t, client, k.Host(), "locks", k.Restart)
}

type bearer struct {
	token string
	http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.RoundTripper.RoundTrip(r)
}

func TestStoreOnAServer(t *testing.T) {
	t.Parallel()
	k := start(t)
	for name, skew := range map[string]time.Duration{"without ages": 0, "with ages": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			recordtest.Run(t, recordtest.Stores{
				Dial:  func(t *testing.T) record.Store { s := dialed(t, k); s.skew = skew; return s },
				Names: names,
			})
		})
	}
}

func TestConformanceOnAServer(t *testing.T) {
	t.Parallel()
	k := start(t)
	a, b := dialed(t, k), dialed(t, k)
	n := 0
	conformtest.Locks(t, "Kubernetes (API server)", recordtest.Locks{
		Open: func(t *testing.T) func(t *testing.T) record.Store {
			return func(*testing.T) record.Store { n++; return []record.Store{a, b}[n%2] }
		},
		Options:         &record.Options{Names: names},
		TTL:             600 * time.Millisecond,
		Late:            true,
		IgnoreGoroutine: ofHTTP,
		AllowSkips:      []string{"Wrap", "Skew"},
	}.Harness())
}

// keep extends a lease until stop, through whatever fails.
func keep(t *testing.T, lease lock.Lease, ttl time.Duration, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-time.After(ttl / 20):
		}
		ctx, cancel := context.WithTimeout(t.Context(), ttl/3)
		err := lease.Extend(ctx, ttl)
		cancel()
		if errors.Is(err, lock.ErrLost) {
			return err
		}
	}
}

func TestALeaseSurvivesWhatHappensToTheServer(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(k *storetest.Kubernetes) (mend func()){
		"killed": func(k *storetest.Kubernetes) func() { k.Kill(); return k.Restart },
		"hung":   func(k *storetest.Kubernetes) func() { k.Pause(); return k.Resume },
	} {
		t.Run(name, func(t *testing.T) {
			k := start(t)
			l, other := openedAt(t, k, k.Addr(), storetest.KubeAdmin), openedAt(t, k, k.Addr(), storetest.KubeAdmin)
			const ttl = time.Minute
			lease, err := l.TryAcquire(t.Context(), "k", ttl)
			require.NoError(t, err)
			stop, kept := make(chan struct{}), make(chan error, 1)
			go func() { kept <- keep(t, lease, ttl, stop) }()
			mend := fault(k)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err = other.TryAcquire(ctx, "k", ttl)
			cancel()
			require.Error(t, err)
			require.NotErrorIs(t, err, lock.ErrHeld)
			mend()
			ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for {
				_, err = other.TryAcquire(ctx, "k", ttl)
				if errors.Is(err, lock.ErrHeld) {
					break
				}
				require.ErrorIs(t, err, lock.ErrUnavailable)
			}
			close(stop)
			require.NoError(t, <-kept)
			for lease.Release(ctx) != nil { // a connection from before may end with it
				require.NoError(t, ctx.Err())
			}
			next, err := lock.Acquire(ctx, other, "k", ttl, nil)
			require.NoError(t, err)
			require.Greater(t, next.Token(), lease.Token())
		})
	}
}

func TestAWaiterIsNotifiedThroughARestartAndACut(t *testing.T) {
	t.Parallel()
	k := start(t)
	proxy := redistest.NewProxy(t, k.Addr())
	l, waiter := openedAt(t, k, k.Addr(), storetest.KubeAdmin), openedAt(t, k, proxy.Addr(), storetest.KubeAdmin)
	for name, fault := range map[string]func(){
		"restarted":       k.Restart,
		"connections cut": proxy.Reset,
	} {
		t.Run(name, func(t *testing.T) {
			lease, err := l.TryAcquire(t.Context(), name, time.Hour)
			require.NoError(t, err)
			got := make(chan error, 1)
			go func() {
				next, err := lock.Acquire(t.Context(), waiter, name, time.Hour, nil)
				if err == nil {
					err = next.Release(t.Context())
				}
				got <- err
			}()
			waits := func() bool { // it is in the queue
				e, err := l.inspect(t.Context(), name)
				return err == nil && len(e.Record.Queue) > 0
			}
			require.Eventually(t, waits, 20*time.Second, 10*time.Millisecond)
			fault()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
			defer cancel()
			for lease.Release(ctx) != nil {
				require.NoError(t, ctx.Err())
			}
			select {
			case err := <-got:
				require.NoError(t, err)
			case <-ctx.Done():
				t.Fatal("the waiter was not woken within 50s; the fallback would come after a minute")
			}
		})
	}
}

// inspect is what the store has of a key.
func (l *Locker) inspect(ctx context.Context, key string) (record.Entry, error) {
	name, err := names.Name(key)
	if err != nil {
		return record.Entry{}, err
	}
	return l.store.Get(ctx, name)
}

func TestTheRightsThatThePageNamesSuffice(t *testing.T) {
	t.Parallel()
	k := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := openedAt(t, k, k.Addr(), storetest.KubeClerk).TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "get, create, update, watch and list on leases")
	_, err = openedAt(t, k, k.Addr(), storetest.KubeStranger).TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "check the token")

	k.Allow("locks", "get", "create", "update", "watch", "list")
	l, waiter := openedAt(t, k, k.Addr(), storetest.KubeClerk), openedAt(t, k, k.Addr(), storetest.KubeClerk)
	var lease lock.Lease
	require.Eventually(t, func() bool { // the server learns of a role by a watch
		lease, err = l.TryAcquire(ctx, "k", time.Minute)
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	require.NoError(t, lease.Extend(ctx, time.Minute))
	got := make(chan error, 1)
	go func() {
		next, err := lock.Acquire(ctx, waiter, "k", time.Minute, nil)
		if err == nil {
			err = next.Release(ctx)
		}
		got <- err
	}()
	require.Eventually(t, func() bool {
		e, err := l.inspect(ctx, "k")
		return err == nil && len(e.Record.Queue) > 0
	}, 20*time.Second, 10*time.Millisecond)
	for info, err := range l.List(ctx, "") {
		require.NoError(t, err)
		require.Equal(t, "k", info.Key)
	}
	require.NoError(t, lease.Release(ctx))
	require.NoError(t, <-got)
	h, err := l.Health(ctx)
	require.NoError(t, err)
	require.NoError(t, h.Nodes[0].Err)
	require.Empty(t, h.Nodes[0].Warnings)
	_, err = l.Prune(ctx, 0)
	require.NoError(t, err, "nothing is old enough to be deleted")
}

func TestANamespaceThatGoesTakesItsLocksAndIsARefusal(t *testing.T) {
	t.Parallel()
	k := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l := openedAt(t, k, k.Addr(), storetest.KubeAdmin)
	lease, err := l.TryAcquire(ctx, "k", time.Minute)
	require.NoError(t, err)
	k.Terminate("locks")
	require.NoError(t, lease.Extend(ctx, time.Minute), "what is there stays for a while")
	_, err = l.TryAcquire(ctx, "new", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable, "after a success it is an outage")
	fresh := openedAt(t, k, k.Addr(), storetest.KubeAdmin)
	_, err = fresh.TryAcquire(ctx, "new", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "being terminated")

	k.Finish("locks")
	require.ErrorIs(t, lease.Extend(ctx, time.Minute), lock.ErrLost)
	_, err = fresh.TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "create the namespace")
	require.ErrorIs(t, lease.Release(ctx), lock.ErrLost)
}

func TestAServerWithAnotherAuthorityIsNotTrusted(t *testing.T) {
	k := start(t)
	a, transport, err := server{host: k.Host(), ca: storetest.NewAuthority(t).File("ca.crt")}.open()
	require.NoError(t, err)
	defer transport.CloseIdleConnections()
	l, err := newLocker(a, &Options{Namespace: "locks"})
	require.NoError(t, err)
	defer l.Close()
	_, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "certificate")
}

func TestALeaderIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	k := start(t)
	leads := make(chan string)
	run := func(ctx context.Context, l lock.Locker, who string) {
		_ = leader.Run(ctx, l, "oracle", func(ctx context.Context) error {
			select {
			case leads <- who:
				<-ctx.Done()
			case <-ctx.Done():
			}
			return nil
		}, nil)
	}
	first, end := context.WithCancel(t.Context())
	go run(first, openedAt(t, k, k.Addr(), storetest.KubeAdmin), "a")
	require.Equal(t, "a", <-leads)
	second, done := context.WithCancel(t.Context())
	defer done()
	go run(second, openedAt(t, k, k.Addr(), storetest.KubeAdmin), "b")
	end()
	require.Equal(t, "b", <-leads)
}
