package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/conformtest"
	"github.com/tonsurance/lockkeeper/internal/filesystem"
	"github.com/tonsurance/lockkeeper/lock"
)

// dial opens one more client of the database at path.
func dial(path string) func(t *testing.T) record.Store {
	return func(t *testing.T) record.Store {
		t.Helper()
		l, err := New(path, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, l.Close()) })
		return l.store
	}
}

func TestStore(t *testing.T) {
	conformtest.Store(t, "SQLite", recordtest.Stores{Dial: dial(filepath.Join(t.TempDir(), "locks.db")), Names: record.Names{Max: 1000}, Ages: true})
}

func TestConformance(t *testing.T) {
	conformtest.Locks(t, "SQLite", recordtest.Locks{
		Open: func(t *testing.T) func(t *testing.T) record.Store {
			return dial(filepath.Join(t.TempDir(), "locks.db"))
		},
		Options:    &record.Options{Names: record.Names{Max: 1000}, Poll: 10 * time.Millisecond},
		TTL:        300 * time.Millisecond,
		Late:       true,
		AllowSkips: []string{"Wrap", "Skew"}, // no wall clock decides
	}.Harness())
}

func TestWhatCanNotBeOpenedIsRefusedWithWhatToDo(t *testing.T) {
	dir := t.TempDir()
	noDB := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(noDB, []byte("this is no database, but a text of some length"), 0o600))
	for path, want := range map[string]string{
		filepath.Join(dir, "missing", "locks.db"): "directory must exist",
		noDB: "name another file",
	} {
		l, err := New(path, nil)
		require.NoError(t, err)
		_, err = l.TryAcquire(t.Context(), "k", time.Second)
		require.ErrorIs(t, err, lock.ErrRefused, path)
		require.ErrorContains(t, err, want)
		require.NoError(t, l.Close())
	}
	for _, path := range []string{"", ":memory:", "a\x00b"} {
		_, err := New(path, nil)
		require.ErrorIs(t, err, lock.ErrInvalid)
	}
	_, err := New(filepath.Join(dir, "x.db"), &Options{Table: "a; drop table b"})
	require.ErrorIs(t, err, lock.ErrInvalid)
}

func TestURLs(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, rest := range []string{filepath.Join(dir, "a.db"), "///" + dir + "//a.db", "b.db", "//" + dir + "/c%3f.db?table=locks&owner=me&poll=1s"} {
		l, err := open(t.Context(), rest)
		require.NoError(t, err, rest)
		lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err, rest)
		require.NoError(t, lease.Release(t.Context()))
		require.NoError(t, l.(*Locker).Close())
	}
	for _, file := range []string{"a.db", "b.db", "c?.db"} {
		require.FileExists(t, filepath.Join(dir, file))
	}
	for _, rest := range []string{"", "//host/x.db", "x.db?tabel=y", "x.db#y", "x.db?poll=5"} {
		_, err := open(t.Context(), rest)
		require.ErrorIs(t, err, lock.ErrInvalid, rest)
	}
}

func TestHealthShowsWhatTheFileIs(t *testing.T) {
	l, err := New(filepath.Join(t.TempDir(), "locks.db"), nil)
	require.NoError(t, err)
	defer l.Close()
	h, err := l.Health(t.Context())
	require.NoError(t, err)
	require.NoError(t, h.Nodes[0].Err)
	require.Contains(t, h.Nodes[0].Facts, lock.Fact{Name: "journal", Value: "wal"})
	require.Empty(t, h.Nodes[0].Warnings)
	filesystem, err := filesystem.Name(t.TempDir())
	require.NoError(t, err)
	require.Contains(t, h.Nodes[0].Facts, lock.Fact{Name: "file system", Value: filesystem})
}

func TestPruneWorksOnManyPages(t *testing.T) {
	l, err := New(filepath.Join(t.TempDir(), "locks.db"), nil)
	require.NoError(t, err)
	defer l.Close()
	ctx := context.Background()
	for i := range 1200 {
		lease, err := l.TryAcquire(ctx, "job-"+string(rune('a'+i%26))+time.Duration(i).String(), time.Second)
		require.NoError(t, err)
		require.NoError(t, lease.Release(ctx))
	}
	_, err = l.store.db.Exec("UPDATE lockkeeper SET stamp = stamp - 8 * 86400 * 1000000")
	require.NoError(t, err)
	n, err := l.Prune(ctx, 0)
	require.NoError(t, err)
	require.Equal(t, 1200, n)
	_, err = l.Prune(ctx, time.Second)
	require.True(t, errors.Is(err, lock.ErrInvalid))
}

