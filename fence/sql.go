package fence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/tonsurance/lockkeeper/lock"
)

// Dialect is the kind of database.
type Dialect int

// The dialects.
const (
	Postgres Dialect = iota + 1
	MySQL            // and MariaDB
	SQLite
)

// statements are those of a dialect: create makes the table; admit raises the token of a
// key, and keeps the row locked until the transaction ends; latest reads it as it is now.
type statements struct{ create, admit, latest string }

var dialects = map[Dialect]statements{
	Postgres: {
		"CREATE TABLE IF NOT EXISTS {table} (name BYTEA PRIMARY KEY, token BIGINT NOT NULL)",
		"INSERT INTO {table} AS f (name, token) VALUES ($1, $2)" +
			" ON CONFLICT (name) DO UPDATE SET token = EXCLUDED.token WHERE f.token <= EXCLUDED.token",
		"SELECT token FROM {table} WHERE name = $1",
	},
	MySQL: {
		"CREATE TABLE IF NOT EXISTS {table} (name VARBINARY(700) PRIMARY KEY, token BIGINT NOT NULL, writes BIGINT NOT NULL) ENGINE=InnoDB",
		// It changes the row also where the token stays: a cluster with several
		// primaries (Galera) compares only changes, and what this transaction has
		// changed it reads as it is, whatever its snapshot.
		"INSERT INTO {table} (name, token, writes) VALUES (?, ?, 1)" +
			" ON DUPLICATE KEY UPDATE token = GREATEST(token, VALUES(token)), writes = writes + 1",
		"SELECT token FROM {table} WHERE name = ?",
	},
	SQLite: {
		"CREATE TABLE IF NOT EXISTS {table} (name BLOB PRIMARY KEY, token INTEGER NOT NULL)",
		"INSERT INTO {table} (name, token) VALUES (?, ?)" +
			" ON CONFLICT (name) DO UPDATE SET token = excluded.token WHERE token <= excluded.token",
		"SELECT token FROM {table} WHERE name = ?",
	},
}

// DefaultTable is the name of the table where none is given.
const DefaultTable = "fencing_tokens"

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?$`)

// SQL keeps the largest token of each key in a table beside the data that it protects.
// It is immutable, and safe for concurrent use.
type SQL struct {
	dialect Dialect
	statements
}

// NewSQL makes one for a table; empty means [DefaultTable]. It asks nothing of the
// database: run [SQL.Migration] once before. An error matches [lock.ErrInvalid].
func NewSQL(d Dialect, table string) (*SQL, error) {
	if table == "" {
		table = DefaultTable
	}
	s, ok := dialects[d]
	switch {
	case !ok:
		return nil, fmt.Errorf("fence: %w: the dialect is %d, want Postgres, MySQL or SQLite", lock.ErrInvalid, d)
	case !tableName.MatchString(table):
		return nil, fmt.Errorf("fence: %w: the table is %.80q, want letters, digits and _, up to 63 of them, and at most one schema before a dot", lock.ErrInvalid, table)
	}
	named := strings.NewReplacer("{table}", table)
	return &SQL{d, statements{named.Replace(s.create), named.Replace(s.admit), named.Replace(s.latest)}}, nil
}

// Migration is the statement that makes the table, if it is not there. Dropping the table
// or deleting its rows lets late writes in again.
func (s *SQL) Migration() string { return s.create }

// Admit lets the rest of tx write for key, or returns an error that matches [ErrStale],
// after which tx must be rolled back. Call it first in each transaction that writes: the
// key's row stays locked until tx ends, so what writes for one key commits in the order
// of the tokens. tx can have any isolation level; under REPEATABLE READ or SERIALIZABLE
// the database may ask for the transaction to be tried again, in its own words.
//
// An error that matches [lock.ErrInvalid] says that key or token can't be right. Any other
// is the driver's.
func (s *SQL) Admit(ctx context.Context, tx *sql.Tx, key string, token uint64) error {
	if err := checkCall(ctx, key, token); err != nil {
		return err
	}
	if tx == nil {
		return fmt.Errorf("fence: %w: tx is nil", lock.ErrInvalid)
	}
	result, err := tx.ExecContext(ctx, s.admit, []byte(key), int64(token))
	if err != nil {
		return fmt.Errorf("fence: admit %q: %w", key, err)
	}
	if s.dialect != MySQL { // which counts rows differently by a setting of the driver's
		switch n, err := result.RowsAffected(); {
		case err != nil:
			return fmt.Errorf("fence: admit %q: %w", key, err)
		case n > 0:
			return nil
		}
	}
	var latest int64
	switch err := tx.QueryRowContext(ctx, s.latest, []byte(key)).Scan(&latest); {
	case errors.Is(err, sql.ErrNoRows): // an older snapshot, in which there is no row yet
		return &StaleError{key, token, 0}
	case err != nil:
		return fmt.Errorf("fence: admit %q: %w", key, err)
	}
	if s.dialect == MySQL && uint64(latest) <= token {
		return nil // GREATEST wrote it, or left the same
	}
	stale := &StaleError{Key: key, Token: token}
	if uint64(latest) > token {
		stale.Latest = uint64(latest)
	}
	return stale
}

// Do runs fn in a transaction of its own after [SQL.Admit], and commits it if fn returned
// nil. fn must not end the transaction. An error of fn's is returned as it is.
func (s *SQL) Do(ctx context.Context, db *sql.DB, key string, token uint64, fn func(tx *sql.Tx) error) error {
	if err := checkCall(ctx, key, token); err != nil {
		return err
	}
	switch {
	case db == nil:
		return fmt.Errorf("fence: %w: db is nil", lock.ErrInvalid)
	case fn == nil:
		return fmt.Errorf("fence: %w: fn is nil", lock.ErrInvalid)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("fence: %q: %w", key, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	if err := s.Admit(ctx, tx, key, token); err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("fence: %q: commit: %w", key, err)
	}
	return nil
}
