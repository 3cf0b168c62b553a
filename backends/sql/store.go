// Package sql has what the lock backends over database/sql share: a [record.Store] of
// rows in one table. It links no driver; backends/mysql and backends/sqlite, modules of
// their own, bring theirs with a [Dialect].
//
//	store, err := sql.NewStore(db, "lockkeeper", sql.Dialect{
//		Name:   "firebird",
//		Create: "CREATE TABLE {table} (name VARCHAR(700) CHARACTER SET OCTETS PRIMARY KEY, ...)",
//		Now:    "...", // microseconds, when the row is written
//		Clock:  "...", // another after a fail-over
//		Judge:  judge, // what an error of the driver means
//	})
//	...
//	l, err := record.New(store, nil)
//
// A row is a key's record. It is written by one statement, an UPDATE for the version that
// was read, and never deleted but by Prune, so there is nothing to lock, and no session
// state: it works through poolers, and a lost connection costs one request.
package sql

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"regexp"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

// DefaultTable is the table's name where none is given.
const DefaultTable = "lockkeeper"

// Dialect is how one kind of server wants it. {table} in a statement stands for the table.
// Columns: name, version, record, stamp (microseconds) and clock (whose stamp it is).
type Dialect struct {
	// Name is that of the backend, for errors.
	Name string

	// Create makes the table if it is not there: name is the primary key, compared byte
	// by byte.
	Create string

	// Now is an expression of the server's clock: whole microseconds since 1970. Clock is
	// one that names the clock, and is another after a fail-over to another server, under
	// which a stamp says nothing.
	Now, Clock string

	// Machine, if set, takes the place of both: the clock of this machine, for stores
	// whose clients all run on it.
	Machine func() (stamp int64, clock string)

	// InsertEnd follows the INSERT, such as "ON CONFLICT (name) DO NOTHING", which names the
	// column so that a table without a key on it is refused; UpdateEnd the UPDATE, and must
	// begin with RETURNING if PutReturning is used. Both may be empty.
	InsertEnd, UpdateEnd string

	// Placeholder is the n-th parameter, from 1. nil means ?.
	Placeholder func(n int) string

	// Judge says what an error of the driver means: record.ErrChanged for a duplicate key,
	// ErrNoTable, ErrRolledBack, lock.ErrRefused, wrapped with what to do; anything else as it
	// is.
	Judge func(err error) error

	// Describe adds facts and warnings, and may be nil.
	Describe func(ctx context.Context, db *sql.DB, node *lock.NodeHealth)
}

// ErrNoTable is what a Dialect's Judge returns for a table that is not there.
var ErrNoTable = errors.New("the table is missing")

// ErrRolledBack is what a Dialect's Judge returns, wrapped or not, for a statement that the
// server has rolled back as a whole because of another one: it has changed nothing and never
// will, and is made again.
var ErrRolledBack = errors.New("the statement was rolled back")

var (
	_ record.Store     = (*Store)(nil)
	_ record.Lister    = (*Store)(nil)
	_ record.Deleter   = (*Store)(nil)
	_ record.Describer = (*Store)(nil)
)

