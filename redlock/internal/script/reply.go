package script

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

// Kind is what a node's answer means.
type Kind uint8

// No parser gives the first two.
const (
	Silent     Kind = iota // no answer yet
	Failed                 // no usable answer
	Granted                // acquire: Count
	Held                   // acquire: by Value, for Left
	Recovering             // acquire: does not vote for Left, in Run
	Counted                // commit, confirm: Count
	NotMine                // release: another's; commit, confirm: not mine, or not counted; repair: not done
	Confirmed              // extend
	Prolonged              // extend, confirm: does not vote for Left, in Run
	Missing                // extend: in Run; release: it was free
	Taken                  // extend: another's
	Freed                  // release
	Repaired               // repair
)

// Reply is one node's answer to a request about a lock.
type Reply struct {
	Kind  Kind
	Count uint64
	// Unguarded: the node does not report its run, so that the guard can't work.
	Unguarded bool
	Passed    bool // Freed: the lock was passed on to the first waiter of the queue
	Value     string
	Left      time.Duration // -1: for ever
	Run       string
}

// A server can answer anything. What does not have the exact shape is [nodeerr.ErrReply],
// never a grant. Each parser takes a reply that is no error.

// ParseAcquire gives Granted, Held or Recovering.
func ParseAcquire(msg rueidis.RedisMessage) (Reply, error) {
	if msg.IsInt64() {
		n, _ := msg.AsInt64()
		unguarded := n < 0
		if unguarded {
			n = -n
		}
		if n < 1 || n >= maxCount {
			return Reply{}, fmt.Errorf("%w: count %d", nodeerr.ErrReply, n)
		}
		return Reply{Kind: Granted, Count: uint64(n), Unguarded: unguarded}, nil
	}
	part, err := fields(&msg, 3)
	if err != nil {
		return Reply{}, err
	}
	switch code, _ := part[0].AsInt64(); code {
	case 0:
		value, err1 := part[1].ToString()
		left, err2 := milliseconds(&part[2])
		if err := errors.Join(err1, err2); err != nil {
			return Reply{}, fmt.Errorf("%w: %w", nodeerr.ErrReply, err)
		}
		return Reply{Kind: Held, Value: value, Left: left}, nil
	case 1:
		return sitsOut(Recovering, part)
	}
	return Reply{}, nodeerr.ErrReply
}

// sitsOut parses {1, seconds, run}.
func sitsOut(kind Kind, part []rueidis.RedisMessage) (Reply, error) {
	seconds, err1 := part[1].AsInt64()
	run, err2 := part[2].ToString()
	if err := errors.Join(err1, err2); err != nil || seconds < 0 || seconds > 1<<31 {
		return Reply{}, fmt.Errorf("%w: %d s, %v", nodeerr.ErrReply, seconds, err)
	}
	return Reply{Kind: kind, Left: time.Duration(seconds) * time.Second, Run: run}, nil
}

// ParseCommit gives Counted or NotMine.
func ParseCommit(msg rueidis.RedisMessage) (Reply, error) {
	n, err := integer(&msg)
	switch {
	case err != nil:
		return Reply{}, err
	case n == 0:
		return Reply{Kind: NotMine}, nil
	case n < 0 || n >= maxCount:
		return Reply{}, fmt.Errorf("%w: count %d", nodeerr.ErrReply, n)
	}
	return Reply{Kind: Counted, Count: uint64(n)}, nil
}

// ParseExtend gives Confirmed, Prolonged, Missing or Taken.
func ParseExtend(msg rueidis.RedisMessage) (Reply, error) {
	if msg.IsInt64() {
		if n, _ := msg.AsInt64(); n == 1 {
			return Reply{Kind: Confirmed}, nil
		}
		return Reply{}, nodeerr.ErrReply
	}
	part, err := msg.ToArray()
	if err != nil || len(part) == 0 || !part[0].IsInt64() {
		return Reply{}, nodeerr.ErrReply
	}
	switch code, _ := part[0].AsInt64(); {
	case code == 1 && len(part) == 3:
		return sitsOut(Prolonged, part)
	case code == 2 && len(part) == 2:
		run, err := part[1].ToString()
		if err != nil {
			return Reply{}, nodeerr.ErrReply
		}
		return Reply{Kind: Missing, Run: run}, nil
	case code == 3:
		return Reply{Kind: Taken}, nil
	}
	return Reply{}, nodeerr.ErrReply
}

// ParseRelease gives Freed, Missing or NotMine.
func ParseRelease(msg rueidis.RedisMessage) (Reply, error) {
	n, err := integer(&msg)
	switch {
	case err != nil:
		return Reply{}, err
	case n == 0:
		return Reply{Kind: Missing}, nil
	case n == 1, n == 3:
		return Reply{Kind: Freed, Passed: n == 3}, nil
	case n == 2:
		return Reply{Kind: NotMine}, nil
	}
	return Reply{}, fmt.Errorf("%w: %d", nodeerr.ErrReply, n)
}

