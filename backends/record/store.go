package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// ErrChanged is what [Store.Put] returns if the record no longer has the version that
// the write was to replace.
var ErrChanged = errors.New("record: the record has changed")

// Record is what a store keeps of one key. A store returns it as it was put.
type Record struct {
	Key    string        // a name may be escaped or a hash; this is what is compared
	Token  uint64        // fencing token of the present term, or of the last one
	Term   string        // random, never used twice: names the term, also after its token was raised
	Holder string        // readable name of the term's holder
	TTL    time.Duration // of the hold; 0: free
	Seq    uint64        // counts all writes, so that no two records are equal
	Beat   uint64        // Seq of the term's own last write; those of the queue don't count
	Until  time.Time     // when the hold ends, or ended, by the writer's wall clock: a hint
	Queue  []string      // processes that wait, first come first
}

// format is what Encode writes, in JSON. Names are short because each renewal sends it.
type format struct {
	Version int      `json:"v"`
	Key     string   `json:"key"`
	Token   uint64   `json:"token"`
	Term    string   `json:"term"`
	Holder  string   `json:"holder,omitempty"`
	TTL     int64    `json:"ttl_us,omitempty"`
	Seq     uint64   `json:"seq"`
	Beat    uint64   `json:"beat"`
	Until   int64    `json:"until_ms,omitempty"`
	Queue   []string `json:"queue,omitempty"`
}

const formatVersion = 1

// Encode is the record in JSON, for stores of opaque bytes. Durations are kept to the
// microsecond, rounded up.
func (r Record) Encode() []byte {
	f := format{
		Version: formatVersion, Key: r.Key, Token: r.Token, Term: r.Term, Holder: r.Holder,
		TTL: (r.TTL + time.Microsecond - 1).Microseconds(), Seq: r.Seq, Beat: r.Beat, Queue: r.Queue,
	}
	if !r.Until.IsZero() {
		f.Until = r.Until.UnixMilli()
	}
	b, err := json.Marshal(f)
	if err != nil {
		panic(err) // of these types it can't
	}
	return b
}

// unreadable is why Decode fails.
type unreadable struct{ why string }

func (e *unreadable) Error() string {
	return fmt.Sprintf("%v: what is stored there %s", lock.ErrUnavailable, e.why)
}

func (e *unreadable) Unwrap() error { return lock.ErrUnavailable }

// Decode reads what Encode wrote. Its error matches [lock.ErrUnavailable]: what is there
// may be the record of a newer version of this package, and must not be taken for free.
func Decode(b []byte) (Record, error) {
	var f format
	if err := json.Unmarshal(b, &f); err != nil || f.Version < 1 || f.Key == "" || f.TTL < 0 {
		return Record{}, &unreadable{"is no record of lockkeeper"}
	}
	if f.Version > formatVersion {
		return Record{}, &unreadable{fmt.Sprintf("has format %d, this program knows up to %d", f.Version, formatVersion)}
	}
	r := Record{
		Key: f.Key, Token: f.Token, Term: f.Term, Holder: f.Holder,
		TTL: time.Duration(f.TTL) * time.Microsecond, Seq: f.Seq, Beat: f.Beat, Queue: f.Queue,
	}
	if f.Until != 0 {
		r.Until = time.UnixMilli(f.Until)
	}
	return r, nil
}

// newer reports whether r is a later state of its key than o. Tokens rise from term to
// term and Seq with each write, so it can tell a stale read.
func (r Record) newer(o Record) bool {
	return r.Token > o.Token || r.Token == o.Token && r.Seq > o.Seq
}

// sameTerm reports whether both are states of one term. Its token may have been raised
// from the one to the other.
func (r Record) sameTerm(o Record) bool { return r.Term == o.Term }

// Entry is a record as a store has it.
type Entry struct {
	Record Record

	// Version names this state of the record; "" means that there is no record.
	Version string

	// Age is how long ago the record was put at least, by one clock of the store, less
	// that clock's resolution and whatever doubt there is. 0 means that the store can't
	// tell, and is always right; a store that can tell returns at least 1ns.
	Age time.Duration

	// Time is the store's clock: for first tokens and, where Age goes by it, to notice that
	// it was set forward: so return it also where Age is 0. Zero: unknown.
	Time time.Time

	// Name is where List found the record; "": it does not say. Below a prefix there can be the
	// records of Lockers with a longer one, whose names are not those of these keys here.
	Name string
}

// Store is one atomic register for each name, and is safe for concurrent use. Package
// recordtest checks these obligations:
//
//  1. Get returns the latest state: none that is older than a Put which has returned.
//     That nothing is there is no error, but an Entry without a Version.
//  2. Put writes r if and only if the present version is still version ("": nothing is
//     there), in one atomic step, and returns the new version.
//  3. Put returns [ErrChanged] only if it changed nothing and never will. Any other error
//     leaves it open: the write may have been applied, or may be later.
//  4. A version is never used again: neither for other content, nor after the record was
//     deleted and made anew. A Put for a version whose record is gone fails with
//     ErrChanged; it must not create the record.
//  5. Both return soon after ctx ends.
//  6. Errors: [lock.ErrRefused] is matched by what asking again does not mend (no
//     permission, a missing table), with what to do; all others count as an outage. No
//     error shows a password.
//
// A name is what [Options.Names] makes of a key.
type Store interface {
	Get(ctx context.Context, name string) (Entry, error)
	Put(ctx context.Context, name string, r Record, version string) (newVersion string, err error)
}

// Watcher is a Store that pushes. Without it, the Locker polls for those who wait.
type Watcher interface {
	// Watch calls changed with each new state of name from now on, in order, an Entry
	// without a Version if it is deleted; and with nil when states may have been missed,
	// because the connection was lost, and again when it is back. It returns once
	// notifications flow, or its error soon after ctx ends. ctx bounds this call alone:
	// notifications flow until stop. changed doesn't block; it is not called any more
	// after stop has returned.
	Watch(ctx context.Context, name string, changed func(*Entry)) (stop func(), err error)
}

// Lister is a Store that can list. Without it, [Locker.List] and pruning are not
// supported.
type Lister interface {
	// List yields the entries whose names start with prefix. It is advisory: old states
	// and names beside the prefix are filtered by the caller. An error ends it.
	List(ctx context.Context, prefix string) iter.Seq2[Entry, error]
}

// Deleter is a Store whose records can be pruned, see [Locker.Prune].
type Deleter interface {
	// Delete removes name if it still has version, in one atomic step. Its errors are
	// those of Put.
	Delete(ctx context.Context, name, version string) error
}

// Describer is a Store that knows more of its server than whether it answers.
type Describer interface {
	// Describe returns the store's part of [lock.NodeHealth]: name, facts and warnings, and
	// in Err why it can't lock, if it knows.
	Describe(ctx context.Context) lock.NodeHealth
}
