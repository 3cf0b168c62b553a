package redlock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// kind is what a node's answer means.
type kind uint8

const (
	silent     kind = iota // no answer yet
	failed                 // no usable answer: err
	granted                // acquire: n is the count
	held                   // acquire: by value, for left
	recovering             // acquire: does not vote for left, in run
	counted                // commit: n is the count
	notMine                // commit, release: another's; commit: or nobody's
	confirmed              // extend
	prolonged              // extend: does not vote for left, in run
	missing                // extend: in run; release: it was free
	taken                  // extend: another's
	freed                  // release
	repaired               // repair
)

// reply is one node's answer in one round.
type reply struct {
	kind kind
	n    uint64
	// unguarded: the node does not tell its run, so that the guard can't work.
	unguarded bool
	unsent    bool // the node was not asked
	awaited   bool // freed: the next waiter was told
	doubt     bool // a request that sets the lock may still be on its way
	value     string
	left      time.Duration // -1: for ever
	run       string
	err       error
}

func failure(err error) reply { return reply{kind: failed, err: ownTimeout(err)} }

// ownTimeout is err without the identity of a context's end: a node's time-out must
// not look like the end of the caller's ctx. (net's dial time-outs match it too.) And
// without the arguments that Redis quotes of a command that it does not know: whoever
// reads a lock's value can free the lock.
func ownTimeout(err error) error {
	if err == nil {
		return nil
	}
	if text, _, quotes := strings.Cut(err.Error(), ", with args beginning with"); quotes {
		return &shortened{text, err}
	}
	if refused := refusal(err); refused != nil && strings.HasPrefix(err.Error(), "NOAUTH ") {
		return &shortened{"NOAUTH: it asks for a password", err} // the rest is about the protocol
	}
	if refused := refusal(err); refused != nil && strings.HasPrefix(err.Error(), "DENIED ") {
		return &shortened{"DENIED: it is in protected mode, and takes connections from its own machine only", err}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %v", errNoAnswer, err)
	}
	return err
}

// shortened is an error of which only the beginning is shown.
type shortened struct {
	text string
	err  error
}

func (e *shortened) Error() string { return e.text }
func (e *shortened) Unwrap() error { return e.err }

func (a answer) failure() reply { return reply{kind: failed, err: ownTimeout(a.err), unsent: a.unsent} }

// maxCount bounds what a count can be: above it Lua's numbers are not exact.
const maxCount = 1 << 53

var errReply = errors.New("unexpected reply")

// A server can answer anything. What does not have the exact shape is a failed
// node, never a grant.

func parseAcquire(a answer) reply {
	if a.err != nil {
		return a.failure()
	}
	msg := a.msg
	if msg.IsInt64() {
		n, _ := msg.AsInt64()
		unguarded := n < 0
		if unguarded {
			n = -n
		}
		if n < 1 || n >= maxCount {
			return failure(fmt.Errorf("%w: count %d", errReply, n))
		}
		return reply{kind: granted, n: uint64(n), unguarded: unguarded}
	}
	part, err := fields(&msg, 3)
	if err != nil {
		return failure(err)
	}
	switch code, _ := part[0].AsInt64(); code {
	case 0:
		value, err1 := part[1].ToString()
		left, err2 := milliseconds(&part[2])
		if err := errors.Join(err1, err2); err != nil {
			return failure(fmt.Errorf("%w: %w", errReply, err))
		}
		return reply{kind: held, value: value, left: left}
	case 1:
		return waiting(recovering, part)
	}
	return failure(errReply)
}

// waiting parses {1, seconds, run}.
func waiting(k kind, part []rueidis.RedisMessage) reply {
	seconds, err1 := part[1].AsInt64()
	run, err2 := part[2].ToString()
	if err := errors.Join(err1, err2); err != nil || seconds < 0 || seconds > 1<<31 {
		return failure(fmt.Errorf("%w: %d s, %v", errReply, seconds, err))
	}
	return reply{kind: k, left: time.Duration(seconds) * time.Second, run: run}
}

func parseCommit(a answer) reply {
	if a.err != nil {
		return a.failure()
	}
	n, err := integer(&a.msg)
	switch {
	case err != nil:
		return failure(err)
	case n == 0:
		return reply{kind: notMine}
	case n < 0 || n >= maxCount:
		return failure(fmt.Errorf("%w: count %d", errReply, n))
	}
	return reply{kind: counted, n: uint64(n)}
}

func parseExtend(a answer) reply {
	if a.err != nil {
		return a.failure()
	}
	msg := a.msg
	if msg.IsInt64() {
		if n, _ := msg.AsInt64(); n == 1 {
			return reply{kind: confirmed}
		}
		return failure(errReply)
	}
	part, err := msg.ToArray()
	if err != nil || len(part) == 0 || !part[0].IsInt64() {
		return failure(errReply)
	}
	switch code, _ := part[0].AsInt64(); {
	case code == 1 && len(part) == 3:
		return waiting(prolonged, part)
	case code == 2 && len(part) == 2:
		run, err := part[1].ToString()
		if err != nil {
			return failure(errReply)
		}
		return reply{kind: missing, run: run}
	case code == 3:
		return reply{kind: taken}
	}
	return failure(errReply)
}

func parseRelease(a answer) reply {
	if a.err != nil {
		return a.failure()
	}
	n, err := integer(&a.msg)
	switch {
	case err != nil:
		return failure(err)
	case n == 0:
		return reply{kind: missing}
	case n == 1, n == 3:
		return reply{kind: freed, awaited: n == 3}
	case n == 2:
		return reply{kind: notMine}
	}
	return failure(fmt.Errorf("%w: %d", errReply, n))
}

func parseRepair(a answer) reply {
	if a.err != nil {
		return a.failure()
	}
	n, err := integer(&a.msg)
	if err != nil {
		return failure(err)
	}
	if n == 1 {
		return reply{kind: repaired}
	}
	return reply{kind: notMine}
}

// integer takes integers only: rueidis' AsInt64 would read text too.
func integer(msg *rueidis.RedisMessage) (int64, error) {
	n, err := msg.ToInt64()
	if err != nil {
		return 0, fmt.Errorf("%w: not an integer", errReply)
	}
	return n, nil
}

// fields gives the n parts of an array that begins with an integer.
func fields(msg *rueidis.RedisMessage, n int) ([]rueidis.RedisMessage, error) {
	part, err := msg.ToArray()
	if err != nil {
		return nil, fmt.Errorf("%w: not an array", errReply)
	}
	if len(part) != n || !part[0].IsInt64() {
		return nil, fmt.Errorf("%w: an array of %d", errReply, len(part))
	}
	return part, nil
}

// milliseconds parses PTTL. Anything negative is no expiry.
func milliseconds(msg *rueidis.RedisMessage) (time.Duration, error) {
	n, err := msg.AsInt64()
	if err != nil {
		return 0, err
	}
	if n < 0 || n > int64(maxDuration/time.Millisecond) {
		return -1, nil
	}
	return time.Duration(n) * time.Millisecond, nil
}

const maxDuration = 1<<63 - 1
