// Package postgres locks by rows of a Postgres table.
//
//	l, err := postgres.New("postgres://app:secret@db/app", nil)
//	...
//	defer l.Close()
//	err = leader.Run(ctx, l, "pricing-oracle-keeper", run, nil)
//
// # What is promised
//
// What [lock.Locker] says, among all clients of one primary. A hold ends when it is released
// or a ttl after its last renewal, by the server's clock as long as it runs, else by each
// client's own, from when it first saw the row. There are no session advisory locks in it,
// which end with a connection and mean nothing behind a pooler. A write is durable before it
// is a lock: synchronous_commit is on for it, whatever the default.
//
// Waiters are notified of a release by LISTEN, over one connection a process, and take the key
// in their order. Behind a pooler that delivers no notifications (PgBouncer in transaction
// mode), which is found out, they poll.
//
// # What is not
//
// An asynchronous replica that is promoted may lack the last writes: a hold that it lacks can
// be given to a second holder, with a larger token as long as the servers' clocks agree.
// Synchronous replication (synchronous_standby_names) keeps it. A server's clock that is set
// forward ends holds early for processes that have not read it before.
package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tonsurance/lockkeeper/backends/record"
	rows "github.com/tonsurance/lockkeeper/backends/sql"
	"github.com/tonsurance/lockkeeper/lock"
)

// Options for [New]. nil means the defaults.
type Options struct {
	// Table is made on first use, where that is permitted. Letters, digits and _, and a
	// schema before a dot. Defaults to "lockkeeper".
	Table string

	// Record are the engine's. Names is ignored.
	Record record.Options
}

// Locker locks by rows of one table. It is safe for concurrent use.
type Locker struct {
	*record.Locker
	store *store
	db    *sql.DB
}

var names = record.Names{Max: 1000}

var dialect = rows.Dialect{
	Name: "postgres",
	Create: "CREATE TABLE IF NOT EXISTS {table} (name bytea PRIMARY KEY, version text NOT NULL, record bytea NOT NULL, " +
		"stamp bigint NOT NULL, clock text NOT NULL)",
	// The moment at which a row is written, not that at which its transaction began.
	Now: "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
	// In whole microseconds: as text, it would be in the session's time zone and date style.
	Clock: "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint::text",
	// A default of off would let a crash undo a lock that was granted. What is stronger stays.
	InsertEnd: "ON CONFLICT (name) DO NOTHING RETURNING " + durable,
	UpdateEnd: "RETURNING " + durable,
	Placeholder: func(n int) string {
		return fmt.Sprint("$", n)
	},
	Judge: judge,
}

const durable = "CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN set_config('synchronous_commit', 'on', true) END"

// New opens a database by its URL or DSN, as the driver takes it. It asks nothing of the server.
// Of several hosts, the one that can be written to is used (target_session_attrs), unless
// the URL says otherwise.
func New(dsn string, o *Options) (*Locker, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	cfg, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if schema, _, _ := strings.Cut(opts.Table, "."); strings.HasPrefix(strings.ToLower(schema), "pg_temp") {
		return nil, fmt.Errorf("postgres: %w: the table is %.80q, want one that all connections share", lock.ErrInvalid, opts.Table)
	}
	// One round trip a request, and no state that a pooler would lose.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	cfg.StatementCacheCapacity, cfg.DescriptionCacheCapacity = 0, 0
	if cfg.ValidateConnect == nil && len(cfg.Fallbacks) > 0 {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "lockkeeper"
	}
	h := newHosts(cfg, cmp.Or(opts.Record.Timeout, lock.DefaultReleaseTimeout))
	db := sql.OpenDB(h)
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(idleConns)
	db.SetConnMaxLifetime(5 * time.Minute) // a name that leads elsewhere now is noticed
	l, err := over(db, h, opts)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return l, nil
}

// idleConns is how many connections stay open while nobody asks.
const idleConns = 2

func over(db *sql.DB, h *hosts, opts Options) (*Locker, error) {
	s, err := newStore(db, h, opts.Table)
	if err != nil {
		return nil, err
	}
	opts.Record.Names = names
	l, err := record.New(s, &opts.Record)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return &Locker{l, s, db}, nil
}

// Close ends what is under way, as record.Locker's Close says, and closes the connections.
func (l *Locker) Close() error {
	err := l.Locker.Close()
	l.store.listener.close()
	return errors.Join(err, l.db.Close())
}

var _ record.Watcher = (*store)(nil)

// store adds notifications to a table of rows.
type store struct {
	*rows.Store
	listener *listener
}

func newStore(db *sql.DB, h *hosts, table string) (*store, error) {
	d := dialect
	d.Describe = func(ctx context.Context, db *sql.DB, node *lock.NodeHealth) {
		describe(ctx, db, cmp.Or(table, rows.DefaultTable), node)
	}
	d.Judge = func(err error) error {
		err = judge(err)
		if errors.Is(err, errReadOnly) {
			// After a fail-over the name leads to another server, and old connections may still
			// lead to this one: the next request connects anew.
			db.SetMaxIdleConns(0)
			db.SetMaxIdleConns(idleConns)
		}
		return err
	}
	base, err := rows.NewStore(db, table, d)
	if err != nil {
		return nil, err
	}
	return &store{base, newListener(db, h, base.Table())}, nil
}

