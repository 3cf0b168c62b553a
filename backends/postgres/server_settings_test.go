package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

// A hung host is as one whose machine is gone: it takes connections or not, and never answers.
func TestAHostThatHangsKeepsNobodyFromTheNextOne(t *testing.T) {
	hung, alive := storetest.StartPostgres(t), storetest.StartPostgres(t)
	hung.Pause()
	t.Cleanup(hung.Resume)
	for _, query := range []string{"?sslmode=disable", ""} {
		dsn := fmt.Sprintf("postgres://admin:%s@127.0.0.1:%d,127.0.0.1:%d/app%s", storetest.Password, hung.Port(), alive.Port(), query)
		l := newLocker(t, dsn, &Options{Record: record.Options{Timeout: 30 * time.Second}})
		lease, err := l.TryAcquire(t.Context(), "k", time.Hour) // what follows takes its time
		require.NoError(t, err, query)
		// Neither does it where a request has less time than a host's share.
		other := newLocker(t, dsn+strings.Replace("?connect_timeout=60", "?", map[bool]string{true: "?", false: "&"}[query == ""], 1), &Options{Record: record.Options{Timeout: 30 * time.Second}})
		for i := 0; i < 100 && other.store.listener.hosts.first.Load() == 0; i++ { // a busy machine may not get to connecting
			short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			_, err = other.TryAcquire(short, "k", time.Minute)
			cancel()
			require.Error(t, err)
		}
		_, err = other.TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrHeld, query)
		// The connection that listens finds the same host.
		got := waitFor(t, other, "k")
		require.NoError(t, lease.Release(t.Context()))
		require.NoError(t, <-got)
		freed, err := l.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.NoError(t, l.ForceRelease(t.Context(), "k", freed.Token))
	}
}

func TestAConflictIsNoOutageAtAnyIsolation(t *testing.T) {
	s := storetest.StartPostgres(t)
	for _, level := range []string{"serializable", "repeatable read"} {
		s.Exec("app", "ALTER DATABASE app SET default_transaction_isolation = '"+level+"'")
		storetest.Contend(t, 30, func() lock.Locker {
			return newLocker(t, s.URL("admin", "app"), &Options{Record: record.Options{Timeout: time.Minute}})
		})
	}
}

// Two schemas with a table of the same name, as one for each tenant.
func TestAReleaseInAnotherSchemaIsNotTakenForOneInThis(t *testing.T) {
	s := storetest.StartPostgres(t)
	url := map[string]string{}
	for _, tenant := range []string{"one", "two"} {
		s.Exec("app", "CREATE SCHEMA "+tenant)
		url[tenant] = s.URL("admin", "app") + "&search_path=" + tenant
	}
	l, waiter, other := newLocker(t, url["one"], nil), newLocker(t, url["one"], nil), newLocker(t, url["two"], nil)
	lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
	require.NoError(t, err)
	got := waitFor(t, waiter, "k")

	receives := make(chan *record.Entry, 100)
	stop, err := waiter.store.Watch(t.Context(), recordtest.Name(t, names, "k"), func(e *record.Entry) { receives <- e })
	require.NoError(t, err)
	theirs, err := other.TryAcquire(t.Context(), "k", time.Hour)
	require.NoError(t, err)
	require.NoError(t, theirs.Release(t.Context()))
	for e := range receives { // a look is asked for, and no state of theirs is shown
		require.Nil(t, e)
		if len(receives) == 0 {
			break
		}
	}
	stop()
	info, err := waiter.Inspect(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, lease.Token(), info.Token, "it is held")

	require.NoError(t, lease.Release(t.Context()))
	require.NoError(t, <-got)
}

