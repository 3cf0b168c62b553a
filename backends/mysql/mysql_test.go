package mysql

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	rows "github.com/tonsurance/lockkeeper/backends/sql"
	"github.com/tonsurance/lockkeeper/internal/conformtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

func newLocker(t *testing.T, dsn string, o *Options) *Locker {
	t.Helper()
	l, err := New(dsn, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func dial(dsn, table string) func(t *testing.T) record.Store {
	return func(t *testing.T) record.Store {
		store, err := rows.NewStore(newLocker(t, dsn, nil).db, table, dialect)
		require.NoError(t, err)
		return store
	}
}

func TestStore(t *testing.T) {
	s := storetest.StartMySQL(t)
	conformtest.Store(t, "MariaDB", recordtest.Stores{Dial: dial(s.DSN("app"), ""), Names: names, Ages: true})
}

func TestConformance(t *testing.T) {
	s := storetest.StartMySQL(t)
	n := 0
	conformtest.Locks(t, "MariaDB", recordtest.Locks{
		Open: func(t *testing.T) func(t *testing.T) record.Store {
			n++
			return dial(s.DSN("app"), "locks_"+strings.Repeat("x", n%7))
		},
		Options:    &record.Options{Names: names, Poll: 10 * time.Millisecond},
		TTL:        300 * time.Millisecond,
		Late:       true,
		AllowSkips: []string{"Wrap", "Skew"},
	}.Harness())
}

func TestAUserWhoMayOnlyTouchTheTableCanLock(t *testing.T) {
	s := storetest.StartMySQL(t)
	s.Exec("CREATE USER clerk@'127.0.0.1' IDENTIFIED BY '" + storetest.Password + "'")
	refused := newLocker(t, s.TCP("clerk", ""), &Options{Table: "app.lockkeeper"})
	_, err := refused.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.NotContains(t, err.Error(), storetest.Password)

	s.Exec("GRANT SELECT, INSERT, UPDATE, DELETE ON app.* TO clerk@'127.0.0.1'")
	l := newLocker(t, s.TCP("clerk", "app"), nil)
	_, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused, "it may not make the table")
	require.ErrorContains(t, err, "CREATE TABLE IF NOT EXISTS lockkeeper (name VARBINARY")
	s.Exec("REVOKE SELECT, INSERT, UPDATE, DELETE ON app.* FROM clerk@'127.0.0.1'")

	lease, err := newLocker(t, s.DSN("app"), nil).TryAcquire(t.Context(), "made", time.Minute) // root makes it
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
	s.Exec("GRANT SELECT, INSERT, UPDATE, DELETE ON app.lockkeeper TO clerk@'127.0.0.1'")
	l = newLocker(t, s.TCP("clerk", "app"), nil)
	lease, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Extend(t.Context(), time.Minute))
	require.NoError(t, lease.Release(t.Context()))
	h, err := l.Health(t.Context())
	require.NoError(t, err)
	require.NoError(t, h.Nodes[0].Err)
	require.Empty(t, h.Nodes[0].Warnings, "%v", h.Nodes[0].Facts)
}

func TestMistakesHaveClearErrors(t *testing.T) {
	s := storetest.StartMySQL(t)
	for dsn, want := range map[string]string{
		strings.Replace(s.TCP("root", "app"), storetest.Password, "wrong", 1): "check user and password",
		s.TCP("root", "missing"): "make the database",
	} {
		_, err := newLocker(t, dsn, nil).TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrRefused)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), storetest.Password)
	}
	_, err := New("root:"+storetest.Password+"@nowhere", nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.NotContains(t, err.Error(), storetest.Password)
	_, err = New(s.DSN(""), nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "database")
	for _, rest := range []string{"//root:" + storetest.Password + "@h:x/app", "app", "//h/app?tabel=x", "//h/app#x"} {
		_, err := openURL(t.Context(), rest)
		require.ErrorIs(t, err, lock.ErrInvalid, rest)
		require.NotContains(t, err.Error(), storetest.Password)
	}
}

