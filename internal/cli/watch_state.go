package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/lock"
)

// What events report. They are what --output json prints in "event".
const (
	evHolds       = "holds" // was held when the watch began
	evAcquired    = "acquired"
	evReleased    = "released"
	evExpired     = "expired"
	evHandedOver  = "handed_over"
	evResignAsked = "resign_asked" // somebody asks the holder to end its term
	evNodeUp      = "node_up"      // voted when the watch began
	evNodeDown    = "node_down"
	evNodeBack    = "node_back"
	evUnavailable = "unavailable"
	evAvailable   = "available"
	evIncomplete  = "incomplete" // some locks can't be read
	evComplete    = "complete"
)

// event is one line of watch. Tokens are strings, see inspect.KeyJSON.
type event struct {
	Time      time.Time `json:"time"`
	Kind      string    `json:"event"`
	Key       string    `json:"key,omitempty"`
	Holder    string    `json:"holder,omitempty"` // whom it is about; with handed_over who has it now
	Token     string    `json:"token,omitempty"`
	As        string    `json:"as,omitempty"` // see inspect.KeyJSON
	LeftMS    *int64    `json:"left_ms,omitempty"`
	HeldMS    *int64    `json:"held_ms,omitempty"` // none: the store can't tell
	Waiting   *int      `json:"waiting_count,omitempty"`
	From      string    `json:"from,omitempty"` // with handed_over, and with acquired where watch has seen it: who had it before
	FromToken string    `json:"from_token,omitempty"`
	FromLost  bool      `json:"from_may_have_lost,omitempty"` // with handed_over: that one's time may have been up
	By        string    `json:"by,omitempty"`                 // with resign_asked: who asks
	Node      string    `json:"node,omitempty"`
	Reason    string    `json:"reason,omitempty"` // for people
}

// colour is how grave it is.
func (e event) colour() string {
	switch e.Kind {
	case evExpired, evIncomplete:
		return warn
	case evNodeDown, evUnavailable:
		return bad
	case evAcquired, evNodeBack, evAvailable, evComplete:
		return good
	}
	return ""
}

// subject and detail are e for people, without its time and kind.
func (e event) subject() string {
	if e.Key != "" {
		return printable(e.Key)
	}
	return printable(e.Node)
}

func (e event) detail() string {
	token := func(s string) string {
		if s == "" {
			return ""
		}
		return ", token " + s
	}
	switch e.Kind {
	case evHandedOver:
		s := printable(name(e.From)) + " → " + printable(name(e.Holder)) + token(e.Token)
		if e.FromLost {
			s += "; the former one may have lost it"
		}
		return s
	case evExpired:
		return printable(name(e.Holder)) + token(e.Token) + " did not renew it"
	case evResignAsked:
		return printable(name(e.Holder)) + token(e.Token) + ", by " + printable(e.By)
	case evHolds, evAcquired, evReleased:
		s := "by " + printable(name(e.Holder)) + token(e.Token)
		if e.As == inspect.AsReader || e.As == inspect.AsWriter {
			s += ", as " + e.As
		}
		if e.From != "" {
			s += "; " + printable(e.From) + " had it before" + token(e.FromToken)
		}
		return s
	}
	return printable(e.Reason)
}

// listing is an answer of the store to the question who holds what.
type listing struct {
	began, ended time.Time
	locks        []inspect.Reading
	err          error    // there was no answer
	partial      error    // why some locks could not be read
	unknown      []string // these of them, where their keys are known
}

// hold is one of a key as it was seen last.
type hold struct {
	inspect.Reading
	began, ended time.Time     // of the question that showed it
	full         time.Duration // the longest time left that was seen
	seen         time.Time     // when it was seen first
	before       bool          // it was there when the watch began
	announced    bool          // there was an event of its beginning
}

// heldFor is for how long it has been held: as the store says, or else as was seen; atLeast
// if it was there before.
func (h hold) heldFor(now time.Time) (d time.Duration, atLeast bool) {
	if h.Held > 0 {
		return h.Held + now.Sub(h.ended), false
	}
	return now.Sub(h.seen), h.before
}

