package mysql

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

// clerk is a user to whom read_only applies, and the DSN over an address.
func clerk(s *storetest.MySQL) func(addr string) string {
	s.Exec("CREATE USER clerk@'127.0.0.1' IDENTIFIED BY '" + storetest.Password + "'")
	s.Exec("GRANT ALL ON app.* TO clerk@'127.0.0.1'")
	return func(addr string) string { return fmt.Sprintf("clerk:%s@tcp(%s)/app", storetest.Password, addr) }
}

// A write that is never committed is confirmed, and gone with its connection.
func TestAHoldIsCommittedWhereAutocommitIsOffByDefault(t *testing.T) {
	s := storetest.StartMySQL(t, "--autocommit=0")
	for _, dsn := range []string{s.TCP("root", "app"), s.TCP("root", "app") + "?autocommit=0", s.TCP("root", "app") + "?AutoCommit=0"} {
		l, other := newLocker(t, dsn, nil), newLocker(t, dsn, nil)
		lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err, dsn)
		l.db.SetMaxIdleConns(0) // its connections end
		_, err = other.TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrHeld, dsn)
		require.NoError(t, lease.Extend(t.Context(), time.Minute))
		require.NoError(t, lease.Release(t.Context()))
	}
}

func TestKeysAreKeptWholeInAnyCharacterSetOfTheDSN(t *testing.T) {
	s := storetest.StartMySQL(t)
	for _, set := range []string{"gbk", "big5", "sjis", "latin1", "utf8mb4"} {
		l := newLocker(t, s.TCP("root", "app")+"?charset="+set, nil)
		for _, key := range []string{"é\"\\' OR 1=1 -- ", "中\"", "\xc3\xa9\\", "a\x00b"} {
			key += set
			lease, err := l.TryAcquire(t.Context(), key, time.Minute)
			require.NoError(t, err, "%s %q", set, key)
			info, err := l.Inspect(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, lease.Token(), info.Token)
			require.NoError(t, lease.Release(t.Context()))
		}
	}
}

// Two rows of one key would be two locks.
func TestATableThatLostItsPrimaryKeyIsRefusedAndHasNoTwoHolders(t *testing.T) {
	s := storetest.StartMySQL(t)
	lease, err := newLocker(t, s.DSN("app"), nil).TryAcquire(t.Context(), "first", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
	s.Exec("CREATE TABLE app.copy SELECT * FROM app.lockkeeper")
	l := newLocker(t, s.DSN("app"), &Options{Table: "copy"})
	s.Exec("INSERT INTO app.copy SELECT * FROM app.lockkeeper WHERE record LIKE '%first%'")
	_, err = l.TryAcquire(t.Context(), "first", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "primary key")
}

func TestMistakesThatAskingAgainDoesNotMendAreRefused(t *testing.T) {
	s := storetest.StartMySQL(t)
	s.Exec("CREATE TABLE app.plain (x int)")
	s.Exec("CREATE VIEW app.view AS SELECT 1 AS name, '' AS version, '' AS record, 0 AS stamp, '' AS clock")
	s.Exec("CREATE TABLE app.short (name VARBINARY(700) PRIMARY KEY, version VARBINARY(4) NOT NULL, record MEDIUMBLOB NOT NULL, stamp BIGINT NOT NULL, clock VARBINARY(600) NOT NULL)")
	for table, want := range map[string]string{
		"order": "name another", "plain": "name another", "view": "name another", "short": "name another", "information_schema.x": "name a table",
	} {
		_, err := newLocker(t, s.DSN("app"), &Options{Table: table}).TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrRefused, table)
		require.ErrorContains(t, err, want, table)
	}
	dsn := clerk(s)(s.Addr())
	_, err := newLocker(t, dsn+"?no_such_variable=1", nil).TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	for change, want := range map[string]string{"PASSWORD EXPIRE": "expired", "ACCOUNT LOCK": "unlock"} {
		s.Exec("ALTER USER clerk@'127.0.0.1' " + change)
		_, err := newLocker(t, dsn, nil).TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrRefused, change)
		require.ErrorContains(t, err, want)
		s.Exec("ALTER USER clerk@'127.0.0.1' IDENTIFIED BY '" + storetest.Password + "' ACCOUNT UNLOCK")
	}
	// What passes by itself is an outage.
	s.Exec("ALTER USER clerk@'127.0.0.1' WITH MAX_QUERIES_PER_HOUR 1")
	_, err = newLocker(t, dsn, nil).TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
}

func TestAConflictIsNoOutageAtAnyIsolation(t *testing.T) {
	s := storetest.StartMySQL(t, "--loose-innodb-snapshot-isolation=ON" /* not every version knows it */, "--transaction-isolation=SERIALIZABLE")
	storetest.Contend(t, 50, func() lock.Locker {
		return newLocker(t, s.TCP("root", "app"), &Options{Record: record.Options{Timeout: time.Minute}})
	})
}

// A switch-over leaves connections to the old primary open, which says no from then on.
func TestConnectionsToAServerThatBecameReadOnlyAreLeft(t *testing.T) {
	old, next := storetest.StartMySQL(t), storetest.StartMySQL(t)
	dsn := clerk(old)
	clerk(next)
	name := redistest.NewProxy(t, old.Addr())
	l := newLocker(t, dsn(name.Addr()), nil)
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
	old.Exec("SET GLOBAL read_only = 1")
	name.Target(next.Addr())
	_, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "name the primary server")
	lease, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
}

func TestASocketTakesThePlaceOfHostAndPort(t *testing.T) {
	s := storetest.StartMySQL(t)
	_, socket, _ := strings.Cut(s.DSN(""), "unix(")
	socket, _, _ = strings.Cut(socket, ")")
	for _, host := range []string{"", "localhost"} {
		l, err := openURL(t.Context(), "//root:"+storetest.Password+"@"+host+"/app?socket="+socket)
		require.NoError(t, err, host)
		lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err, host)
		require.NoError(t, lease.Release(t.Context()))
		require.NoError(t, l.(*Locker).Close())
	}
	for rest, want := range map[string]string{
		"//root:" + storetest.Password + "@/app":        "no host is named",
		"//root:" + storetest.Password + "@h1,h2/app":   "several hosts",
		"//root:" + storetest.Password + "@h1/app#":     "percent-encoded",
		"root:" + storetest.Password + "@tcp(h:1)/app":  "percent-encoded",
		"//root:" + storetest.Password + "@tcp(h:1)/ap": "percent-encoded",
	} {
		_, err := openURL(t.Context(), rest)
		require.ErrorIs(t, err, lock.ErrInvalid, rest)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), storetest.Password)
	}
}

func TestHealthWarnsOfATableThatACrashCanEmpty(t *testing.T) {
	s := storetest.StartMySQL(t)
	for table, dsn := range map[string]string{"Locks": s.DSN("app"), "app.Locks": s.DSN("")} {
		l := newLocker(t, dsn, &Options{Table: table})
		lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
		require.NoError(t, lease.Release(t.Context()))
		for engine, warnings := range map[string]int{"InnoDB": 0, "MyISAM": 1} {
			s.Exec("ALTER TABLE app.Locks ENGINE=" + engine)
			h, err := l.Health(t.Context())
			require.NoError(t, err)
			require.NoError(t, h.Nodes[0].Err)
			require.Len(t, h.Nodes[0].Warnings, warnings, "%s %v", engine, h.Nodes[0].Warnings)
		}
	}
}