// ParseRepair gives Repaired or NotMine.
func ParseRepair(msg rueidis.RedisMessage) (Reply, error) {
	n, err := integer(&msg)
	if err != nil {
		return Reply{}, err
	}
	if n == 1 {
		return Reply{Kind: Repaired}, nil
	}
	return Reply{Kind: NotMine}, nil
}

// Inspected is what one node shows of a key.
type Inspected struct {
	Held    bool
	Value   string        // can be empty: anything is another client's
	Left    time.Duration // -1: for ever
	Count   uint64        // 0: never counted
	Waiters []Waiter      // in their order, if it was asked for
}

// Waiter is one whose request stands in a node's queue.
type Waiter struct {
	ID     string        // of its wait, the same on all nodes
	Value  string        // that it asks for
	Waited time.Duration // since its wait began, as the node sees it
}

// ParseInspect parses the answer to [Inspect].
func ParseInspect(msg rueidis.RedisMessage) (Inspected, error) {
	part, err := msg.ToArray()
	if err != nil {
		return Inspected{}, err
	}
	if len(part) != 3 && len(part) != 4 {
		return Inspected{}, nodeerr.ErrReply
	}
	var s Inspected
	if s.Value, err = part[0].ToString(); err != nil {
		return Inspected{}, nodeerr.ErrReply
	}
	left, err := part[1].AsInt64()
	if err != nil {
		return Inspected{}, nodeerr.ErrReply
	}
	s.Held = left != -2 // PTTL of a key that is not there
	if s.Left, err = milliseconds(&part[1]); err != nil {
		return Inspected{}, nodeerr.ErrReply
	}
	count, err := part[2].ToString()
	if err != nil {
		return Inspected{}, nodeerr.ErrReply
	}
	s.Count, _ = strconv.ParseUint(count, 10, 64) // "": never counted
	if len(part) == 4 {
		if s.Waiters, err = parseWaiters(&part[3]); err != nil {
			return Inspected{}, err
		}
	}
	return s, nil
}

func parseWaiters(msg *rueidis.RedisMessage) ([]Waiter, error) {
	all, err := msg.ToArray()
	if err != nil {
		return nil, nodeerr.ErrReply
	}
	waiters := make([]Waiter, 0, len(all))
	for i := range all {
		part, err := all[i].ToArray()
		if err != nil || len(part) != 3 {
			return nil, nodeerr.ErrReply
		}
		id, err1 := part[0].ToString()
		value, err2 := part[1].ToString()
		waited, err3 := milliseconds(&part[2])
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("%w: %w", nodeerr.ErrReply, err)
		}
		waiters = append(waiters, Waiter{id, value, max(0, waited)})
	}
	return waiters, nil
}

// Agreed is what stands on a node for the clients of a prefix.
type Agreed struct {
	Text string        // "": nothing
	Left time.Duration // -1: for ever, or nothing is there
	Info string        // INFO server; "": not permitted
}

// ParseAgree parses the answer to [Agree].
func ParseAgree(msg rueidis.RedisMessage) (Agreed, error) {
	part, err := msg.ToArray()
	if err != nil || len(part) != 3 {
		return Agreed{}, fmt.Errorf("%w: not an array of 3", nodeerr.ErrReply)
	}
	text, err1 := part[0].ToString()
	left, err2 := milliseconds(&part[1])
	info, err3 := part[2].ToString()
	if err := errors.Join(err1, err2, err3); err != nil {
		return Agreed{}, fmt.Errorf("%w: %w", nodeerr.ErrReply, err)
	}
	return Agreed{text, left, info}, nil
}

// integer takes integers only: rueidis' AsInt64 would read text too.
func integer(msg *rueidis.RedisMessage) (int64, error) {
	n, err := msg.ToInt64()
	if err != nil {
		return 0, fmt.Errorf("%w: not an integer", nodeerr.ErrReply)
	}
	return n, nil
}

// fields gives the n parts of an array that begins with an integer.
func fields(msg *rueidis.RedisMessage, n int) ([]rueidis.RedisMessage, error) {
	part, err := msg.ToArray()
	if err != nil {
		return nil, fmt.Errorf("%w: not an array", nodeerr.ErrReply)
	}
	if len(part) != n || !part[0].IsInt64() {
		return nil, fmt.Errorf("%w: an array of %d", nodeerr.ErrReply, len(part))
	}
	return part, nil
}

// milliseconds parses PTTL. Anything negative is no expiry.
func milliseconds(msg *rueidis.RedisMessage) (time.Duration, error) {
	n, err := msg.AsInt64()
	if err != nil {
		return 0, err
	}
	if n < 0 || n > int64(MaxLeft/time.Millisecond) {
		return -1, nil
	}
	return time.Duration(n) * time.Millisecond, nil
}

// MaxLeft is the longest duration: above what is left of any lock.
const MaxLeft time.Duration = 1<<63 - 1