func TestAFileThatIsReplacedHasNoHolderThatStays(t *testing.T) {
	for how, replace := range map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) {
			for _, end := range []string{"", "-wal", "-shm"} {
				require.NoError(t, os.Remove(path+end))
			}
		},
		"renamed": func(t *testing.T, path string) {
			for _, end := range []string{"", "-wal", "-shm"} {
				require.NoError(t, os.Rename(path+end, path+".old"+end))
			}
		},
	} {
		path := filepath.Join(t.TempDir(), "locks.db")
		l, err := New(path, nil)
		require.NoError(t, err)
		defer l.Close()
		lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err)
		replace(t, path)
		other, err := New(path, nil)
		require.NoError(t, err)
		defer other.Close()
		next, err := other.TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err, how)
		require.ErrorIs(t, lease.Extend(t.Context(), time.Hour), lock.ErrLost, how)
		_, err = l.TryAcquire(t.Context(), "k", time.Hour)
		require.ErrorIs(t, err, lock.ErrHeld, how)
		require.NoError(t, next.Release(t.Context()))
		lease, err = l.TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err)
		require.Greater(t, lease.Token(), next.Token())
	}
}

func TestATableThatIsNoLocksTableIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer db.Close()
	const columns = "name BLOB PRIMARY KEY, version TEXT NOT NULL, record BLOB NOT NULL, stamp INTEGER NOT NULL, clock TEXT NOT NULL"
	for _, statement := range []string{
		"CREATE TABLE plain (x)", "CREATE TABLE more (" + columns + ", x INT NOT NULL)", "CREATE VIEW view AS SELECT * FROM more",
		"CREATE TABLE model (" + columns + ")", "CREATE TABLE copy AS SELECT * FROM model",
	} {
		_, err := db.Exec(statement)
		require.NoError(t, err)
	}
	for _, table := range []string{"plain", "more", "view", "copy", "order", "sqlite_locks"} {
		l, err := New(path, &Options{Table: table})
		require.NoError(t, err)
		_, err = l.TryAcquire(t.Context(), "k", time.Second)
		require.ErrorIs(t, err, lock.ErrRefused, table)
		require.ErrorContains(t, err, "name another", table)
		require.NoError(t, l.Close())
	}
	_, err = New(path, &Options{Table: "temp.locks"})
	require.ErrorIs(t, err, lock.ErrInvalid, "each connection would have its own")
}

func TestAFileSystemOfSeveralMachinesIsRefused(t *testing.T) {
	for name, refused := range map[string]bool{"nfs": true, "cifs": true, "ext4": false, "fuse": false, "unknown (0x1)": false} {
		for _, trust := range []bool{false, true} {
			l, err := New(filepath.Join(t.TempDir(), "locks.db"), &Options{TrustFileSystem: trust})
			require.NoError(t, err)
			l.store.fileSystem = func(string) (string, error) { return name, nil }
			lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
			if refused && !trust {
				require.ErrorIs(t, err, lock.ErrRefused, name)
				require.ErrorContains(t, err, name)
			} else {
				require.NoError(t, err, name)
				h, err := l.Health(t.Context())
				require.NoError(t, err)
				require.Equal(t, refused, len(h.Nodes[0].Warnings) > 0, name)
				require.NoError(t, lease.Release(t.Context()))
			}
			require.NoError(t, l.Close())
		}
	}
}

func TestAFileIsOfTheFileSystemThatALinkLeadsTo(t *testing.T) {
	for _, there := range []bool{true, false} { // the file, before it is opened
		near, far := t.TempDir(), t.TempDir()
		if there {
			l, err := New(filepath.Join(far, "locks.db"), nil)
			require.NoError(t, err)
			lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
			require.NoError(t, err)
			require.NoError(t, lease.Release(t.Context()))
			require.NoError(t, l.Close())
		}
		require.NoError(t, os.Symlink(filepath.Join(far, "locks.db"), filepath.Join(near, "locks.db")))
		l, err := New(filepath.Join(near, "locks.db"), nil)
		require.NoError(t, err)
		far, err = filepath.EvalSymlinks(far)
		require.NoError(t, err)
		l.store.fileSystem = func(path string) (string, error) {
			path, err := filepath.EvalSymlinks(path)
			if err == nil && strings.HasPrefix(path, far) {
				return "nfs", nil
			}
			return "ext4", err
		}
		_, err = l.TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrRefused, there)
		require.ErrorContains(t, err, "nfs")
		require.NoError(t, l.Close())
	}
}
