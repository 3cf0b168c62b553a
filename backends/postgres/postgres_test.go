package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
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
		cfg, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
		s, err := newStore(newLocker(t, dsn, nil).db, newHosts(cfg, 5*time.Second), table)
		require.NoError(t, err)
		t.Cleanup(s.listener.close)
		return s
	}
}

func TestStore(t *testing.T) {
	s := storetest.StartPostgres(t)
	conformtest.Store(t, "Postgres", recordtest.Stores{Dial: dial(s.URL("admin", "app"), ""), Names: names, Ages: true})
}

func TestConformance(t *testing.T) {
	s := storetest.StartPostgres(t)
	conformtest.Locks(t, "Postgres", recordtest.Locks{
		Open: func(t *testing.T) func(t *testing.T) record.Store {
			return dial(s.URL("admin", "app"), "")
		},
		Options:    &record.Options{Names: names},
		TTL:        400 * time.Millisecond,
		Late:       true,
		AllowSkips: []string{"Wrap", "Skew"},
	}.Harness())
}

func TestAUserWhoMayOnlyTouchTheTableCanLock(t *testing.T) {
	s := storetest.StartPostgres(t)
	s.Exec("app", "CREATE ROLE clerk LOGIN PASSWORD '"+storetest.Password+"'")
	s.Exec("app", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	l := newLocker(t, s.URL("clerk", "app"), nil)
	_, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused, "it may not make the table")
	require.ErrorContains(t, err, "CREATE TABLE IF NOT EXISTS lockkeeper (name bytea")
	require.NotContains(t, err.Error(), storetest.Password)

	lease, err := newLocker(t, s.URL("admin", "app"), nil).TryAcquire(t.Context(), "made", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
	_, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "grant this user")

	s.Exec("app", "GRANT SELECT, INSERT, UPDATE, DELETE ON lockkeeper TO clerk")
	lease, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Extend(t.Context(), time.Minute))
	require.NoError(t, lease.Release(t.Context()))
	h, err := l.Health(t.Context())
	require.NoError(t, err)
	require.NoError(t, h.Nodes[0].Err)
	require.Empty(t, h.Nodes[0].Warnings)
}

func TestMistakesHaveClearErrors(t *testing.T) {
	s := storetest.StartPostgres(t)
	for dsn, want := range map[string]string{
		strings.Replace(s.URL("admin", "app"), storetest.Password, "wrong", 1): "check user and password",
		s.URL("admin", "missing"): "make the database",
	} {
		_, err := newLocker(t, dsn, nil).TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrRefused)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), storetest.Password)
	}
	gone := newLocker(t, fmt.Sprintf("postgres://u:%s@127.0.0.1:%d/app?sslmode=disable", storetest.Password, redistest.FreePort(t)), nil)
	_, err := gone.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "refused")
	require.NotContains(t, err.Error(), storetest.Password)
	for _, rest := range []string{"app", "//u:" + storetest.Password + "@h:x/app", "//h/app?tabel=x", "//h/app#x", "//h/app?poll=5"} {
		_, err := open(t.Context(), rest)
		require.ErrorIs(t, err, lock.ErrInvalid, rest)
		require.NotContains(t, err.Error(), storetest.Password)
	}
}

