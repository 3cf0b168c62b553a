// Package mysql locks by rows of a MySQL or MariaDB table.
//
//	l, err := mysql.New("app:secret@tcp(db:3306)/app", nil)
//	...
//	defer l.Close()
//	err = leader.Run(ctx, l, "pricing-oracle-keeper", run, nil)
//
// # What is promised
//
// What [lock.Locker] says, among all clients of one primary. A hold ends when it is released
// or a ttl after its last renewal, by the server's clock where it stamped the row itself,
// else by each client's own, from when it first saw the row. There is no GET_LOCK in it, which
// ends with a connection and means nothing on Galera.
//
// # What is not
//
// It waits by polling. An asynchronous replica that is promoted may lack the last writes: a
// hold that it lacks can be given to a second holder, with a larger token as long as the
// servers' clocks agree. Galera and group replication keep what they acknowledged, if clients
// write to one member. A server's clock that is set forward ends holds early for
// processes that have not read it before. With sysdate-is-now a stamp may be older than its
// write: Health warns.
package mysql

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tonsurance/lockkeeper/backends/record"
	rows "github.com/tonsurance/lockkeeper/backends/sql"
	"github.com/tonsurance/lockkeeper/internal/registry"
	"github.com/tonsurance/lockkeeper/internal/tlsfile"
	"github.com/tonsurance/lockkeeper/internal/urlparams"
	"github.com/tonsurance/lockkeeper/lock"
)

// Options for [New]. nil means the defaults.
type Options struct {
	// Table is made on first use, where that is permitted. Letters, digits and _, and a
	// database before a dot. Defaults to "lockkeeper".
	Table string

	// TLS is for the connections; nil means as the DSN says.
	TLS *tls.Config

	// Record are the engine's. Names is ignored.
	Record record.Options
}

// Locker locks by rows of one table. It is safe for concurrent use.
type Locker struct {
	*record.Locker
	db *sql.DB
}

// names fit into an index of utf8 tables of old, too.
var names = record.Names{Max: 700}

// now is the moment at which a row is written, and not that at which its statement began:
// that may have waited for another. sysdate-is-now makes it the latter, of which Health warns.
const (
	now   = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)"
	clock = "CONCAT_WS(':', @@hostname, @@port, @@server_id, @@datadir)"
)

var dialect = rows.Dialect{
	Name: "mysql",
	Create: "CREATE TABLE IF NOT EXISTS {table} (name VARBINARY(700) PRIMARY KEY, version VARBINARY(40) NOT NULL, " +
		"record MEDIUMBLOB NOT NULL, stamp BIGINT NOT NULL, clock VARBINARY(600) NOT NULL) ENGINE=InnoDB",
	Now: now, Clock: clock,
	Judge: judge,
}

// New opens a database by its DSN, as the driver takes it: user:password@tcp(host:3306)/database.
// It asks nothing of the server.
func New(dsn string, o *Options) (*Locker, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w: the DSN is not user:password@tcp(host:port)/database", lock.ErrInvalid) // the driver's error may quote it
	}
	return open(cfg, o)
}