// Store keeps records as rows. It is safe for concurrent use; db stays the caller's.
type Store struct {
	db    *sql.DB
	d     Dialect
	table string

	place                             func(n int) string // the n-th parameter
	get, insert, update, remove, list string

	create string
	making chan struct{} // has room for one request, which makes the table
}

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?$`)

// NewStore makes a store of a table, without asking the server. An empty table means
// DefaultTable; it may have a schema before it, with a dot.
func NewStore(db *sql.DB, table string, d Dialect) (*Store, error) {
	if table == "" {
		table = DefaultTable
	}
	if !tableName.MatchString(table) {
		return nil, fmt.Errorf("%s: %w: the table is %.80q, want letters, digits and _, up to 63 of them, and at most one schema before a dot", d.Name, lock.ErrInvalid, table)
	}
	if db == nil {
		return nil, fmt.Errorf("%s: %w: the database is nil", d.Name, lock.ErrInvalid)
	}
	s := &Store{db: db, d: d, table: table, making: make(chan struct{}, 1)}
	p := d.Placeholder
	if p == nil {
		p = func(int) string { return "?" }
	}
	now, clock := d.Now, d.Clock
	if d.Machine != nil {
		now, clock = "0", "''"
	}
	s.place = p
	stamp := func(n int) (string, string) {
		if d.Machine != nil {
			return p(n), p(n + 1)
		}
		return now, clock
	}
	fill := func(text string) string { return strings.ReplaceAll(text, "{table}", table) }
	columns := "version, record, stamp, clock, " + now + ", " + clock
	at, by := stamp(4)
	s.insert = fill(fmt.Sprintf("INSERT INTO {table} (name, version, record, stamp, clock) VALUES (%s, %s, %s, %s, %s) %s", p(1), p(2), p(3), at, by, d.InsertEnd))
	last := 3
	if d.Machine != nil {
		last = 5
	}
	at, by = stamp(3)
	s.update = fill(fmt.Sprintf("UPDATE {table} SET version = %s, record = %s, stamp = %s, clock = %s WHERE name = %s AND version = %s %s", p(1), p(2), at, by, p(last), p(last+1), d.UpdateEnd))
	s.get = fill(fmt.Sprintf("SELECT %s FROM {table} WHERE name = %s LIMIT 2", columns, p(1)))
	s.remove = fill(fmt.Sprintf("DELETE FROM {table} WHERE name = %s AND version = %s", p(1), p(2)))
	s.list = fill(fmt.Sprintf("SELECT %s, name FROM {table} WHERE name > %s ORDER BY name LIMIT %d", columns, p(1), page))
	s.create = fill(d.Create)
	return s, nil
}

// CreateStatement makes the table, for a user who may not.
func (s *Store) CreateStatement() string { return s.create }

// resolution is taken off an age, because clocks have steps of a microsecond.
const resolution = time.Microsecond

// entry is a row as the engine wants it.
func (s *Store) entry(version string, body []byte, stamp int64, clock string, now int64, present string) (record.Entry, error) {
	e := record.Entry{Version: version}
	var err error
	if e.Record, err = record.Decode(body); err != nil {
		return e, err
	}
	if s.d.Machine != nil {
		now, present = s.d.Machine()
	} else {
		e.Time = time.UnixMicro(now)
	}
	// By one clock, and by one that has not been set back since.
	if age := time.Duration(now-stamp)*time.Microsecond - resolution; clock == present && age > 0 {
		e.Age = age
	} else if clock == present {
		e.Age = 1 // it is just put
	}
	return e, nil
}

// Get reads one row.
func (s *Store) Get(ctx context.Context, name string) (e record.Entry, err error) {
	err = s.with(ctx, func() (err error) {
		e, err = s.row(ctx, name)
		return err
	})
	return e, err
}

// row is the one row of name. Two of them, in a table that was copied without its key, would be
// two locks: a hold in one does not show in the other. The one that made the later of them reads
// after that, as an attempt does, and so does everybody else, so that at most the holder in
// the earlier one goes on.
func (s *Store) row(ctx context.Context, name string) (e record.Entry, err error) {
	rows, err := s.db.QueryContext(ctx, s.get, []byte(name))
	if err != nil {
		return e, err
	}
	defer rows.Close()
	for n := 0; rows.Next(); n++ {
		if n > 0 {
			return record.Entry{}, fmt.Errorf("%w: the table %s has two rows of one key, because its column name is no primary key: stop what locks by it, empty the table and make name its primary key", lock.ErrRefused, s.table)
		}
		var version, clock, present string
		var body []byte
		var stamp, now int64
		if err := rows.Scan(&version, &body, &stamp, &clock, &now, &present); err != nil {
			return record.Entry{}, err
		}
		if e, err = s.entry(version, body, stamp, clock, now, present); err != nil {
			return e, err
		}
	}
	return e, rows.Err()
}

// Put writes one row, or none. Versions are random: a counter would begin anew with a row
// that was deleted.
func (s *Store) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	next := rand.Text()
	query, args := s.update, []any{next, r.Encode()}
	if s.d.Machine != nil {
		stamp, clock := s.d.Machine()
		args = append(args, stamp, clock)
	}
	if version == "" {
		query, args = s.insert, append([]any{[]byte(name)}, args...)
	} else {
		args = append(args, []byte(name), version)
	}
	if err := s.one(ctx, query, args); err != nil {
		return "", err
	}
	return next, nil
}

// PutReturning is a Put over a version that gives the record the version next, and evaluates
// an expression with the row's change, in the same statement. Each %s in it is one of args.
func (s *Store) PutReturning(ctx context.Context, name string, r record.Record, version, next, expression string, args ...any) error {
	all := append([]any{next, r.Encode(), []byte(name), version}, args...)
	var places []any
	for i := range args {
		places = append(places, s.place(5+i))
	}
	return s.one(ctx, s.update+", "+fmt.Sprintf(expression, places...), all)
}

// Table is the table's name.
func (s *Store) Table() string { return s.table }

// Delete deletes one row, or none.
func (s *Store) Delete(ctx context.Context, name, version string) error {
	return s.one(ctx, s.remove, []any{[]byte(name), version})
}

// one runs a statement that changes one row or none, and has then changed nothing.
func (s *Store) one(ctx context.Context, query string, args []any) error {
	return s.with(ctx, func() error {
		res, err := s.db.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err == nil && n == 0 {
			err = record.ErrChanged
		}
		return err
	})
}

// A statement that is rolled back is tried this often, if its context lasts, after a pause that is
// random, and may be a millisecond longer each time. Among a dozen clients at strict isolation on a
// busy machine, 20 were too few.
const (
	repeats  = 100
	maxPause = 50 * time.Millisecond
)

// with runs a request, again where it was rolled back, makes the table if it is missing, and
// says what an error means.
func (s *Store) with(ctx context.Context, request func() error) error {
	for n := 1; ; n++ {
		err := s.once(ctx, request)
		if !errors.Is(err, ErrRolledBack) || n == repeats {
			return err
		}
		select { // those that came at once must not do so again
		case <-time.After(mathrand.N(min(time.Duration(n)*time.Millisecond, maxPause))):
		case <-ctx.Done():
			return err
		}
	}
}

// once is one such request.
func (s *Store) once(ctx context.Context, request func() error) error {
	err := s.judge(request())
	if !errors.Is(err, ErrNoTable) {
		return err
	}
	select { // making it may take long, where another transaction is at it
	case s.making <- struct{}{}:
		defer func() { <-s.making }()
	case <-ctx.Done():
		return fmt.Errorf("another request makes the table: %w", ctx.Err())
	}
	if err = s.judge(request()); !errors.Is(err, ErrNoTable) {
		return err // another request of this process has made it
	}
	_, created := s.db.ExecContext(ctx, s.create)
	// Another process may have made it at the same time: the request says whether it is there.
	if err = s.judge(request()); errors.Is(err, ErrNoTable) && created != nil {
		return s.noTable(s.judge(created))
	}
	return err
}

func (s *Store) noTable(err error) error {
	if !errors.Is(err, lock.ErrRefused) && !errors.Is(err, ErrNoTable) {
		return err // the server can't be reached, say
	}
	why := strings.TrimPrefix(err.Error(), lock.ErrRefused.Error()+": ")
	return fmt.Errorf("%w: the table %s is missing, and this user can't make it (%s): let one who may run %s", lock.ErrRefused, s.table, why, s.create)
}

func (s *Store) judge(err error) error {
	if err == nil || s.d.Judge == nil || errors.Is(err, record.ErrChanged) {
		return err
	}
	return s.d.Judge(err)
}

// Describe is the server's part of lock.Health.
func (s *Store) Describe(ctx context.Context) lock.NodeHealth {
	node := lock.NodeHealth{Name: s.d.Name, Facts: []lock.Fact{{Name: "table", Value: s.table}}}
	if s.d.Describe != nil {
		s.d.Describe(ctx, s.db, &node)
	}
	return node
}
