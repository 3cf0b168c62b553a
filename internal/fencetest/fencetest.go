// Package fencetest tests what checks fencing tokens on a resource's side: package fence,
// over each place where writes happen.
package fencetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/fence"
	"github.com/tonsurance/lockkeeper/lock"
)

// Resource is a value for each key that is written under a token.
type Resource struct {
	// Write is one atomic step: the check, and the write.
	Write func(ctx context.Context, key string, token uint64, value string) error
	Read  func(ctx context.Context, key string) (string, error)
}

// Run tests r, whose keys begin with prefix.
func Run(t *testing.T, prefix string, r Resource) {
	read := func(t *testing.T, key string) string {
		t.Helper()
		value, err := r.Read(t.Context(), key)
		require.NoError(t, err)
		return value
	}
	t.Run("a smaller token is refused, the same one and a larger are not", func(t *testing.T) {
		key := prefix + "order"
		require.NoError(t, r.Write(t.Context(), key, 7, "a"))
		require.NoError(t, r.Write(t.Context(), key, 7, "b"), "of the same holder")
		require.NoError(t, r.Write(t.Context(), key, 9, "c"))
		err := r.Write(t.Context(), key, 8, "late")
		require.ErrorIs(t, err, fence.ErrStale)
		require.ErrorIs(t, err, lock.ErrLost)
		stale, ok := errors.AsType[*fence.StaleError](err)
		require.True(t, ok)
		require.Equal(t, &fence.StaleError{Key: key, Token: 8, Latest: 9}, stale)
		require.Equal(t, "c", read(t, key))
	})
	t.Run("tokens are compared as whole numbers", func(t *testing.T) {
		key := prefix + "large"
		require.NoError(t, r.Write(t.Context(), key, 9, "a"))
		require.NoError(t, r.Write(t.Context(), key, 10, "b"), "not as text")
		require.NoError(t, r.Write(t.Context(), key, 1<<53+1, "c"))
		require.ErrorIs(t, r.Write(t.Context(), key, 1<<53, "late"), fence.ErrStale, "not as floats")
		require.NoError(t, r.Write(t.Context(), key, fence.MaxToken, "d"))
		require.ErrorIs(t, r.Write(t.Context(), key, fence.MaxToken-1, "late"), fence.ErrStale)
		require.Equal(t, "d", read(t, key))
	})
	t.Run("each key has its own tokens", func(t *testing.T) {
		keys := []string{prefix + "key", prefix + "Key", prefix + "key ", prefix + "kéy"}
		for i, key := range keys {
			require.NoError(t, r.Write(t.Context(), key, uint64(100-i), key))
		}
		for _, key := range keys {
			require.Equal(t, key, read(t, key))
		}
	})
	t.Run("no lease, no write", func(t *testing.T) {
		key := prefix + "none"
		require.ErrorIs(t, r.Write(t.Context(), key, lock.Token(t.Context()), "x"), lock.ErrInvalid)
		require.ErrorIs(t, r.Write(t.Context(), key, fence.MaxToken+1, "x"), lock.ErrInvalid)
		require.ErrorIs(t, r.Write(t.Context(), "", 1, "x"), lock.ErrInvalid)
		require.Empty(t, read(t, key))
	})
	t.Run("of writers that race the largest token stands last", func(t *testing.T) {
		key := prefix + "race"
		const writers, writes = 8, 20
		var mu sync.Mutex
		admitted := map[uint64]bool{}
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range writes {
					token := 1 + rand.Uint64N(1000)
					switch err := r.Write(t.Context(), key, token, strconv.FormatUint(token, 10)); {
					case err == nil:
						mu.Lock()
						admitted[token] = true
						mu.Unlock()
					case !errors.Is(err, fence.ErrStale) && !errors.Is(err, context.Canceled):
						t.Errorf("a write with token %d: %v", token, err)
					}
				}
			})
		}
		wg.Wait()
		last := uint64(0)
		for token := range admitted {
			last = max(last, token)
		}
		require.Equal(t, strconv.FormatUint(last, 10), read(t, key))
	})
	t.Run("a paused leader wakes and its write is refused", func(t *testing.T) {
		key, locker := prefix+"leader", memory.New()
		paused, err := lock.Acquire(t.Context(), locker, key, 20*time.Millisecond, nil)
		require.NoError(t, err)
		old := lock.WithTokenOf(t.Context(), key, paused.Token())
		require.NoError(t, r.Write(old, key, lock.TokenOf(old, key), "old"))
		// It neither renews nor releases: the next one comes when the ttl is over.
		next, err := lock.Acquire(t.Context(), locker, key, time.Minute, nil)
		require.NoError(t, err)
		defer func() { require.NoError(t, next.Release(context.WithoutCancel(t.Context()))) }()
		require.NoError(t, r.Write(t.Context(), key, next.Token(), "new"))
		require.ErrorIs(t, r.Write(old, key, lock.TokenOf(old, key), "late"), fence.ErrStale)
		require.Equal(t, "new", read(t, key))
	})
}

