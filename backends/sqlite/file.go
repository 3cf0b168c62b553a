package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tonsurance/lockkeeper/backends/record"
	rows "github.com/tonsurance/lockkeeper/backends/sql"
	"github.com/tonsurance/lockkeeper/internal/filesystem"
	"github.com/tonsurance/lockkeeper/lock"
)

var (
	_ record.Store     = (*store)(nil)
	_ record.Lister    = (*store)(nil)
	_ record.Deleter   = (*store)(nil)
	_ record.Describer = (*store)(nil)
)

// store is a table of the file that the path leads to. A connection stays with the file that
// it opened, also when that was removed or replaced: without looking, its locks would stand
// in a file that nobody else ever opens.
type store struct {
	path, table string
	dialect     rows.Dialect
	trusted     bool                              // whatever its file system is
	fileSystem  func(path string) (string, error) // its name

	using chan struct{} // has room for one, who may use all below
	rows  *rows.Store   // nil: nothing is open
	db    *sql.DB
	file  os.FileInfo
	done  bool // closed
}

var errReplaced = errors.New("the database file was removed or replaced while it was in use")

// network are file systems of several machines: SQLite's locks, and the memory that its
// write-ahead log shares, are of one. A name that is not here is no proof of the contrary.
var network = []string{"nfs", "smb", "cifs", "smb2", "smbfs", "afpfs", "webdav", "ceph", "lustre", "gfs2", "ocfs2", "gpfs", "afs"}

func newStore(path string, o Options, d rows.Dialect) (*store, error) {
	s := &store{path: path, table: o.Table, dialect: d, trusted: o.TrustFileSystem, fileSystem: filesystem.Name, using: make(chan struct{}, 1)}
	db, _, err := s.connect() // without asking for anything: it shows whether the table can be
	if err != nil {
		return nil, err
	}
	return s, db.Close()
}

// connect prepares connections, and opens nothing.
func (s *store) connect() (*sql.DB, *rows.Store, error) {
	path := s.path
	if strings.HasPrefix(path, "//") { // what follows would be a host
		path = "/" + strings.TrimLeft(path, "/")
	}
	// A URI, so that a ? in the path is a part of it.
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String() +
		"?_pragma=busy_timeout(2000)&_pragma=journal_mode(wal)&_txlock=immediate"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, nil, fmt.Errorf("sqlite: %w: %w", lock.ErrInvalid, err)
	}
	db.SetMaxOpenConns(4) // one writes at a time, whatever their number
	base, err := rows.NewStore(db, s.table, s.dialect)
	if err != nil {
		_ = db.Close()
		return nil, nil, err
	}
	return db, base, nil
}

// opens bounds how often a file is opened that is replaced meanwhile.
const opens = 3

// open returns the table in the file that the path leads to now.
func (s *store) open(ctx context.Context) (*rows.Store, error) {
	select {
	case s.using <- struct{}{}:
		defer func() { <-s.using }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.done {
		return nil, lock.ErrClosed
	}
	if s.rows != nil {
		if s.leadsTo(s.file) {
			return s.rows, nil
		}
		_ = s.db.Close() // those that are in use end with their requests
		s.rows = nil
	}
	for range opens {
		if err := s.checkFileSystem(); err != nil { // each time: a link can lead elsewhere now
			return nil, err
		}
		before, err := os.Stat(s.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w; this user must be allowed to reach it", lock.ErrRefused, err)
		}
		db, base, err := s.connect()
		if err != nil {
			return nil, err
		}
		conn, err := db.Conn(ctx) // opens the file, or makes it
		if err != nil {
			_ = db.Close()
			return nil, judge(err)
		}
		_ = conn.Close() // into the pool
		if before != nil && s.leadsTo(before) {
			s.rows, s.db, s.file = base, db, before
			return base, nil
		}
		_ = db.Close() // the file is new, or another now: it may not be the one that was opened
	}
	return nil, errReplaced
}

// checkFileSystem refuses one on which processes of two machines could hold the same lock.
func (s *store) checkFileSystem() error {
	name, err := s.fileSystemName()
	if err != nil || s.trusted || !slices.Contains(network, name) {
		return nil // opening says what is wrong with the directory
	}
	return fmt.Errorf("%w: the file system is %s, where SQLite's locks do not hold between machines; want a local one (Options.TrustFileSystem accepts it, if one machine alone uses the file)", lock.ErrRefused, name)
}

// fileSystemName is the name of that of the file, to which a link may lead; of its directory,
// where there is none yet.
func (s *store) fileSystemName() (string, error) {
	name, err := s.fileSystem(s.path)
	if err != nil {
		name, err = s.fileSystem(filepath.Dir(s.path))
	}
	return name, err
}

// leadsTo reports whether the path leads to this file.
func (s *store) leadsTo(file os.FileInfo) bool {
	now, err := os.Stat(s.path)
	return err == nil && os.SameFile(now, file)
}

// close ends the connections.
func (s *store) close() error {
	s.using <- struct{}{}
	defer func() { <-s.using }()
	s.done = true
	if s.rows == nil {
		return nil
	}
	s.rows = nil
	return s.db.Close()
}

func (s *store) Get(ctx context.Context, name string) (record.Entry, error) {
	rows, err := s.open(ctx)
	if err != nil {
		return record.Entry{}, err
	}
	return rows.Get(ctx, name)
}

// Put confirms a write only if the path still leads to the file that has it.
func (s *store) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	rows, err := s.open(ctx)
	if err != nil {
		return "", err
	}
	newVersion, err := rows.Put(ctx, name, r, version)
	if err != nil {
		return "", err
	}
	if again, err := s.open(ctx); err != nil || again != rows {
		return "", cmp.Or(err, errReplaced)
	}
	return newVersion, nil
}

func (s *store) Delete(ctx context.Context, name, version string) error {
	rows, err := s.open(ctx)
	if err != nil {
		return err
	}
	return rows.Delete(ctx, name, version)
}

func (s *store) List(ctx context.Context, prefix string) iter.Seq2[record.Entry, error] {
	return func(yield func(record.Entry, error) bool) {
		rows, err := s.open(ctx)
		if err != nil {
			yield(record.Entry{}, err)
			return
		}
		rows.List(ctx, prefix)(yield)
	}
}

func (s *store) Describe(ctx context.Context) lock.NodeHealth {
	rows, err := s.open(ctx)
	if err != nil {
		return lock.NodeHealth{Name: s.dialect.Name, Err: err}
	}
	node := rows.Describe(ctx)
	if name, err := s.fileSystemName(); err == nil {
		node.Facts = append(node.Facts, lock.Fact{Name: "file system", Value: name})
		if slices.Contains(network, name) {
			node.Warnings = append(node.Warnings, "the file system is "+name+": processes of two machines can hold the same lock; it was accepted by TrustFileSystem")
		}
	}
	return node
}