func TestOneTableHasOneChannelHoweverItIsNamed(t *testing.T) {
	s := storetest.StartPostgres(t)
	var channels []string
	for _, table := range []string{"", "lockkeeper", "LockKeeper", "public.lockkeeper", "PUBLIC.lockkeeper"} {
		l := newLocker(t, s.URL("admin", "app"), &Options{Table: table})
		channels = append(channels, l.store.listener.channel)
		require.Equal(t, channels[0], channels[len(channels)-1], table)
		lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err)
		waiter := newLocker(t, s.URL("admin", "app"), nil)
		got := waitFor(t, waiter, "k")
		require.NoError(t, lease.Release(t.Context()))
		require.NoError(t, <-got)
		info, err := l.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.NoError(t, l.ForceRelease(t.Context(), "k", info.Token))
	}
}

func TestKeysOfAnyScriptAreReleasedInADatabaseOfAnyEncoding(t *testing.T) {
	s := storetest.StartPostgres(t)
	s.Exec("postgres", "CREATE DATABASE japanese ENCODING 'EUC_JP' LOCALE 'C' TEMPLATE template0")
	l, waiter := newLocker(t, s.URL("admin", "japanese"), nil), newLocker(t, s.URL("admin", "japanese"), nil)
	for _, key := range []string{"é", "中文", "🔒\\\"", "a\x00b"} {
		lease, err := l.TryAcquire(t.Context(), key, time.Hour)
		require.NoError(t, err, key)
		got := waitFor(t, waiter, key)
		require.NoError(t, lease.Release(t.Context()), key)
		require.NoError(t, <-got)
	}
}

func TestAnAgeIsKnownInAnyTimeZone(t *testing.T) {
	s := storetest.StartPostgres(t)
	_, err := newLocker(t, s.URL("admin", "app"), nil).TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	s.Exec("app", "ALTER DATABASE app SET timezone = 'Asia/Kathmandu'")
	s.Exec("app", "ALTER DATABASE app SET datestyle = 'SQL, DMY'")
	e, err := newLocker(t, s.URL("admin", "app"), nil).store.Get(t.Context(), recordtest.Name(t, names, "k"))
	require.NoError(t, err)
	require.Positive(t, e.Age, "the same server stamped it")
}

func TestATableWithoutAPrimaryKeyIsRefused(t *testing.T) {
	s := storetest.StartPostgres(t)
	lease, err := newLocker(t, s.URL("admin", "app"), nil).TryAcquire(t.Context(), "first", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
	s.Exec("app", "CREATE TABLE copy AS SELECT * FROM lockkeeper")
	l := newLocker(t, s.URL("admin", "app"), &Options{Table: "copy"})
	_, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "primary key")
	s.Exec("app", "INSERT INTO copy SELECT * FROM lockkeeper")
	_, err = l.TryAcquire(t.Context(), "first", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "primary key")
}

func TestMistakesThatAskingAgainDoesNotMendAreRefused(t *testing.T) {
	s := storetest.StartPostgres(t)
	const columns = "name bytea PRIMARY KEY, version text NOT NULL, record bytea NOT NULL, stamp bigint NOT NULL, clock text NOT NULL"
	s.Exec("app", "CREATE TABLE plain (x int)")
	s.Exec("app", "CREATE TABLE more ("+columns+", x int NOT NULL)")
	s.Exec("app", "CREATE TABLE short ("+strings.Replace(columns, "version text", "version varchar(4)", 1)+")")
	s.Exec("app", "CREATE TABLE numbers ("+strings.Replace(columns, "name bytea", "name int", 1)+")")
	s.Exec("app", "CREATE MATERIALIZED VIEW view AS SELECT * FROM more")
	for table, want := range map[string]string{
		"order": "name another", "plain": "name another", "more": "name another", "short": "name another", "numbers": "name another", "view": "primary key",
	} {
		_, err := newLocker(t, s.URL("admin", "app"), &Options{Table: table}).TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrRefused, table)
		require.ErrorContains(t, err, want, table)
	}
	_, err := New(s.URL("admin", "app"), &Options{Table: "pg_temp.locks"})
	require.ErrorIs(t, err, lock.ErrInvalid, "each connection would have its own")

	s.Exec("app", "ALTER DATABASE app SET default_transaction_read_only = on")
	for _, query := range []string{"?sslmode=disable", ""} { // with several ways to connect, connecting finds it out
		_, err = newLocker(t, fmt.Sprintf("postgres://admin:%s@%s/app%s", storetest.Password, s.Addr(), query), nil).TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "default_transaction_read_only")
	}
}

