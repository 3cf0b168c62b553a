package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// What events tell of. They are what --output json prints in "event".
const (
	evHolds       = "holds" // was held when the watch began
	evAcquired    = "acquired"
	evReleased    = "released"
	evExpired     = "expired"
	evHandedOver  = "handed_over"
	evNodeUp      = "node_up" // voted when the watch began
	evNodeDown    = "node_down"
	evNodeBack    = "node_back"
	evUnavailable = "unavailable"
	evAvailable   = "available"
	evIncomplete  = "incomplete" // some locks can't be read
	evComplete    = "complete"
)

// event is one line of watch. Tokens are strings, see lockReport.
type event struct {
	Time      time.Time `json:"time"`
	Kind      string    `json:"event"`
	Key       string    `json:"key,omitempty"`
	Holder    string    `json:"holder,omitempty"` // of whom it tells; with handed_over who has it now
	Token     string    `json:"token,omitempty"`
	LeftMS    *int64    `json:"left_ms,omitempty"`
	From      string    `json:"from,omitempty"` // with handed_over: who had it
	FromToken string    `json:"from_token,omitempty"`
	Node      string    `json:"node,omitempty"`
	Reason    string    `json:"reason,omitempty"`
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
		s := "from " + printable(name(e.From)) + " to " + printable(name(e.Holder)) + token(e.Token)
		if e.Reason != "" {
			s += ": " + e.Reason
		}
		return s
	case evExpired:
		return printable(name(e.Holder)) + token(e.Token) + " did not renew it"
	case evHolds, evAcquired, evReleased:
		return "by " + printable(name(e.Holder)) + token(e.Token)
	}
	return printable(e.Reason)
}

// listing is an answer of the store to the question who holds what.
type listing struct {
	began, ended time.Time
	locks        []lock.Info
	err          error    // there was no answer
	partial      error    // why some locks could not be read
	unknown      []string // these of them, where their keys are known
}

// hold is one of a key as it was seen last.
type hold struct {
	lock.Info
	began, ended time.Time     // of the question that showed it
	full         time.Duration // the longest time left that was seen
}

// left is until when the hold stands unless renewed; -1: for ever.
func (h hold) left(now time.Time) time.Duration {
	if h.TTL < 0 {
		return -1
	}
	return max(0, h.TTL-now.Sub(h.ended))
}

// same: of one holder, the same token is the same hold, and an unknown one (too few
// nodes tell it) says nothing.
func (h hold) same(i lock.Info) bool {
	return h.Holder == i.Holder && (h.Token == i.Token || h.Token == 0 || i.Token == 0)
}

// watchState is what watch knows, and makes events of what is new.
type watchState struct {
	holds   map[string]hold
	listed  bool  // there was an answer
	err     error // of the last question, nil if it was answered
	partial error // of the last answer, nil if it was whole

	nodes   []nodeReport
	health  healthReport
	checked bool
}

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
	for _, info := range l.locks {
		now := hold{info, l.began, l.ended, info.TTL}
		was, held := s.holds[info.Key]
		kind := ""
		switch {
		case !held && !s.listed:
			kind = evHolds
		case !held, was.Holder == info.Holder && !was.same(info):
			kind = evAcquired
		case !was.same(info):
			kind = evHandedOver
		default:
			now.full = max(was.full, now.full)
			now.Token = cmp.Or(now.Token, was.Token)
		}
		if kind != "" {
			e := lockEvent(at, kind, info)
			if kind == evHandedOver {
				e.From, e.FromToken = was.Holder, tokenOf(was.Token)
				if was.mayHaveExpired(l) {
					e.Reason = "the former one may have lost it"
				}
			}
			events = append(events, e)
		}
		next[info.Key] = now
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
		was := s.holds[key]
		kind := evReleased
		if was.mayHaveExpired(l) {
			kind = evExpired
		}
		e := lockEvent(at, kind, was.Info)
		e.LeftMS = nil
		events = append(events, e)
	}
	s.holds, s.listed = next, true
	return events
}

// mayHaveExpired: one that is gone earlier was freed, by whomever.
func (h hold) mayHaveExpired(l listing) bool { return h.TTL >= 0 && l.ended.Sub(h.began) >= h.TTL }

// tokenOf is a token for JSON.
func tokenOf(token uint64) string {
	if token == 0 {
		return ""
	}
	return strconv.FormatUint(token, 10)
}

func lockEvent(at time.Time, kind string, i lock.Info) event {
	r := lockReportOf(i)
	return event{Time: at, Kind: kind, Key: r.Key, Holder: r.Holder, Token: r.Token, LeftMS: r.LeftMS}
}

// checkup takes a report of the nodes, or why there is none.
func (s *watchState) checkup(at time.Time, h lock.Health, err error) []event {
	if err != nil && errors.Is(err, lock.ErrClosed) {
		return nil
	}
	report := healthReport{}
	if err == nil {
		report = reportOf(h)
	} else {
		// Which nodes there are is known from before.
		report.Quorum = s.health.Quorum
		report.Status = "no quorum"
		for _, n := range s.nodes {
			report.Nodes = append(report.Nodes, nodeReport{Name: n.Name, Reason: oneLine(err)})
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
	return plain(why)
}

// line is e where there is no screen.
func (e event) line() string {
	return strings.TrimRight(fmt.Sprintf("%s  %-11s  %s  %s", e.Time.Format("2006-01-02 15:04:05"), strings.ReplaceAll(e.Kind, "_", " "), e.subject(), e.detail()), " ")
}
