package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/conformtest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

func locker(t *testing.T, client *clientv3.Client, o *Options) *Locker {
	t.Helper()
	l, err := New(client, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// ofClient reports the goroutines of etcd's client, which is closed after its lockers.
func ofClient(stack string) bool {
	return strings.Contains(stack, "google.golang.org/grpc") || strings.Contains(stack, "go.etcd.io/etcd/client")
}

func TestStore(t *testing.T) {
	c := storetest.StartEtcd(t, 1)
	conformtest.Store(t, "etcd", recordtest.Stores{
		Dial:  func(t *testing.T) record.Store { return &store{client: dialed(t, c)} },
		Names: names(DefaultPrefix),
	})
}

func TestConformance(t *testing.T) {
	c := storetest.StartEtcd(t, 1)
	a, b := dialed(t, c), dialed(t, c)
	n := 0
	conformtest.Locks(t, "etcd", recordtest.Locks{
		Open: func(t *testing.T) func(t *testing.T) record.Store {
			return func(*testing.T) record.Store {
				n++
				return &store{client: []*clientv3.Client{a, b}[n%2]}
			}
		},
		Options:         &record.Options{Names: names("conformance/")},
		TTL:             400 * time.Millisecond,
		Late:            true,
		IgnoreGoroutine: ofClient,
		AllowSkips:      []string{"Wrap", "Skew"},
	}.Harness())
}

// acquire goes on through elections, which a cluster that is starved has at any moment.
func acquire(t *testing.T, l lock.Locker, key string, ttl time.Duration) lock.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lease, err := lock.Acquire(ctx, l, key, ttl, nil)
	require.NoError(t, err)
	return lease
}

// release tries until it succeeds, for the same reason.
func release(ctx context.Context, t *testing.T, lease lock.Lease) {
	t.Helper()
	for {
		err := lease.Release(ctx)
		if err == nil {
			return
		}
		require.NoError(t, ctx.Err(), "the last error of Release: %v", err)
		require.NotErrorIs(t, err, lock.ErrLost)
	}
}

// keep extends a lease until stop, through whatever fails.
func keep(t *testing.T, lease lock.Lease, ttl time.Duration, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-time.After(ttl / 10):
		}
		ctx, cancel := context.WithTimeout(t.Context(), ttl/3)
		err := lease.Extend(ctx, ttl)
		cancel()
		if errors.Is(err, lock.ErrLost) {
			return err
		}
	}
}

func TestALeaseSurvivesTheDeathOfTheClustersLeader(t *testing.T) {
	for name, fault := range map[string]func(m *storetest.Member) (mend func()){
		"killed": func(m *storetest.Member) func() { m.Kill(); return m.Restart },
		"hung":   func(m *storetest.Member) func() { m.Pause(); return m.Resume },
	} {
		t.Run(name, func(t *testing.T) {
			c := storetest.StartEtcd(t, 3)
			l, other := locker(t, dialed(t, c), nil), locker(t, dialed(t, c), nil)
			const ttl = 20 * time.Second
			lease := acquire(t, l, "k", ttl)
			stop, kept := make(chan struct{}), make(chan error, 1)
			go func() { kept <- keep(t, lease, ttl, stop) }()
			mend := fault(c.Leader())
			defer mend()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for { // the minority is dead: the key is refused, and others can be had
				_, err := other.TryAcquire(ctx, "k", ttl)
				if errors.Is(err, lock.ErrHeld) {
					break
				}
				require.ErrorIs(t, err, lock.ErrUnavailable)
			}
			acquire(t, other, "free", ttl)
			close(stop)
			require.NoError(t, <-kept)
			release(ctx, t, lease) // a request to the dead member fails, and may be repeated
			next := acquire(t, other, "k", ttl)
			require.Greater(t, next.Token(), lease.Token())
		})
	}
}

func TestWithoutAMajorityNothingIsGrantedAndItRecovers(t *testing.T) {
	c := storetest.StartEtcd(t, 3)
	l := locker(t, dialed(t, c), &Options{Record: record.Options{Timeout: 2 * time.Second}})
	release(t.Context(), t, acquire(t, l, "k", time.Minute))
	c.Members[0].Kill()
	c.Members[1].Pause()
	_, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	h, err := l.Health(t.Context())
	require.NoError(t, err)
	require.False(t, h.HasQuorum())
	require.NotEmpty(t, h.Nodes[0].Warnings)
	c.Members[1].Resume()
	c.Members[0].Restart()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = lock.Acquire(ctx, l, "k", time.Minute, nil)
	require.NoError(t, err)
}