// left is until when the hold stands unless renewed; -1: for ever.
func (h hold) left(now time.Time) time.Duration {
	if h.TTL < 0 {
		return -1
	}
	return max(0, h.TTL-now.Sub(h.ended))
}

// same: of one holder, the same token is the same hold, and an unknown one (too few
// nodes report it) says nothing.
func (h hold) same(i inspect.Reading) bool {
	return h.Holder == i.Holder && (h.Token == i.Token || h.Token == 0 || i.Token == 0)
}

// watchState is what watch knows, and makes events of what is new.
type watchState struct {
	holds   map[string]hold
	listed  bool  // there was an answer
	err     error // of the last question, nil if it was answered
	partial error // of the last answer, nil if it was whole

	// last is who had a key that is free now, for its next holder. Of many keys some
	// are forgotten.
	last map[string]hold

	nodes   []inspect.NodeJSON
	health  inspect.HealthJSON
	checked bool
}

// mostLast is of how many free keys the last holder is remembered.
const mostLast = 1000

// update takes an answer. Without one nothing is known to have changed.
func (s *watchState) update(l listing) []event {
	at := l.ended
	if l.err != nil {
		was := s.err
		s.err = l.err
		if was != nil {
			return nil
		}
		return []event{{Time: at, Kind: evUnavailable, Reason: outage(l.err)}}
	}
	var events []event
	if s.err != nil {
		events = append(events, event{Time: at, Kind: evAvailable, Reason: "the store answers again"})
		s.err = nil
	}
	switch {
	case l.partial != nil && s.partial == nil:
		events = append(events, event{Time: at, Kind: evIncomplete, Reason: outage(l.partial)})
	case l.partial == nil && s.partial != nil:
		events = append(events, event{Time: at, Kind: evComplete, Reason: "all locks can be read again"})
	}
	s.partial = l.partial
	next := map[string]hold{}
	for _, k := range l.locks {
		was, held := s.holds[k.Key]
		var changes []event
		next[k.Key], changes = s.taken(l, k, was, held)
		events = append(events, changes...)
	}
	for _, key := range l.unknown { // nothing is known to have changed
		if was, held := s.holds[key]; held {
			next[key] = was
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.holds)) {
		if _, held := next[key]; held {
			continue
		}
		if was := s.holds[key]; was.announced {
			events = append(events, gone(l, was))
			s.remember(was)
		}
	}
	s.holds, s.listed = next, true
	return events
}

// taken is a hold that is there, and what is new about it. was is what the key had before.
//
// Who has the gate alone has not got the key yet, and may never: that is no event.
func (s *watchState) taken(l listing, k inspect.Reading, was hold, held bool) (hold, []event) {
	at := l.ended
	now := hold{Reading: k, began: l.began, ended: at, full: k.TTL, seen: at, before: !s.listed, announced: !k.AtGate}
	var events []event
	if held && was.same(k) {
		now.full = max(was.full, now.full)
		now.Token = cmp.Or(now.Token, was.Token)
		now.seen, now.before = was.seen, was.before
		now.announced = now.announced || was.announced
		if !was.announced && now.announced {
			events = append(events, s.acquired(at, now))
		}
		if now.ResignBy != "" && was.ResignBy == "" {
			events = append(events, resignAsked(at, now))
		}
		return now, events
	}
	switch {
	case held && was.announced && now.announced && was.Holder != k.Holder && k.ReaderOf == "":
		e := lockEvent(at, evHandedOver, now)
		e.From, e.FromToken, e.FromLost = was.Holder, inspect.TokenJSON(was.Token), was.mayHaveExpired(l)
		events = append(events, e)
	default:
		if held && was.announced && (was.Holder != k.Holder || !now.announced) {
			events = append(events, gone(l, was))
			s.remember(was)
		}
		switch {
		case !now.announced:
		case now.before:
			events = append(events, lockEvent(at, evHolds, now))
		default:
			events = append(events, s.acquired(at, now))
		}
	}
	if now.ResignBy != "" {
		events = append(events, resignAsked(at, now))
	}
	return now, events
}