// RunSQL tests fence.SQL on a database, which is the test's alone.
func RunSQL(t *testing.T, db *sql.DB, d fence.Dialect) {
	f, err := fence.NewSQL(d, "")
	require.NoError(t, err)
	exec := func(statement string) {
		t.Helper()
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	exec(f.Migration())
	exec(f.Migration()) // twice does no harm
	exec(map[fence.Dialect]string{
		fence.Postgres: "CREATE TABLE prices (name BYTEA PRIMARY KEY, value VARCHAR(100) NOT NULL)",
		fence.MySQL:    "CREATE TABLE prices (name VARBINARY(100) PRIMARY KEY, value VARCHAR(100) NOT NULL)",
		fence.SQLite:   "CREATE TABLE prices (name BLOB PRIMARY KEY, value VARCHAR(100) NOT NULL)",
	}[d])
	one, two := "?", "?"
	if d == fence.Postgres {
		one, two = "$1", "$2"
	}
	write := func(ctx context.Context, tx *sql.Tx, key, value string) error {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("DELETE FROM prices WHERE name = %s", one), []byte(key)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO prices (name, value) VALUES (%s, %s)", one, two), []byte(key), value)
		return err
	}
	r := Resource{
		Write: func(ctx context.Context, key string, token uint64, value string) error {
			return f.Do(ctx, db, key, token, func(tx *sql.Tx) error { return write(ctx, tx, key, value) })
		},
		Read: func(ctx context.Context, key string) (value string, err error) {
			err = db.QueryRowContext(ctx, fmt.Sprintf("SELECT value FROM prices WHERE name = %s", one), []byte(key)).Scan(&value)
			if errors.Is(err, sql.ErrNoRows) {
				return "", nil
			}
			return value, err
		},
	}
	Run(t, "", r)

	t.Run("what failed is not written and its token is not remembered", func(t *testing.T) {
		failed := errors.New("failed")
		err := f.Do(t.Context(), db, "undone", 9, func(tx *sql.Tx) error {
			require.NoError(t, write(t.Context(), tx, "undone", "x"))
			return failed
		})
		require.ErrorIs(t, err, failed)
		value, err := r.Read(t.Context(), "undone")
		require.NoError(t, err)
		require.Empty(t, value)
		require.NoError(t, r.Write(t.Context(), "undone", 8, "y"))
	})
	t.Run("a write that has begun ends before one with a larger token", func(t *testing.T) {
		begun, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			done <- f.Do(t.Context(), db, "overlap", 1, func(tx *sql.Tx) error {
				close(begun)
				<-goOn
				return write(t.Context(), tx, "overlap", "first")
			})
		}()
		<-begun
		second := make(chan error, 1)
		go func() { second <- r.Write(t.Context(), "overlap", 2, "second") }()
		close(goOn) // whichever the database takes first: the larger token stands last
		require.NoError(t, <-done)
		require.NoError(t, <-second)
		value, err := r.Read(t.Context(), "overlap")
		require.NoError(t, err)
		require.Equal(t, "second", value)
		require.ErrorIs(t, r.Write(t.Context(), "overlap", 1, "late"), fence.ErrStale)
	})
	t.Run("a transaction with an older snapshot sees the present token", func(t *testing.T) {
		if d == fence.SQLite {
			t.Skip("one transaction writes at a time, and none of an older snapshot may")
		}
		require.NoError(t, r.Write(t.Context(), "snapshot", 1, "first"))
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer func() { _ = tx.Rollback() }()
		var n int
		require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM prices").Scan(&n)) // takes the snapshot
		require.NoError(t, r.Write(t.Context(), "snapshot", 9, "next"))
		require.ErrorIs(t, f.Admit(t.Context(), tx, "snapshot", 8), fence.ErrStale)
	})
}
