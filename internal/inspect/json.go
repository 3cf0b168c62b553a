package inspect

import (
	"strconv"
	"time"

	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/lock"
)

// KeyJSON is one key. Tokens are strings: JSON's numbers lose digits of large ones in some
// readers. A field that is not there is not known, or does not apply.
type KeyJSON struct {
	Key    string `json:"key"`
	Held   bool   `json:"held"`
	Holder string `json:"holder,omitempty"`
	Token  string `json:"token,omitempty"` // none: unknown
	LeftMS *int64 `json:"left_ms,omitempty"`
	HeldMS *int64 `json:"held_ms,omitempty"` // since when the hold began; none: the store can't tell

	WaitingCount *int     `json:"waiting_count,omitempty"` // how many wait in the store's queue; none: the store has no queue
	Waiting      []string `json:"waiting,omitempty"`       // their names, in the order of the queue; of Redis only

	SlotOf     string    `json:"slot_of,omitempty"` // of a further slot: the key of its semaphore
	Slot       int       `json:"slot,omitempty"`    // and its number, 2 or more
	Slots      []KeyJSON `json:"slots,omitempty"`   // of a key: its further slots that are not free
	SlotsError string    `json:"slots_error,omitempty"`

	// Of a key with readers and writers.
	As       string    `json:"as,omitempty"`        // AsWriter, AsReader, AsGate; and AsRequest
	ReaderOf string    `json:"reader_of,omitempty"` // of a reader's place: the key that it reads
	Readers  []KeyJSON `json:"readers,omitempty"`   // of a key: its readers' places

	ResignOf string `json:"resign_of,omitempty"` // of a request to a holder that is gone by now: the key
	ResignBy string `json:"resign_by,omitempty"` // who has asked the holder to resign

	// Of a free name that no lock has, though it looks like a part's: the lock that has that part,
	// as "crawl" has slot 1, which "crawl;slot=1" does not name; or the key, if there is no such part.
	Meant *KeyJSON `json:"meant,omitempty"`

	// Of a quorum of Redis nodes only.
	State  string     `json:"state,omitempty"`
	Votes  int        `json:"votes,omitempty"`  // nodes that have the value that most have
	Quorum int        `json:"quorum,omitempty"` // how many must
	Nodes  []ViewJSON `json:"nodes,omitempty"`
}

// ViewJSON is one node's part of a key.
type ViewJSON struct {
	Node    string `json:"node"`
	Error   string `json:"error,omitempty"`
	Holder  string `json:"holder,omitempty"`
	Term    int    `json:"term,omitempty"` // the same number is the same hold
	Foreign bool   `json:"foreign,omitempty"`
	LeftMS  *int64 `json:"left_ms,omitempty"`
	Count   string `json:"count,omitempty"`
}

// JSON is k for programs.
func (k Reading) JSON() KeyJSON {
	r := KeyJSON{
		Key: k.Key, Held: k.Holder != "", Holder: k.Holder, Token: TokenJSON(k.Token),
		As: k.As(), ReaderOf: k.ReaderOf, ResignOf: k.ResignOf, ResignBy: k.ResignBy,
	}
	if r.Held && k.TTL >= 0 {
		r.LeftMS = millis(k.TTL)
	}
	if r.Held && k.Info.Held > 0 {
		r.HeldMS = millis(k.Info.Held)
	}
	if k.Queues {
		r.WaitingCount = &k.Waiting
	}
	switch key, slot := lock.SlotOf(k.Key); {
	case slot == 1:
	case k.ReaderOf != "":
		r.Slot = slot
	default:
		r.SlotOf, r.Slot = key, slot
	}
	if k.GroupErr != nil {
		r.SlotsError = plain.OneLine(k.GroupErr)
	}
	for _, s := range k.Slots {
		r.Slots = append(r.Slots, s.JSON())
	}
	for _, s := range k.Readers {
		r.Readers = append(r.Readers, s.JSON())
	}
	if _, other := k.StandsFor(); other && k.Meant != nil {
		meant := k.Meant.JSON()
		r.Meant = &meant
	}
	if k.View == nil {
		return r
	}
	r.State, r.Votes, r.Quorum, r.Waiting = string(k.State()), k.View.Votes(), k.View.Quorum, k.View.Waiters
	for _, n := range k.View.Nodes {
		node := ViewJSON{Node: n.Node, Holder: n.Holder, Term: n.Term, Foreign: n.Foreign, Count: TokenJSON(n.Count)}
		if n.Err != nil {
			node.Error = plain.OneLine(n.Err)
		}
		if n.Term > 0 && n.TTL >= 0 {
			node.LeftMS = millis(n.TTL)
		}
		r.Nodes = append(r.Nodes, node)
	}
	return r
}

// TokenJSON is a token for JSON; "" is left out, and unknown.
func TokenJSON(token uint64) string {
	if token == 0 {
		return ""
	}
	return strconv.FormatUint(token, 10)
}

func millis(d time.Duration) *int64 {
	ms := d.Milliseconds()
	return &ms
}
