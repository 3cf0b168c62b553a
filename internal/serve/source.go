package serve

import (
	"context"
	"time"

	"github.com/tonsurance/lockkeeper/internal/inspect"
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
	inspect.Reading
	Read  time.Time // when the store said so: TTL and Held count from here
	Story string    // how it stands in a sentence; "" if it is held and there is no more to say

	Full time.Duration // the longest time left that was seen of this hold
	Seen time.Time     // when this hold was seen first
	// Before says that it was there already when the store was first asked: it has been
	// held for longer than it is seen.
	Before bool
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
	// never report.
	Err    error
	Health inspect.HealthJSON
	Events []Event
}