// Put notifies those who wait if it frees the key. Other writes notify nobody: NOTIFY takes
// a lock on the whole database at commit.
func (s *store) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	if r.TTL > 0 || version == "" {
		return s.Store.Put(ctx, name, r, version)
	}
	next := rand.Text()
	if err := s.PutReturning(ctx, name, r, version, next, s.listener.notify(), s.listener.channel, payload(name, r, next)); err != nil {
		return "", err
	}
	return next, nil
}

// Watch receives a state of name with each release, and asks for a look when some may have
// been missed.
func (s *store) Watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	return s.listener.watch(ctx, name, changed)
}

// errReadOnly is matched by the errors of a server, or of a user, that may not write.
var errReadOnly = errors.New("name the primary server, and let this user write there (default_transaction_read_only)")

// codes are SQLSTATEs of errors that asking again does not mend, and what does.
var codes = map[string]string{
	"42501": "grant this user CONNECT on the database, USAGE on the schema, and SELECT, INSERT, UPDATE and DELETE on the table",
	"28P01": "check user and password",
	"3D000": "make the database, or name another",
	"3F000": "make the schema, or name another before a dot in the table",
	"42601": "the table's name may be a word of SQL: name another",
	"42P10": "make the column name the table's primary key: without one, there could be two holders",
	"23502": otherTable, // a column of which this package knows nothing
}

// otherTable is what to do about a table with other columns.
const otherTable = "the table is of something else: name another"

// classes are the beginnings of others: wrong statements, data that a column does not take,
// refused logins.
var classes = map[string]string{"42": otherTable, "22": otherTable, "28": "check user, password and pg_hba.conf"}

// judge says what an error of Postgres means.
func judge(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
			text := withoutDSN(connect.Error())
			if strings.Contains(text, "read only connection") {
				return fmt.Errorf("%s; %w", text, errReadOnly)
			}
			return errors.New(text)
		}
		return err
	}
	switch e.Code {
	case "42P01":
		return rows.ErrNoTable
	case "40001", "40P01": // rolled back as a whole: another came first, where isolation is stricter
		return fmt.Errorf("%w: %s (SQLSTATE %s)", rows.ErrRolledBack, e.Message, e.Code)
	case "25006":
		return fmt.Errorf("%s; %w", e.Message, errReadOnly) // after a fail-over that is another one
	}
	do, ok := codes[e.Code]
	if !ok {
		do, ok = classes[e.Code[:min(2, len(e.Code))]]
	}
	if ok {
		return fmt.Errorf("%w: %s (SQLSTATE %s); %s", lock.ErrRefused, e.Message, e.Code, do)
	}
	return fmt.Errorf("%s (SQLSTATE %s)", e.Message, e.Code)
}

// withoutDSN keeps what went wrong of the driver's text.
func withoutDSN(text string) string {
	if _, after, ok := strings.Cut(text, "`:"); ok {
		var tried []string // an address a line, and twice where it was tried with and without TLS
		for line := range strings.Lines(after) {
			line = strings.Join(strings.Fields(line), " ")
			if line != "" && !slices.Contains(tried, line) {
				tried = append(tried, line)
			}
		}
		return "connect: " + strings.Join(tried, "; ")
	}
	return "can't connect"
}

func describe(ctx context.Context, db *sql.DB, table string, node *lock.NodeHealth) {
	ask := func(name, query string) string {
		var value string
		if err := db.QueryRowContext(ctx, query).Scan(&value); err != nil {
			value = "not known"
			if name == "version" {
				node.Err = judge(err)
			}
		}
		node.Facts = append(node.Facts, lock.Fact{Name: name, Value: value})
		return value
	}
	warn := func(text string) { node.Warnings = append(node.Warnings, text) }
	ask("version", "SHOW server_version")
	if node.Err != nil {
		return
	}
	if ask("role", "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END") == "standby" {
		warn("the server is a standby: a lock needs the primary")
	}
	if ask("fsync", "SHOW fsync") == "off" {
		warn("fsync is off: a power cut can undo a lock that was granted, and give it to a second holder")
	}
	if kept := ask("table is kept", "SELECT coalesce((SELECT CASE relpersistence WHEN 'p' THEN 'yes' ELSE 'no' END FROM pg_class WHERE oid = to_regclass('"+table+"')), 'not known')"); kept == "no" {
		warn("the table is UNLOGGED: a crash empties it, and can give a lock that was granted to a second holder; ALTER TABLE " + table + " SET LOGGED")
	}
	ask("synchronous standbys", "SELECT CASE current_setting('synchronous_standby_names') WHEN '' THEN 'none' ELSE current_setting('synchronous_standby_names') END")
	ask("clock", "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS')")
}