func TestAWaiterIsNotifiedThroughAFailOver(t *testing.T) {
	c := storetest.StartEtcd(t, 3)
	client := dialed(t, c)
	l, waiter := locker(t, client, nil), locker(t, dialed(t, c), nil)
	lease := acquire(t, l, "k", time.Hour)
	got := make(chan error, 1)
	go func() {
		_, err := lock.Acquire(t.Context(), waiter, "k", time.Hour, nil)
		got <- err
	}()
	name := recordtest.Name(t, names(DefaultPrefix), "k")
	require.Eventually(t, func() bool { // it waits, which its place in the queue shows
		e, err := (&store{client: client}).Get(t.Context(), name)
		return err == nil && len(e.Record.Queue) > 0
	}, 50*time.Second, 10*time.Millisecond)
	c.Leader().Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	release(ctx, t, lease)
	select {
	case err := <-got:
		require.NoError(t, err)
	case <-ctx.Done():
		t.Fatal("the waiter was not woken within 50s; the fallback would come after a minute")
	}
}

func TestAUserWithRightsOnThePrefixAloneCanLock(t *testing.T) {
	c := storetest.StartEtcd(t, 1)
	admin, ctx := dialed(t, c), t.Context()
	password := rand.Text()
	_, err := admin.RoleAdd(ctx, "locks")
	require.NoError(t, err)
	_, err = admin.RoleGrantPermission(ctx, "locks", DefaultPrefix, clientv3.GetPrefixRangeEnd(DefaultPrefix), clientv3.PermissionType(clientv3.PermReadWrite))
	require.NoError(t, err)
	for user, role := range map[string]string{"root": "root", "clerk": "locks"} {
		_, err = admin.UserAdd(ctx, user, password)
		require.NoError(t, err)
		_, err = admin.UserGrantRole(ctx, user, role)
		require.NoError(t, err)
	}
	_, err = admin.AuthEnable(ctx)
	require.NoError(t, err)

	addr := c.Members[0].Addr()
	open := func(credentials, query string) *Locker {
		l, err := openURL(t.Context(), "http", "//"+credentials+addr+query)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, l.(*Locker).Close()) })
		return l.(*Locker)
	}
	l := open("clerk:"+password+"@", "")
	lease, err := l.TryAcquire(ctx, "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Extend(ctx, time.Minute))
	require.NoError(t, lease.Release(ctx))
	h, err := l.Health(ctx)
	require.NoError(t, err)
	require.NoError(t, h.Nodes[0].Err)

	_, err = open("clerk:"+password+"@", "?prefix=other/").TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "readwrite on the prefix")
	for _, credentials := range []string{"", "clerk@"} {
		nobody := open(credentials, "")
		_, err = nobody.TryAcquire(ctx, "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrRefused)
		require.ErrorContains(t, err, "a user and a password")
		h, err = nobody.Health(ctx)
		require.NoError(t, err)
		require.ErrorIs(t, h.Nodes[0].Err, lock.ErrRefused)
		require.Empty(t, h.Nodes[0].Warnings, "it answers")
	}
}

func TestAPrivateAuthorityAndClientCertificates(t *testing.T) {
	a := storetest.NewAuthority(t)
	a.Issue(t, storetest.Certificate{Name: "client"})
	m := storetest.StartEtcdTLS(t, a)
	files := "&tls-cert=" + a.File("client.crt") + "&tls-key=" + a.File("client.key")
	l, err := openURL(t.Context(), "https", "//"+m.Addr()+"?tls-ca="+a.File("ca.crt")+files)
	require.NoError(t, err)
	defer l.(*Locker).Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lease, err := lock.Acquire(ctx, l, "k", time.Minute, nil)
	require.NoError(t, err)
	require.NoError(t, lease.Release(ctx))
	for _, query := range []string{"?tls-ca=" + a.File("ca.crt"), "?tls-ca=" + storetest.NewAuthority(t).File("ca.crt") + files} {
		l, err := openURL(t.Context(), "https", "//"+m.Addr()+query)
		require.NoError(t, err)
		defer l.(*Locker).Close()
		err = explained("certificate", func() error {
			_, err := l.TryAcquire(ctx, "k", time.Minute)
			return err
		})
		require.ErrorIs(t, err, lock.ErrUnavailable, query)
		require.ErrorContains(t, err, "certificate", query)
	}
}

func TestURLsThatCanNotBeUsedAreRefusedWithoutTheirPassword(t *testing.T) {
	for _, rest := range []string{"", "h", "//", "//u:s3cret@", "//u:s3cret@h:x", "//h/path", "//h?tabel=x", "//h,,i", "//h?tls-ca=/missing", "//u:s3cret%zz@h"} {
		_, err := openURL(t.Context(), "http", rest)
		require.ErrorIs(t, err, lock.ErrInvalid, rest)
		require.NotContains(t, err.Error(), "s3cret")
	}
	_, err := New(nil, nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
}

func TestALeaderIsFollowedByAnother(t *testing.T) {
	c := storetest.StartEtcd(t, 1)
	a, b := locker(t, dialed(t, c), nil), locker(t, dialed(t, c), nil)
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
	go run(first, a, "a")
	require.Equal(t, "a", <-leads)
	second, done := context.WithCancel(t.Context())
	defer done()
	go run(second, b, "b")
	end()
	require.Equal(t, "b", <-leads)
}
