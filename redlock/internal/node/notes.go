package node

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// condition is how a node is, by the last line about it in the log.
type condition int32

const (
	condVotes   condition = iota // or was never asked
	condSilent                   // its connection fails, or gives no answer in time
	condRefuses                  // it answers votes with an error, or with what is no answer
)

// notes are what the log says of a node: one line when an outage begins and one when it
// ends, whatever is asked of it meanwhile and for however many leases.
type notes struct {
	condition atomic.Int32 // read without mu where nothing changes
	unguarded atomic.Bool
	noQueue   atomic.Bool
	sitsOut   atomic.Pointer[string] // the run in which it did not vote yet, as logged last

	mu    sync.Mutex                     // guards below, and the order of what is written
	began [condRefuses + 1]time.Duration // when each condition was logged last, of Now; 0: never
	odd   time.Duration                  // when an error about one key was, likewise
}

// LogPause is the least time between two lines that say the same of a node: one that
// comes and goes, or fails for one key only, must not fill the log.
const LogPause = time.Minute

// failed notes that a request got no answer.
func (n *Node) failed(err error) {
	switch {
	case condition(n.notes.condition.Load()) == condSilent:
	case errors.Is(err, rueidis.ErrClosing), errors.Is(err, nodeerr.ErrClosed), errors.Is(err, nodeerr.ErrConnecting), errors.Is(err, lock.ErrClosed):
	default:
		n.becomes(condSilent, slog.LevelWarn, "redis node does not answer as it should: its vote is missing", "err", nodeerr.Shown(err))
	}
}

// Noted notes what the answer to a request about a lock says of the node. err is why rep
// is Failed.
func (n *Node) Noted(lock string, rep script.Reply, fate Fate, err error) {
	switch rep.Kind {
	case script.Granted, script.Confirmed, script.Counted, script.Freed, script.Repaired:
		// It wrote: it votes, whatever it said before.
		if condition(n.notes.condition.Load()) != condVotes {
			n.back()
		}
	case script.Held:
		// It answers, and this vote was another's. Whether it could write is not known:
		// a node that is full, or a replica, answers the same.
		if condition(n.notes.condition.Load()) == condSilent {
			n.back()
		}
	case script.Failed:
		switch {
		case errors.Is(err, nodeerr.ErrReply):
			n.becomes(condRefuses, slog.LevelWarn, "redis node does not answer as it should: its vote is missing", "err", err)
		case fate == NeverSent || nodeerr.Refusal(err) == nil: // failed logs what is to be logged
		case aboutKey(err):
			n.oddKey(lock, err)
		case condition(n.notes.condition.Load()) != condRefuses:
			n.becomes(condRefuses, slog.LevelWarn, "redis node refuses to vote", "err", err)
		}
	}
}

// aboutKey: the error is of what the key has, or of who may use it.
func aboutKey(err error) bool {
	text := err.Error()
	return strings.Contains(text, "WRONGTYPE") || strings.Contains(text, script.ErrorPrefix) ||
		strings.Contains(text, "NOPERM") && strings.Contains(text, "key") || strings.Contains(text, "CROSSSLOT")
}

// becomes logs that an outage has begun, or is of another kind now; not again within LogPause.
func (n *Node) becomes(to condition, level slog.Level, msg string, args ...any) {
	n.notes.mu.Lock()
	defer n.notes.mu.Unlock()
	now := Now()
	if at := n.notes.began[to]; condition(n.notes.condition.Load()) == to || at != 0 && now-at < LogPause {
		return
	}
	n.notes.began[to] = now
	n.notes.condition.Store(int32(to))
	n.Log(level, msg, args...)
}

// back logs that an outage has ended.
func (n *Node) back() {
	n.notes.mu.Lock()
	defer n.notes.mu.Unlock()
	msg := "redis node votes again"
	switch condition(n.notes.condition.Swap(int32(condVotes))) {
	case condVotes:
		return
	case condSilent:
		msg = "redis node answers again"
	}
	n.Log(slog.LevelInfo, msg)
}

func (n *Node) oddKey(key string, err error) {
	n.notes.mu.Lock()
	defer n.notes.mu.Unlock()
	now := Now()
	if at := n.notes.odd; at != 0 && now-at < LogPause {
		return
	}
	n.notes.odd = now
	n.Log(slog.LevelWarn, "redis node can't vote on a key", "key", key, "err", err)
}

// Log adds a line about the node to the journal.
func (n *Node) Log(level slog.Level, msg string, args ...any) {
	n.o.Journal.Add(level, msg, append([]any{"node", n.Name}, args...)...)
}

func (n *Node) unguarded() {
	if n.notes.unguarded.CompareAndSwap(false, true) {
		n.Log(slog.LevelWarn, "redis node is unguarded: it does not report its run and uptime (INFO server), so that it votes at once after a restart that lost its data")
	}
}

// KeepsNoQueue notes that those who wait can't queue on the node: its votes count all the
// same.
func (n *Node) KeepsNoQueue(err error) {
	if nodeerr.Refusal(err) != nil && n.notes.noQueue.CompareAndSwap(false, true) {
		n.Log(slog.LevelDebug, "redis node keeps no queue of waiters", "err", nodeerr.Shown(err))
	}
}

// sitsOut notes that the node has restarted and may have forgotten what it promised.
func (n *Node) sitsOut(rep script.Reply) {
	logged := n.notes.sitsOut.Load()
	if logged != nil && *logged == rep.Run || !n.notes.sitsOut.CompareAndSwap(logged, &rep.Run) {
		return
	}
	n.Log(slog.LevelWarn, "redis node has restarted and is not known to be durable: it does not vote for a while", "left", rep.Left)
}
