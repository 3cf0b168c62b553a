package serve

import (
	"context"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// Source is what a server shows. Each method is called by one goroutine, one call at a
// time, and both may run at the same time. Calls end soon after ctx does.
type Source interface {
	// Locks says who holds what now, and what has happened since the call before.
	Locks(ctx context.Context) Reading
	// Health says how the nodes are.
	Health(ctx context.Context) Checkup
}

// Reading is an answer to the question who holds what. Nobody changes it.
type Reading struct {
	Locks  []Lock  // by name, each once; without an answer, those of the answer before
	Events []Event // the oldest first
	// Err is why there is no answer, and Partial why some locks could not be read.
	Err, Partial error
}

// Lock is what is known of one name in the store.
type Lock struct {
	lock.Info
	Read  time.Time // when the store said so: TTL and Held count from here
	State string    // "held", or of a quorum another one, such as "split"
	Story string    // State in a sentence; "" if there is no more to say

	// Waiters are the names of who waits, first come first. Queued is false where the
	// store can't tell.
	Waiters []string
	Queued  bool

	Quorum int    // how many nodes must have the holder's value; 0: there is no quorum
	Votes  int    // how many have it
	Nodes  []Vote // what each has

	JSON func(now time.Time) any // as /api shows it
}

// Vote is what one node has of a lock.
type Vote struct {
	Node string
	Err  string // why it is not known; "": it is
	// Term numbers the values: the same number is the same hold, 1 is that of most
	// nodes, 0 is none.
	Term   int
	Holder string
	TTL    time.Duration // -1: for ever
	Count  uint64        // fence counter; 0: never counted
}

// Event is one thing that happened. Kind is one of a few names, as in metrics.
type Event struct {
	Time  time.Time
	Kind  string
	Grave Gravity
	Key   string // of which lock; "": of none
	Node  string // of which node; "": of none
	Text  string // the rest in words
	JSON  any    // as /api shows it
}

// Gravity is how much an event or a state matters to an operator.
type Gravity string

const (
	Plain Gravity = ""
	Good  Gravity = "good"
	Warn  Gravity = "warn"
	Bad   Gravity = "bad"
)

// Checkup is an answer to the question how the nodes are. Nobody changes it.
type Checkup struct {
	// Err is why there is none; it matches errors.ErrUnsupported where the store can
	// never tell.
	Err    error
	Status string // in a few words
	Grave  Gravity
	Voting int
	Quorum int // 0: not known
	Nodes  []Node
	Events []Event
	JSON   any // as /api shows it
}

// Node is one that votes, or does not.
type Node struct {
	Name    string
	State   string
	Votes   bool
	Reason  string        // why it does not vote
	Latency time.Duration // 0: not known
	Facts   []lock.Fact
	Advice  []string
}