func TestAURLOpensWhatItNames(t *testing.T) {
	s := storetest.StartPostgres(t)
	l, err := open(t.Context(), strings.TrimPrefix(s.URL("admin", "app"), "postgres:")+"&table=locks&owner=me")
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
	s := storetest.StartPostgres(t)
	s.Exec("app", "CREATE ROLE clerk LOGIN PASSWORD '"+storetest.Password+"'")
	s.Exec("app", "GRANT CREATE ON SCHEMA public TO clerk")
	a := storetest.NewAuthority(t)
	s.UseTLS(a)
	url := fmt.Sprintf("//clerk:%s@%s/app", storetest.Password, s.Addr())
	for query, want := range map[string]string{
		"?tls-ca=" + a.File("ca.crt"):                          "",
		"?sslmode=verify-full&sslrootcert=" + a.File("ca.crt"): "",
		"?sslmode=verify-full":                                 "unknown authority",
		"?sslmode=disable":                                     "pg_hba.conf",
		"?tls-ca=" + storetest.NewAuthority(t).File("ca.crt"):  "unknown authority",
	} {
		l, err := open(t.Context(), url+query)
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

// waitFor has a process wait for key, and returns when it has been refused and listens.
func waitFor(t *testing.T, l *Locker, key string) <-chan error {
	t.Helper()
	got := make(chan error, 1)
	go func() {
		_, err := lock.Acquire(t.Context(), l, key, time.Hour, nil)
		got <- err
	}()
	require.Eventually(t, func() bool { return inQueue(t, l, key) }, 20*time.Second, 10*time.Millisecond)
	return got
}

// inQueue reports whether anybody is in key's queue.
func inQueue(t *testing.T, l *Locker, key string) bool {
	e, err := l.store.Get(t.Context(), recordtest.Name(t, names, key))
	return err == nil && len(e.Record.Queue) > 0
}

func TestAWaiterIsNotifiedOfARelease(t *testing.T) {
	s := storetest.StartPostgres(t)
	l, waiter := newLocker(t, s.URL("admin", "app"), nil), newLocker(t, s.URL("admin", "app"), nil)
	lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
	require.NoError(t, err)
	got := waitFor(t, waiter, "k")
	require.NoError(t, lease.Release(t.Context()))
	select {
	case err := <-got:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("not notified")
	}
}

func TestAWaiterListensAgainAfterItsConnectionWasEnded(t *testing.T) {
	s := storetest.StartPostgres(t)
	l, waiter := newLocker(t, s.URL("admin", "app"), nil), newLocker(t, s.URL("admin", "app"), nil)
	lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
	require.NoError(t, err)
	got := waitFor(t, waiter, "k")
	s.Exec("app", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()")
	require.NoError(t, lease.Release(t.Context()))
	select {
	case err := <-got:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("not notified: the fallback would come after a minute")
	}
}

func TestALeaseSurvivesAServerThatIsKilledAndComesBack(t *testing.T) {
	s := storetest.StartPostgres(t)
	l, other := newLocker(t, s.URL("admin", "app"), nil), newLocker(t, s.URL("admin", "app"), nil)
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
		time.Sleep(50 * time.Millisecond)
	}
	_, err = other.TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrHeld)
	require.NoError(t, lease.Release(ctx))
}

func TestAServerThatHangsEndsNoLeaseLaterThanItsExpiry(t *testing.T) {
	s := storetest.StartPostgres(t)
	l := newLocker(t, s.URL("admin", "app"), nil)
	lease, err := l.TryAcquire(t.Context(), "k", 3*time.Second)
	require.NoError(t, err)
	s.Pause()
	err = lease.Extend(t.Context(), 3*time.Second)
	s.Resume() // the extend is applied now, perhaps
	require.ErrorIs(t, err, lock.ErrLost)
	next, err := lock.Acquire(t.Context(), newLocker(t, s.URL("admin", "app"), nil), "k", 3*time.Second, nil)
	require.NoError(t, err)
	require.Greater(t, next.Token(), lease.Token())
}

// untilSynchronous returns when a commit of the primary waits for the standby: the server's
// processes take a new setting in one by one.
func untilSynchronous(t *testing.T, primary, standby *storetest.Postgres) {
	t.Helper()
	primary.Exec("app", "CREATE TABLE probe (n int)")
	db := primary.Open("app")
	defer db.Close()
	waits := func() bool {
		var n int
		require.NoError(t, db.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").Scan(&n))
		return n > 0
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	for seen := false; !seen; {
		require.NoError(t, ctx.Err())
		standby.Pause()
		committed := make(chan error, 1)
		go func() { committed <- primary.Try("app", "INSERT INTO probe VALUES (1)") }()
		for seen = waits(); !seen && len(committed) == 0; seen = waits() {
			time.Sleep(time.Millisecond)
		}
		standby.Resume()
		require.NoError(t, <-committed)
	}
}

func TestASynchronousStandbyThatIsPromotedKeepsALease(t *testing.T) {
	primary := storetest.StartPostgres(t)
	standby := primary.Standby()
	primary.Exec("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")
	primary.Exec("postgres", "SELECT pg_reload_conf()")
	untilSynchronous(t, primary, standby)
	dsn := fmt.Sprintf("postgres://admin:%s@127.0.0.1:%d,127.0.0.1:%d/app?sslmode=disable", storetest.Password, primary.Port(), standby.Port())
	l, other := newLocker(t, dsn, nil), newLocker(t, dsn, nil)
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	primary.Kill()
	standby.Exec("postgres", "SELECT pg_promote()")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	for lease.Extend(ctx, time.Minute) != nil {
		require.NoError(t, ctx.Err())
		time.Sleep(50 * time.Millisecond)
	}
	_, err = other.TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrHeld)
	require.NoError(t, lease.Release(ctx))
	next, err := other.TryAcquire(ctx, "k", time.Minute)
	require.NoError(t, err)
	require.Greater(t, next.Token(), lease.Token())
}

func TestAStampOfBeforeAFailOverSaysNothing(t *testing.T) {
	primary := storetest.StartPostgres(t)
	standby := primary.Standby("hot_standby = on")
	l := newLocker(t, primary.URL("admin", "app"), nil)
	_, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	name := recordtest.Name(t, names, "k")
	ages := func(s *storetest.Postgres) (present bool, age time.Duration) {
		store := dial(s.URL("admin", "app"), "")(t)
		e, err := store.Get(t.Context(), name)
		return err == nil && e.Version != "", e.Age
	}
	require.Eventually(t, func() bool { ok, _ := ages(standby); return ok }, 20*time.Second, 50*time.Millisecond)
	_, age := ages(primary)
	require.Positive(t, age)
	primary.Kill()
	standby.Exec("postgres", "SELECT pg_promote()")
	_, age = ages(standby)
	require.Zero(t, age, "another server's clock stamped it")
}

func TestASettingOfAsynchronousCommitDoesNotReachALock(t *testing.T) {
	s := storetest.StartPostgres(t)
	s.Exec("app", "ALTER DATABASE app SET synchronous_commit = off")
	l := newLocker(t, s.URL("admin", "app"), nil)
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	name := recordtest.Name(t, names, "k")
	require.NoError(t, lease.Extend(t.Context(), time.Minute))
	before, err := l.store.Get(t.Context(), name)
	require.NoError(t, err)
	s.Kill() // within the 0.2 s in which the log is not yet written where it is off
	s.Restart()
	require.Eventually(t, func() bool {
		e, err := l.store.Get(t.Context(), name)
		return err == nil && e.Version == before.Version
	}, 20*time.Second, 20*time.Millisecond, "an extend that was confirmed is gone")
}

func TestBehindAPoolerThatDeliversNoNotificationsWaitersPoll(t *testing.T) {
	s := storetest.StartPostgres(t)
	port := s.Pooler()
	dsn := fmt.Sprintf("postgres://admin:%s@127.0.0.1:%d/app?sslmode=disable", storetest.Password, port)
	l, waiter := newLocker(t, dsn, nil), newLocker(t, dsn, nil)
	var lease lock.Lease
	require.Eventually(t, func() bool {
		var err error
		lease, err = l.TryAcquire(t.Context(), "k", time.Hour)
		return err == nil
	}, 20*time.Second, 50*time.Millisecond)
	got := waitFor(t, waiter, "k")
	require.NoError(t, lease.Extend(t.Context(), time.Hour))
	require.NoError(t, lease.Release(t.Context()))
	select {
	case err := <-got:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("it listens for what never comes")
	}
	require.False(t, errors.Is(l.Close(), lock.ErrUnavailable))
}

// The driver tries an address with TLS and without.
func TestAnOutageIsSaidOnceForEachAddress(t *testing.T) {
	a, b := redistest.FreePort(t), redistest.FreePort(t)
	l := newLocker(t, fmt.Sprintf("postgres://u:%s@127.0.0.1:%d,127.0.0.1:%d/app", storetest.Password, a, b), nil)
	_, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	for _, port := range []int{a, b} {
		require.Equal(t, 1, strings.Count(err.Error(), fmt.Sprintf("127.0.0.1:%d (", port)), err)
	}
	require.Contains(t, err.Error(), "refused")
	require.NotContains(t, err.Error(), storetest.Password)
}