func open(cfg *mysql.Config, o *Options) (*Locker, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if cfg.DBName == "" && !strings.Contains(opts.Table, ".") {
		return nil, fmt.Errorf("mysql: %w: no database is named, want one in the DSN or before a dot in the table", lock.ErrInvalid)
	}
	if opts.TLS != nil {
		cfg.TLS = opts.TLS
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Params == nil {
		cfg.Params = map[string]string{}
	}
	// One SET for each connection. The hour that a time zone repeats in autumn must not be read
	// as the other one. Where the server's default is autocommit=0, a hold would be confirmed and
	// never committed: it would end with its connection, and others would not see it. In
	// character sets such as gbk, a byte of a key could swallow the quote's escape behind it.
	for name, value := range map[string]string{"time_zone": "'+00:00'", "autocommit": "1", "character_set_client": "utf8mb4"} {
		for given := range cfg.Params {
			if strings.EqualFold(given, name) { // the DSN must not have another word
				delete(cfg.Params, given)
			}
		}
		cfg.Params[name] = value
	}
	cfg.ClientFoundRows = false
	cfg.InterpolateParams = true // one round trip, and it works through poolers
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w: %w", lock.ErrInvalid, err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(idleConns)
	db.SetConnMaxLifetime(5 * time.Minute) // a name that leads elsewhere now is noticed
	d := dialect
	d.Describe = func(ctx context.Context, db *sql.DB, node *lock.NodeHealth) {
		describe(ctx, db, cmp.Or(opts.Table, rows.DefaultTable), node)
	}
	d.Judge = func(err error) error {
		err = judge(err)
		if errors.Is(err, errReadOnly) {
			// After a fail-over the name leads to another server, and old connections still to
			// this one: the next request connects anew.
			db.SetMaxIdleConns(0)
			db.SetMaxIdleConns(idleConns)
		}
		return err
	}
	store, err := rows.NewStore(db, opts.Table, d)
	if err == nil {
		opts.Record.Names = names
		var l *record.Locker
		if l, err = record.New(store, &opts.Record); err == nil {
			return &Locker{l, db}, nil
		}
	}
	_ = db.Close()
	return nil, err
}

// Close ends what is under way, as record.Locker's Close says, and closes the connections.
func (l *Locker) Close() error { return errors.Join(l.Locker.Close(), l.db.Close()) }

// idleConns is how many connections stay open while nobody asks.
const idleConns = 2

// errReadOnly is matched by the errors of a server that takes no writes.
var errReadOnly = errors.New("name the primary server")

// Numbers of the server's errors, from its manual.
const (
	duplicateKey        = 1062
	noSuchTable         = 1146
	readOnlyOption      = 1290
	readOnlyTransaction = 1792
	readOnlyMode        = 1836

	// Another write came first, and this one is rolled back: of MariaDB with
	// innodb_snapshot_isolation, and of a deadlock, which Galera reports for a conflict.
	recordChanged = 1020
	deadlock      = 1213

	// Limits that pass, although their SQLSTATE is that of mistakes.
	tooManyOfUser = 1203
	limitOfUser   = 1226
	tooManyStmts  = 1461
)

// refusals are errors that asking again does not mend, and what does. Others with the SQLSTATEs
// of a wrong statement or a refused login are no less final, see judge.
var refusals = map[uint16]string{
	1044: "grant this user SELECT, INSERT, UPDATE and DELETE on the table",
	1045: "check user and password, and whether the server wants TLS",
	1049: "make the database, or name another",
	1142: "grant this user SELECT, INSERT, UPDATE and DELETE on the table",
	1227: "grant this user the privilege that it names",
	1698: "check user and password",
	1054: "the table is of something else: name another",
	1064: "the table's name may be a word of SQL: name another",
	1130: "let users of this host connect",
	1193: "a parameter of the DSN is no variable of this server",
	1251: "give this user an authentication plugin that the driver knows",
	1288: "the table is of something else: name another", // a view
	1364: "the table is of something else: name another",
	1406: "the table is of something else: name another",
	1471: "the table is of something else: name another", // a view
	1820: "set this user's password anew: it has expired",
	1862: "set this user's password anew: it has expired",
	3118: "unlock the account", // MySQL
	3159: "the server wants TLS: tls=true",
	4151: "unlock the account", // MariaDB
}

func judge(err error) error {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return err
	}
	switch e.Number {
	case duplicateKey:
		return fmt.Errorf("%w: %w", record.ErrChanged, err)
	case recordChanged, deadlock:
		return fmt.Errorf("%w: %w", rows.ErrRolledBack, err)
	case noSuchTable:
		return rows.ErrNoTable
	case readOnlyOption, readOnlyTransaction, readOnlyMode:
		return fmt.Errorf("%w; %w", err, errReadOnly) // after a fail-over that is another one
	case tooManyOfUser, limitOfUser, tooManyStmts:
		return err
	}
	if do, ok := refusals[e.Number]; ok {
		return fmt.Errorf("%w: %w; %s", lock.ErrRefused, err, do)
	}
	switch state := string(e.SQLState[:]); {
	case strings.HasPrefix(state, "42"): // no such column, a view that can't be written, no right
		return fmt.Errorf("%w: %w; name a table that is lockkeeper's, and grant this user what it needs", lock.ErrRefused, err)
	case strings.HasPrefix(state, "28"):
		return fmt.Errorf("%w: %w; check user and password", lock.ErrRefused, err)
	}
	return err
}