func resignAsked(at time.Time, h hold) event {
	e := lockEvent(at, evResignAsked, h)
	e.By = h.ResignBy
	return e
}

// acquired is the event of a hold that begins, with who had the key before.
func (s *watchState) acquired(at time.Time, h hold) event {
	e := lockEvent(at, evAcquired, h)
	if last, ok := s.last[h.Key]; ok && h.ReaderOf == "" {
		e.From, e.FromToken = last.Holder, inspect.TokenJSON(last.Token)
	}
	delete(s.last, h.Key)
	return e
}

// remember keeps who had a key, for its next holder.
func (s *watchState) remember(h hold) {
	if s.last == nil {
		s.last = map[string]hold{}
	}
	for key := range s.last {
		if len(s.last) < mostLast {
			break
		}
		delete(s.last, key)
	}
	s.last[h.Key] = h
}

// gone is the event of a hold that is over.
func gone(l listing, was hold) event {
	kind := evReleased
	if was.mayHaveExpired(l) {
		kind = evExpired
	}
	e := lockEvent(l.ended, kind, was)
	e.LeftMS, e.Waiting = nil, nil
	return e
}

// mayHaveExpired: one that is gone earlier was freed, by whomever.
func (h hold) mayHaveExpired(l listing) bool { return h.TTL >= 0 && l.ended.Sub(h.began) >= h.TTL }

func lockEvent(at time.Time, kind string, h hold) event {
	k := h.Reading
	if k.Held > 0 {
		k.Held += at.Sub(h.ended)
	}
	r := k.JSON()
	e := event{Time: at, Kind: kind, Key: k.Name(), Holder: r.Holder, Token: r.Token, As: r.As, LeftMS: r.LeftMS, HeldMS: r.HeldMS, Waiting: r.WaitingCount}
	if k.ReaderOf != "" {
		e.Token = "" // the place's, and not the reader's
	}
	return e
}

// checkup takes a report of the nodes, or why there is none.
func (s *watchState) checkup(at time.Time, h lock.Health, err error) []event {
	if err != nil && errors.Is(err, lock.ErrClosed) {
		return nil
	}
	report := inspect.HealthJSON{}
	if err == nil {
		report = inspect.Health(h)
	} else {
		// Which nodes there are is known from before.
		report.Quorum = s.health.Quorum
		report.Status = inspect.NoQuorum
		for _, n := range s.nodes {
			report.Nodes = append(report.Nodes, inspect.NodeJSON{Name: n.Name, Reason: oneLine(err)})
		}
	}
	before := map[string]bool{}
	for _, n := range s.nodes {
		before[n.Name] = n.Votes
	}
	var events []event
	for _, n := range report.Nodes {
		voted, known := before[n.Name]
		kind := ""
		switch {
		case !n.Votes && (voted || !known):
			kind = evNodeDown
		case n.Votes && !known:
			kind = evNodeUp
		case n.Votes && !voted:
			kind = evNodeBack
		default:
			continue
		}
		events = append(events, event{Time: at, Kind: kind, Node: n.Name, Reason: n.Reason})
	}
	if err == nil || len(s.nodes) > 0 {
		s.nodes, s.health, s.checked = report.Nodes, report, true
	}
	return events
}

func (s *watchState) sorted() []hold {
	return slices.SortedFunc(maps.Values(s.holds), func(a, b hold) int { return cmp.Compare(a.Key, b.Key) })
}

// outage is why a store does not answer, without the way there.
func outage(err error) string {
	_, why, ok := strings.Cut(oneLine(err), lock.ErrUnavailable.Error()+": ")
	if !ok {
		why = oneLine(err)
	}
	return plain.Text(why)
}

// line is e where there is no screen.
func (e event) line() string {
	return strings.TrimRight(fmt.Sprintf("%s  %-12s  %s  %s", e.Time.Format("2006-01-02 15:04:05"), strings.ReplaceAll(e.Kind, "_", " "), e.subject(), e.detail()), " ")
}
