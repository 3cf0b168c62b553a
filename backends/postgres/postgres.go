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
// forward ends holds early.
package postgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/tonsurance/lockkeeper/backends/record"
	rows "github.com/tonsurance/lockkeeper/backends/sql"
	"github.com/tonsurance/lockkeeper/internal/registry"
	"github.com/tonsurance/lockkeeper/internal/urlparams"
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
	Now:   "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
	Clock: "pg_postmaster_start_time()::text",
	// A default of off would let a crash undo a lock that was granted. What is stronger stays.
	InsertEnd: "ON CONFLICT DO NOTHING RETURNING " + durable,
	UpdateEnd: "RETURNING " + durable,
	Placeholder: func(n int) string {
		return fmt.Sprint("$", n)
	},
	Judge:    judge,
	Describe: describe,
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
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w: not a URL such as postgres://user:password@host/database, or a parameter of it is wrong", lock.ErrInvalid) // the driver's error may quote it
	}
	// One round trip a request, and no state that a pooler would lose.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	cfg.StatementCacheCapacity, cfg.DescriptionCacheCapacity = 0, 0
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	if cfg.ValidateConnect == nil && len(cfg.Fallbacks) > 0 {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "lockkeeper"
	}
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(2)
	db.SetConnMaxLifetime(5 * time.Minute) // a name that leads elsewhere now is noticed
	l, err := over(db, cfg, opts)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return l, nil
}

func over(db *sql.DB, cfg *pgx.ConnConfig, opts Options) (*Locker, error) {
	s, err := newStore(db, cfg, opts.Table)
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

func newStore(db *sql.DB, cfg *pgx.ConnConfig, table string) (*store, error) {
	base, err := rows.NewStore(db, table, dialect)
	if err != nil {
		return nil, err
	}
	return &store{base, newListener(db, cfg, base.Table())}, nil
}

// Put notifies those who wait if it frees the key. Other writes notify nobody: NOTIFY takes
// a lock on the whole database at commit.
func (s *store) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	if r.TTL > 0 || version == "" {
		return s.Store.Put(ctx, name, r, version)
	}
	next := rand.Text()
	if err := s.PutReturning(ctx, name, r, version, next, "pg_notify(%s, %s)", s.listener.channel, payload(name, r, next)); err != nil {
		return "", err
	}
	return next, nil
}

// Watch receives a state of name with each release, and asks for a look when some may have
// been missed.
func (s *store) Watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	return s.listener.watch(ctx, name, changed)
}

// codes are SQLSTATEs of errors that asking again does not mend, and what does.
var codes = map[string]string{
	"42501": "grant this user SELECT, INSERT, UPDATE and DELETE on the table, and USAGE on its schema",
	"28P01": "check user and password",
	"28000": "check user, password and pg_hba.conf",
	"3D000": "make the database, or name another",
	"3F000": "make the schema, or name another",
	"42703": "the table is of something else: name another",
}

// judge says what an error of Postgres means.
func judge(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
			return errors.New(withoutDSN(connect.Error()))
		}
		return err
	}
	switch e.Code {
	case "42P01":
		return rows.ErrNoTable
	case "25006":
		return fmt.Errorf("%s; name the primary server", e.Message) // after a fail-over that is another one
	}
	if do, ok := codes[e.Code]; ok {
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

func describe(ctx context.Context, db *sql.DB, node *lock.NodeHealth) {
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
	ask("synchronous standbys", "SELECT CASE current_setting('synchronous_standby_names') WHEN '' THEN 'none' ELSE current_setting('synchronous_standby_names') END")
	ask("clock", "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS')")
}

func init() {
	for _, scheme := range []string{"postgres", "postgresql"} {
		registry.Register(scheme, open)
	}
}

// own are the parameters of a URL that are not the driver's.
var own = []string{"table", "owner", "poll", "head-start", "tls-ca", "tls-cert", "tls-key"}

// open takes postgres://user:password@host/database?table=&sslmode=...; sslmode and what else
// the driver knows go to it.
func open(_ context.Context, rest string) (lock.Locker, error) {
	address, query, _ := strings.Cut(rest, "?")
	if !strings.HasPrefix(address, "//") || strings.Contains(rest, "#") {
		return nil, fmt.Errorf("%w: want postgres://user:password@host/database; characters that mean something in a URL must be percent-encoded", lock.ErrInvalid)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, urlparams.ErrNoURL
	}
	ours, theirs := url.Values{}, url.Values{}
	for name, v := range values {
		if slices.Contains(own, name) {
			ours[name] = v
		} else {
			theirs[name] = v
		}
	}
	p, err := urlparams.Parse(ours.Encode(), "")
	if err != nil {
		return nil, err
	}
	o := &Options{Table: p.Text("table"), Record: record.Options{Owner: p.Text("owner"), Poll: p.Duration("poll"), HeadStart: p.Duration("head-start")}}
	for _, name := range []string{"tls-ca", "tls-cert", "tls-key"} {
		p.Text(name)
	}
	if err := p.Done(); err != nil {
		return nil, err
	}
	// As every store here takes them; sslrootcert and its like work as well.
	for name, driver := range map[string]string{"tls-ca": "sslrootcert", "tls-cert": "sslcert", "tls-key": "sslkey"} {
		if file := ours.Get(name); file != "" {
			theirs.Set(driver, file)
			if !theirs.Has("sslmode") {
				theirs.Set("sslmode", "verify-full")
			}
		}
	}
	for name := range theirs {
		if !known[name] {
			return nil, fmt.Errorf("%w: unknown parameter%s, want some of: %s, or one of Postgres' own", lock.ErrInvalid, urlparams.Unknown(name), strings.Join(own, ", "))
		}
	}
	l, err := New("postgres:"+address+"?"+theirs.Encode(), o)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// known are the parameters of Postgres' own URLs that make sense here. The driver would take
// any other for a setting of the server.
var known = map[string]bool{
	"host": true, "port": true, "user": true, "passfile": true, "sslmode": true, "sslrootcert": true, "sslcert": true, "sslkey": true,
	"sslsni": true, "connect_timeout": true, "target_session_attrs": true, "application_name": true, "options": true, "service": true, "servicefile": true,
}