// unknown is the value of a fact that the server does not report.
const unknown = "not known"

func describe(ctx context.Context, db *sql.DB, table string, node *lock.NodeHealth) {
	place := "CONCAT(DATABASE(), '." + table + "')"
	if strings.Contains(table, ".") {
		place = "'" + table + "'"
	}
	fact := func(name, query string) string {
		var value string
		if err := db.QueryRowContext(ctx, query).Scan(&value); err != nil {
			value = unknown
			if node.Err == nil && name == "version" {
				node.Err = judge(err)
			}
		}
		node.Facts = append(node.Facts, lock.Fact{Name: name, Value: value})
		return value
	}
	fact("version", "SELECT @@version")
	if node.Err != nil {
		return // what can't be asked for is not to be warned of
	}
	warn := func(text string) { node.Warnings = append(node.Warnings, text) }
	if v := fact("read only", "SELECT @@read_only"); v != "0" && v != unknown {
		warn("the server is read-only: a lock needs the primary")
	}
	if v := fact("flush at commit", "SELECT @@innodb_flush_log_at_trx_commit"); v != "1" && v != unknown {
		warn("innodb_flush_log_at_trx_commit is not 1: a power cut can undo a lock that was granted, and give it to a second holder")
	}
	engine := "SELECT ENGINE FROM information_schema.TABLES WHERE CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) = " + place
	if v := fact("engine", engine); slices.Contains([]string{"MEMORY", "MyISAM", "Aria", "CSV", "ARCHIVE"}, v) {
		warn("the table's engine is " + v + ", want InnoDB: a restart or a crash can undo a lock that was granted, and give it to a second holder")
	}
	// Most servers have no variable for it, so it is tried.
	if fact("sysdate is now", "SELECT SLEEP(0.002) + (SYSDATE(6) = NOW(6))") == "1" {
		warn("sysdate-is-now is on: a hold may be taken over early by as long as a write waits for another; switch it off")
	}
}

func init() { registry.Register("mysql", openURL) }

// openURL takes mysql://user:password@host:3306/database?table=&tls-ca=...
func openURL(_ context.Context, rest string) (lock.Locker, error) {
	u, err := url.Parse("mysql:" + rest)
	if err != nil || u.Opaque != "" || strings.Contains(rest, "#") {
		return nil, fmt.Errorf("%w: want mysql://user:password@host:3306/database; characters that mean something in a URL must be percent-encoded", lock.ErrInvalid)
	}
	p, err := urlparams.Parse(u.RawQuery, u.Fragment)
	if err != nil {
		return nil, err
	}
	cfg := mysql.NewConfig()
	cfg.Logger = &mysql.NopLogger{} // it would write to stderr what is in the errors
	cfg.Net, cfg.Addr = "tcp", u.Host
	if u.Port() == "" {
		cfg.Addr = net.JoinHostPort(u.Hostname(), "3306")
	}
	socket := p.Text("socket")
	if socket != "" {
		cfg.Net, cfg.Addr = "unix", socket
	}
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.DBName = strings.Trim(u.Path, "/")
	encrypted := p.Flag("tls")
	ca, cert, key := p.Text("tls-ca"), p.Text("tls-cert"), p.Text("tls-key")
	o := &Options{Table: p.Text("table"), Record: record.Options{Owner: p.Text("owner"), Poll: p.Duration("poll")}}
	if err := p.Done(); err != nil {
		return nil, err
	}
	switch {
	case u.Hostname() == "" && socket == "":
		return nil, fmt.Errorf("%w: no host is named, want mysql://user:password@host:3306/database, or socket=", lock.ErrInvalid)
	case strings.Contains(u.Host, ","):
		return nil, fmt.Errorf("%w: several hosts are named, want one: that of the primary server, or of a proxy that follows it", lock.ErrInvalid)
	}
	if o.TLS, err = tlsfile.Load(ca, cert, key); err != nil {
		return nil, fmt.Errorf("%w: %w", lock.ErrInvalid, err)
	}
	if encrypted && o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if o.TLS != nil {
		o.TLS.ServerName = u.Hostname()
	}
	l, err := open(cfg, o)
	if err != nil {
		return nil, err
	}
	return l, nil
}
