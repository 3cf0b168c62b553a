// Package history is what a torture run saw, and the checks of it. All times are
// nanoseconds of one machine's monotonic clock, which its processes share.
package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Lease is one term, as its holder received it.
type Lease struct {
	Key    string
	Client int    // which of the clients
	Run    int    // of that client: it is killed and started again
	Token  uint64 // 0 where the library has none

	Asked int64 // TryAcquire was called
	Got   int64 // it returned: from here on the holder may claim to hold
	Until int64 // end of the validity that the lease reported last
	Ended int64 // its release began, or it said that it was lost; 0: neither
	Lost  bool  // Ended is of a loss, or of its process's death where that frees the key
}

// End is until when the holder could claim to hold. A holder that is stopped or dead
// makes no claim after Until, and frees nothing before.
func (l Lease) End() int64 {
	if l.Ended != 0 && l.Ended < l.Until {
		return l.Ended
	}
	return l.Until
}

func (l Lease) String() string {
	return fmt.Sprintf("%s: client %d.%d, token %d, asked %s, held %s to %s", l.Key, l.Client, l.Run, l.Token,
		clock(l.Asked), clock(l.Got), clock(l.End()))
}

// Op is one operation on the fenced register of a key.
type Op struct {
	Key    string
	Client int
	Run    int
	Token  uint64
	Write  bool
	Value  int64 // written or read
	OK     bool  // the register took the token; a refused one neither reads nor writes

	// Sure is when the holder last saw its lease, or the context made of it, alive
	// before it sent this; 0: it did not look.
	Sure    int64
	Called  int64 // sent
	Applied int64 // done, by the register
}

func (o Op) String() string {
	what, end := "read", "accepted"
	if o.Write {
		what = "wrote"
	}
	if !o.OK {
		end = "refused"
	}
	return fmt.Sprintf("%s: client %d.%d with token %d %s %d at %s: %s", o.Key, o.Client, o.Run, o.Token, what, o.Value, clock(o.Applied), end)
}

// Want is a time during which a client wanted a key.
type Want struct {
	Key    string
	Client int
	Span
}

// Fault is what was done to the system.
type Fault struct {
	Kind   string
	Node   int // -1: none in particular
	Client int // likewise
	Note   string
	Span
	// Impair says what could not work meanwhile: it and its target decide when there
	// was no quorum.
	Impair Impair
}

// Impair is what a fault takes away while it lasts.
type Impair string

// The kinds of Impair.
const (
	Nothing  Impair = ""
	OneNode  Impair = "node"   // the node can't vote
	Process  Impair = "client" // the client does not run
	OnePath  Impair = "path"   // between that client and that node
	AllPaths Impair = "paths"  // of that client to all nodes (Node -1), or of that node
)

// Violation is a rule that was broken.
type Violation struct {
	Rule string
	Text string
	At   int64 // 0: not known
	Key  string
}

func (v Violation) String() string {
	if v.At == 0 {
		return v.Rule + ": " + v.Text
	}
	return fmt.Sprintf("%s (at %s): %s", v.Rule, clock(v.At), v.Text)
}

// History is one run.
type History struct {
	Seed    uint64
	Nodes   int
	Quorum  int
	Clients int
	Span    // of the run
	Leases  []Lease
	Ops     []Op
	Wants   []Want
	Faults  []Fault
}

// clock shows a time; timelines and texts count in seconds of the machine's clock.
func clock(ns int64) string { return fmt.Sprintf("%.6fs", float64(ns)/float64(time.Second)) }

// byKey sorts what has a key, by time within it.
func byKey[T any](all []T, key func(T) string, at func(T) int64) (keys []string, of map[string][]T) {
	of = map[string][]T{}
	for _, x := range all {
		of[key(x)] = append(of[key(x)], x)
	}
	for k, xs := range of {
		keys = append(keys, k)
		slices.SortStableFunc(xs, func(a, b T) int { return cmp.Compare(at(a), at(b)) })
	}
	slices.Sort(keys)
	return keys, of
}

// LeasesByKey sorts the leases by key and by when they were got.
func (h *History) LeasesByKey() (keys []string, of map[string][]Lease) {
	return byKey(h.Leases, func(l Lease) string { return l.Key }, func(l Lease) int64 { return l.Got })
}

// OpsByKey sorts the operations by key and time.
func (h *History) OpsByKey() (keys []string, of map[string][]Op) {
	return byKey(h.Ops, func(o Op) string { return o.Key }, func(o Op) int64 { return o.Applied })
}
