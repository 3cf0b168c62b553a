package redlock

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// notes are what the log was told of a node: each change once, and never what goes
// on.
type notes struct {
	unguarded atomic.Bool
	down      atomic.Bool            // it does not answer
	downAt    atomic.Int64           // when that was told last: time since epoch; 0: never
	sitsOut   atomic.Pointer[string] // in this run it does not vote yet
}

// downPause is the least time between two notes that a node does not answer: one
// that comes and goes, or fails for one key only, must not fill the log.
const downPause = time.Minute

// answered notes that a request was answered, or why not.
func (n *node) answered(err error) {
	down := n.notes.down.Load()
	switch {
	case err == nil && !down, err != nil && down:
	case err == nil:
		if n.notes.down.CompareAndSwap(true, false) {
			n.tell(slog.LevelInfo, "redis node answers again")
		}
	case errors.Is(err, rueidis.ErrClosing), errors.Is(err, errClosed), errors.Is(err, errConnecting):
	default:
		now, at := int64(time.Since(epoch)), n.notes.downAt.Load()
		if at != 0 && now-at < int64(downPause) || !n.notes.downAt.CompareAndSwap(at, now) {
			return
		}
		n.notes.down.Store(true)
		n.tell(slog.LevelWarn, "redis node does not answer as it should: its vote is missing", "err", ownTimeout(err))
	}
}

func (n *node) unguarded() {
	if n.notes.unguarded.CompareAndSwap(false, true) {
		n.tell(slog.LevelWarn, "redis node is unguarded: it does not tell its run and uptime (INFO server), so that it votes at once after a restart that lost its data")
	}
}

// sitsOut notes that the node has restarted and may have forgotten what it promised.
func (n *node) sitsOut(rep reply) {
	told := n.notes.sitsOut.Load()
	if told != nil && *told == rep.run || !n.notes.sitsOut.CompareAndSwap(told, &rep.run) {
		return
	}
	n.tell(slog.LevelWarn, "redis node has restarted and is not known to be durable: it does not vote for a while", "left", rep.left)
}

// tell logs on a goroutine of its own: a slow logger must not hold up the answers of
// a node. Its caller has begun.
func (n *node) tell(level slog.Level, msg string, args ...any) {
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		n.log.Log(context.Background(), level, msg, append([]any{"node", n.name}, args...)...)
	}()
}
