// Package fence is for the side of the resource that a lock protects: it remembers the
// largest fencing token of each key that wrote, and refuses writes with a smaller one.
//
// A lock alone can't stop a holder that was paused: it wakes after its lease has ended,
// and writes. Its token is smaller than that of its successor, so anyone who compares tokens
// at the moment of the write refuses it. That comparison and the write must be one atomic
// step, which is why there is one helper for each place where writes happen:
//
//   - [SQL], in the transaction of the write, for Postgres, MySQL, MariaDB and SQLite;
//   - [Redis], in a script together with the commands that write;
//   - [Handler], for a service over HTTP: [SetHeader] sends the token, the handler
//     refuses, and ends a request of an earlier holder before one of a later is served;
//   - [Memory], for state that lives in this process.
//
// In a program that leads:
//
//	tx, err := db.BeginTx(ctx, nil)
//	if err != nil {
//		return err
//	}
//	defer tx.Rollback()
//	if err := prices.Admit(ctx, tx, "price-feed", lock.TokenOf(ctx, "price-feed")); err != nil {
//		return err // matches fence.ErrStale if another has led since
//	}
//	if _, err := tx.ExecContext(ctx, "UPDATE prices SET ..."); err != nil {
//		return err
//	}
//	return tx.Commit()
//
// # What it guarantees
//
// Once a write with token T was admitted, no write of the same key with a token below T is.
// Equal tokens are admitted: tokens of different leases differ, so it is the same holder.
// Token 0, which stands for no lease, is refused always.
//
// # What it does not
//
// A late write is refused only after its successor has written once: a new leader that
// must not be overwritten by the old one writes something first, at once when it leads.
// It protects what is written through it, and nothing else. The tokens of a key must come
// from one store of locks: moved to another whose counts are lower, every write is refused
// until an operator has reset the key, which must happen while nobody leads.
package fence

import (
	"context"
	"errors"
	"fmt"

	"github.com/tonsurance/lockkeeper/lock"
)

// ErrStale says that a write with a larger token has been admitted, so the lease of this
// one is over. It matches [lock.ErrLost]. The error is or wraps a [*StaleError].
var ErrStale = fmt.Errorf("fence: stale token: %w", lock.ErrLost)

// StaleError says which token was refused, and why.
type StaleError struct {
	Key    string
	Token  uint64
	Latest uint64 // the largest that was admitted; 0 where unknown
}

func (e *StaleError) Error() string {
	latest := "a larger one"
	if e.Latest > 0 {
		latest = fmt.Sprint(e.Latest)
	}
	return fmt.Sprintf("fence: %q: a write with token %d is refused: one with %s was admitted", e.Key, e.Token, latest)
}

// Unwrap makes it match [ErrStale], and so lock.ErrLost.
func (e *StaleError) Unwrap() error { return ErrStale }

// MaxToken is the largest token: what a signed column of 64 bits holds.
const MaxToken = 1<<63 - 1

// check refuses what can't be a token or a key, before any I/O.
func check(key string, token uint64) error {
	var problem error
	switch {
	case key == "":
		problem = errors.New("the key is empty")
	case len(key) > MaxKey:
		problem = fmt.Errorf("the key has %d bytes, want %d at most", len(key), MaxKey)
	case token == 0:
		problem = fmt.Errorf("the token of %.80q is 0, which stands for no lease: is this context one of a lease?", key)
	case token > MaxToken:
		problem = fmt.Errorf("the token of %.80q is %d, want %d at most", key, token, uint64(MaxToken))
	}
	if problem == nil {
		return nil
	}
	return fmt.Errorf("fence: %w: %w", lock.ErrInvalid, problem)
}

// checkCall is check for a call that takes a ctx.
func checkCall(ctx context.Context, key string, token uint64) error {
	if ctx == nil {
		return fmt.Errorf("fence: %w", lock.ContextError(ctx))
	}
	return check(key, token)
}

// MaxKey is how many bytes a key may have: what the indexes of all databases here hold.
const MaxKey = 700