func TestAURLOpensWhatItNames(t *testing.T) {
	s := storetest.StartMySQL(t)
	l, err := openURL(t.Context(), "//root:"+storetest.Password+"@"+s.Addr()+"/app?table=locks&owner=me")
	require.NoError(t, err)
	defer l.(*Locker).Close()
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	info, err := l.(*Locker).Inspect(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "me", info.Holder)
	require.NoError(t, lease.Release(t.Context()))
}

func TestAPrivateAuthorityIsTrustedByItsFile(t *testing.T) {
	a := storetest.NewAuthority(t)
	a.Issue(t, storetest.Certificate{Name: "mysql"})
	s := storetest.StartMySQL(t, "--ssl-ca="+a.File("ca.crt"), "--ssl-cert="+a.File("mysql.crt"), "--ssl-key="+a.File("mysql.key"), "--require-secure-transport=ON")
	url := "//root:" + storetest.Password + "@" + s.Addr() + "/app"
	for query, want := range map[string]string{
		"?tls-ca=" + a.File("ca.crt"): "",
		"?tls=true":                   "unknown authority",
		"":                            "wants TLS",
	} {
		l, err := openURL(t.Context(), url+query)
		require.NoError(t, err, query)
		lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
		if want == "" {
			require.NoError(t, err, query)
			require.NoError(t, lease.Release(t.Context()))
		} else {
			require.ErrorContains(t, err, want, query)
			require.NotContains(t, err.Error(), storetest.Password)
		}
		require.NoError(t, l.(*Locker).Close())
	}
}

func TestALeaseSurvivesAServerThatIsKilledAndComesBack(t *testing.T) {
	s := storetest.StartMySQL(t)
	l, other := newLocker(t, s.TCP("root", "app"), nil), newLocker(t, s.TCP("root", "app"), nil)
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	s.Kill()
	require.ErrorIs(t, lease.Extend(t.Context(), time.Minute), lock.ErrUnavailable)
	_, err = other.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	s.Restart()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	for lease.Extend(ctx, time.Minute) != nil {
		require.NoError(t, ctx.Err())
		time.Sleep(100 * time.Millisecond)
	}
	_, err = other.TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrHeld)
	require.NoError(t, lease.Release(ctx))
}

func TestAServerThatHangsEndsNoLeaseLaterThanItsExpiry(t *testing.T) {
	s := storetest.StartMySQL(t)
	l := newLocker(t, s.TCP("root", "app"), nil)
	lease, err := l.TryAcquire(t.Context(), "k", 3*time.Second)
	require.NoError(t, err)
	s.Pause()
	defer s.Resume()
	began := time.Now()
	err = lease.Extend(t.Context(), 3*time.Second)
	require.ErrorIs(t, err, lock.ErrLost)
	require.Less(t, time.Since(began), 20*time.Second)
	s.Resume() // the extend is applied now, perhaps
	next, err := lock.Acquire(t.Context(), newLocker(t, s.TCP("root", "app"), nil), "k", 3*time.Second, nil)
	require.NoError(t, err)
	require.Greater(t, next.Token(), lease.Token())
}

func TestHealthWarnsOfWhatItReadAndOfNothingElse(t *testing.T) {
	away := newLocker(t, fmt.Sprintf("u:%s@tcp(127.0.0.1:%d)/app", storetest.Password, redistest.FreePort(t)), nil)
	h, err := away.Health(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, h.Nodes[0].Err, lock.ErrUnavailable)
	require.Empty(t, h.Nodes[0].Warnings, "it is not known to be read-only, or to lose writes")

	s := storetest.StartMySQL(t, "--sysdate-is-now")
	h, err = newLocker(t, s.DSN("app"), nil).Health(t.Context())
	require.NoError(t, err)
	require.NoError(t, h.Nodes[0].Err)
	require.Len(t, h.Nodes[0].Warnings, 1)
	require.Contains(t, h.Nodes[0].Warnings[0], "sysdate-is-now is on")
}
