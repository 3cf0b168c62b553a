package waiting

import "time"

// Config is what a wait is about. Times are durations on the clock of the waiter, which
// must never stand still while the nodes' clocks go on.
type Config struct {
	Nodes, Quorum int
	ID            string         // the waiter's name in the queues: the last tie-break
	TTL           time.Duration  // of the lease
	Claim         time.Duration  // for which a node grants at first: at most TTL
	TTLDrift      time.Duration  // what a lease for TTL is shortened by
	ClaimDrift    time.Duration  // what a lease for Claim is
	Refresh       time.Duration  // below half of Claim
	NodeTimeout   time.Duration  // after which a node without an answer counts as failed
	Spread        func() float64 // of refreshes, 0 to 1; nil: none
}

// Kind is what is asked of a node.
type Kind uint8

const (
	Stand   Kind = iota // stand in the queue, be refreshed there, and hand back
	Confirm             // commit and extend in one script
	Leave               // out of the queue, and free the lock if it is this attempt's
)

// Action is a request to send. A node has at most one open, and the machine gets exactly one
// Answered for each, also if it was never sent: so nothing overtakes anything on a node.
type Action struct {
	Kind    Kind
	Node    int
	Attempt int           // whose value it is about: 1 and up, each with a value of its own
	Instead int           // Stand: the attempt whose value is handed back in the same step; 0: none
	To      string        // Stand: the waiter in whose favour; "": nobody's
	Take    bool          // Stand: a lock that is free is passed on
	Again   bool          // Stand: the node was asked for this attempt before
	Stamp   time.Duration // Stand: for how long the wait has lasted, in whole microseconds
	Token   uint64        // Confirm
}

// Result is what an answer says.
type Result uint8

const (
	Failed    Result = iota // no usable answer: the request may have been applied, or may yet be
	Granted                 // Stand: the lock is this attempt's, by Grant
	Standing                // Stand: queued, behind Rank others
	Confirmed               // Confirm: by a node that may vote, with Count
	Denied                  // Confirm: not this attempt's, or the node may not vote
	Left                    // Leave
)

// Grant is what a node reports of a grant, by answer or by push. Stamp is that of the
// request as it was granted: it says from when the grant counts, and for which attempt it is.
type Grant struct {
	Count    uint64
	Stamp    time.Duration
	Position int64 // in the node's queue: the smaller it is, the longer the waiter has waited
}

// Holder is who has a node's lock.
type Holder struct {
	Value    string        // "": it is free
	Waiter   string        // the name of a waiter that was granted it; "": another kind of holder
	Position int64         // of that waiter's grant
	Left     time.Duration // until it ends; below 0: it does not end
	Attempt  int           // of this wait; 0: somebody else's
}

// Answer is a node's to an Action.
type Answer struct {
	Result Result
	Grant         // Granted; Count: Confirmed
	Rank   int    // Standing
	Holder Holder // Standing
	NoVote bool   // Standing: the node may have forgotten locks, and grants none for now
	Unsent bool   // Failed: it was never sent
}

// Lease is what a wait comes to.
type Lease struct {
	Token   uint64
	Attempt int           // whose value holds
	Start   time.Duration // from which it counts
	Expiry  time.Duration
	Full    bool // it lasts for the whole ttl already; else for the claim, and is to be extended
}