func TestAURLsParametersReachTheServerAsTheyAre(t *testing.T) {
	s := storetest.StartPostgres(t)
	s.Exec("app", "CREATE SCHEMA locks")
	rest := "//admin:" + storetest.Password + "@" + s.Addr() + "/app?sslmode=disable"
	for _, query := range []string{"&options=-c%20search_path%3Dlocks&application_name=my+app", "&search_path=locks&application_name=my%20app"} {
		l, err := open(t.Context(), rest+query)
		require.NoError(t, err)
		_, err = l.TryAcquire(t.Context(), "k"+query, time.Minute)
		require.NoError(t, err)
		var name, schema string
		require.NoError(t, l.(*Locker).db.QueryRow("SELECT current_setting('application_name'), current_schema()").Scan(&name, &schema))
		require.Equal(t, "my app locks", name+" "+schema)
		require.NoError(t, l.(*Locker).Close())
	}
}

func TestWhatIsWrongWithAURLIsSaidWithoutItsPassword(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "not.pem")
	require.NoError(t, os.WriteFile(notPEM, []byte("text"), 0o600))
	for rest, want := range map[string]string{
		"//u:s3@cret@h/app":                            "%40",
		"//u@example.com:cret@h/app":                   "%40",
		"//u:cret@h/app?tls-ca=/missing":               "/missing",
		"//u:cret@h/app?tls-ca=" + notPEM:              "configure TLS",
		"//u:cret@h/app?sslmode=cret":                  "sslmode",
		"//u:cret@h/app?connect_timeout=soon":          "connect_timeout",
		"//u:cret@h/app?service=none&servicefile=/no":  "service",
		"//u:cret@h/app?target_session_attrs=anything": "target_session_attrs",
		"//u:%zzcret@h/app":                            "not a URL",
		"//u:cret@h:port/app":                          "not a URL",
		"//u:cret/x@h/app":                             "not a URL",
	} {
		_, err := open(t.Context(), rest)
		require.ErrorIs(t, err, lock.ErrInvalid, rest)
		require.ErrorContains(t, err, want, rest)
		require.NotContains(t, err.Error(), "cret", rest)
	}
}

// Another transaction may make the table, and take its time.
func TestWhoWaitsForTheTableToBeMadeWaitsNoLongerThanItsContext(t *testing.T) {
	s := storetest.StartPostgres(t)
	l := newLocker(t, s.URL("admin", "app"), nil)
	db := s.Open("app")
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.Exec(l.store.CreateStatement())
	require.NoError(t, err)
	first := make(chan error, 1)
	go func() {
		_, err := l.store.Get(t.Context(), "k")
		first <- err
	}()
	require.Eventually(t, func() bool {
		var n int
		return db.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").Scan(&n) == nil && n > 0
	}, 20*time.Second, 10*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = l.store.Get(ctx, "k")
	require.Error(t, err)
	require.Empty(t, first, "it still waits")
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-first)
	require.False(t, errors.Is(err, lock.ErrRefused))
}

func TestHealthWarnsOfATableThatACrashEmpties(t *testing.T) {
	s := storetest.StartPostgres(t)
	l := newLocker(t, s.URL("admin", "app"), &Options{Table: "public.Locks"})
	_, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	for change, warnings := range map[string]int{"LOGGED": 0, "UNLOGGED": 1} {
		s.Exec("app", "ALTER TABLE locks SET "+change)
		h, err := l.Health(t.Context())
		require.NoError(t, err)
		require.NoError(t, h.Nodes[0].Err)
		require.Len(t, h.Nodes[0].Warnings, warnings)
	}
}
