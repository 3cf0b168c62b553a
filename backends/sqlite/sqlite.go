// Package sqlite locks by rows of a SQLite database: several processes on one machine, for
// programs that have such a file anyway. Where they don't, backends/file is quicker, pushes
// notifications, and frees the locks of a process that dies at once.
//
//	l, err := sqlite.New("/var/lib/app/app.db", nil)
//	...
//	defer l.Close()
//	err = leader.Run(ctx, l, "pricing-oracle-keeper", run, nil)
//
// # What is promised
//
// What [lock.Locker] says, among all processes of one machine that use the same file, on a
// file system that is local to it (SQLite's own condition). A hold ends when it is released
// or a ttl after its last renewal, by the machine's own clock, which nobody can set; after a
// reboot a ttl after it is first seen. A crashed process keeps its locks for their ttl.
//
// # What is not
//
// It waits by polling. A database that is restored from a copy forgets what came after it:
// two holders are possible, and tokens still rise unless the wall clock was set back. So are they for
// a ttl when the file is removed or replaced while it is in use; each request finds that out.
//
// Each write is synchronous as the database says (PRAGMA synchronous); with less than NORMAL in
// WAL mode, a power cut is followed by a boot, after which no hold of before counts as held for
// longer than its ttl from its first sight.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tonsurance/lockkeeper/backends/record"
	rows "github.com/tonsurance/lockkeeper/backends/sql"
	"github.com/tonsurance/lockkeeper/internal/machineclock"
	"github.com/tonsurance/lockkeeper/internal/registry"
	"github.com/tonsurance/lockkeeper/internal/urlparams"
	"github.com/tonsurance/lockkeeper/lock"
)

// Options for [New]. nil means the defaults.
type Options struct {
	// Table is made on first use. Letters, digits and _. Defaults to "lockkeeper".
	Table string

	// TrustFileSystem accepts a file on a file system of several machines, such as NFS, where
	// the processes of one of them alone may use it. Otherwise it is refused.
	TrustFileSystem bool

	// Record are the engine's. Names is ignored.
	Record record.Options
}

// Locker locks by rows of one database file. It is safe for concurrent use.
type Locker struct {
	*record.Locker
	store *store
}

// Dialect is that of SQLite.
func dialect() (rows.Dialect, error) {
	clock, err := machineclock.New()
	if err != nil {
		return rows.Dialect{}, fmt.Errorf("sqlite: %w: this system has no clock that all processes share: %w", lock.ErrRefused, err)
	}
	boot, err := machineclock.BootID()
	if err != nil || boot == "" {
		return rows.Dialect{}, fmt.Errorf("sqlite: %w: this system reports no boot id: %w", lock.ErrRefused, err)
	}
	return rows.Dialect{
		Name: "sqlite",
		Create: "CREATE TABLE IF NOT EXISTS {table} (name BLOB PRIMARY KEY, version TEXT NOT NULL, record BLOB NOT NULL, " +
			"stamp INTEGER NOT NULL, clock TEXT NOT NULL) WITHOUT ROWID",
		Machine:   func() (int64, string) { return clock.Now().Microseconds(), boot },
		InsertEnd: "ON CONFLICT (name) DO NOTHING",
		Judge:     judge,
		Describe:  describe,
	}, nil
}

// New opens the database at path, and makes the file if there is none, in a directory that
// must exist. It sets WAL mode, which stays with the file; busy is waited for.
func New(path string, o *Options) (*Locker, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if path == "" || strings.ContainsRune(path, 0) || strings.HasPrefix(path, ":memory:") {
		return nil, fmt.Errorf("sqlite: %w: the path is %q, want that of a file", lock.ErrInvalid, path)
	}
	// What stands before a dot is a database that is attached to one connection, such as temp.
	if strings.Contains(opts.Table, ".") {
		return nil, fmt.Errorf("sqlite: %w: the table is %.80q, want letters, digits and _", lock.ErrInvalid, opts.Table)
	}
	d, err := dialect()
	if err != nil {
		return nil, err
	}
	s, err := newStore(path, opts, d)
	if err != nil {
		return nil, err
	}
	opts.Record.Names = record.Names{Max: 1000}
	l, err := record.New(s, &opts.Record)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	return &Locker{l, s}, nil
}

// Close ends what is under way, as record.Locker's Close says, and closes the database.
func (l *Locker) Close() error { return errors.Join(l.Locker.Close(), l.store.close()) }

// judge says what an error of SQLite means.
func judge(err error) error {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	switch code := e.Code(); code & 0xff {
	case sqlite3.SQLITE_CONSTRAINT:
		if e.Code() == sqlite3.SQLITE_CONSTRAINT_NOTNULL {
			return fmt.Errorf("%w: %w; the table is of something else: name another", lock.ErrRefused, err)
		}
		return fmt.Errorf("%w: %v", record.ErrChanged, err)
	case sqlite3.SQLITE_ERROR:
		if strings.Contains(err.Error(), "no such table") {
			return rows.ErrNoTable
		}
		return fmt.Errorf("%w: %w; the table is of something else, has no primary key or a word of SQL for its name: name another", lock.ErrRefused, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return fmt.Errorf("%w: %w; give this user the right to write the database and its directory", lock.ErrRefused, err)
	case sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%w: %w; the path must be that of a file, its directory must exist, and this user be allowed to write there", lock.ErrRefused, err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%w: %w; restore it, or name another file", lock.ErrRefused, err)
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w; name another file", lock.ErrRefused, err)
	}
	return err // busy, full, I/O: asking again may help
}

func describe(ctx context.Context, db *sql.DB, node *lock.NodeHealth) {
	var version, journal, sync string
	err := db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version)
	if err == nil {
		err = db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal)
	}
	if err == nil {
		err = db.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&sync)
	}
	if err != nil {
		node.Err = judge(err)
		return
	}
	node.Facts = append(node.Facts, lock.Fact{Name: "version", Value: version}, lock.Fact{Name: "journal", Value: journal}, lock.Fact{Name: "sync", Value: sync})
	if journal != "wal" {
		node.Warnings = append(node.Warnings, "journal mode is "+journal+": readers and the writer hold each other up; PRAGMA journal_mode=wal changes it while no process uses the file")
	}
}

func init() { registry.Register("sqlite", open) }

// open takes sqlite:/abs/path or sqlite:relative.
func open(_ context.Context, rest string) (lock.Locker, error) {
	path, query, _ := strings.Cut(rest, "?")
	if cut, ok := strings.CutPrefix(path, "//"); ok {
		path = cut
		if !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("%w: want sqlite:/absolute/path or sqlite:relative/path, without a host", lock.ErrInvalid)
		}
	}
	path, err := url.PathUnescape(path)
	if err != nil || strings.Contains(rest, "#") {
		return nil, urlparams.ErrNoURL
	}
	p, err := urlparams.Parse(query, "")
	if err != nil {
		return nil, err
	}
	o := &Options{Table: p.Text("table"), TrustFileSystem: p.Flag("trust-file-system"), Record: record.Options{Owner: p.Text("owner"), Poll: p.Duration("poll")}}
	if err := p.Done(); err != nil {
		return nil, err
	}
	l, err := New(path, o)
	if err != nil {
		return nil, err
	}
	return l, nil
}
