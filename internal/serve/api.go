package serve

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/inspect"
)

// apiState is /api: all that is known.
type apiState struct {
	Store     string     `json:"store"`
	Prefix    string     `json:"prefix,omitempty"`
	Time      time.Time  `json:"time"`
	Answered  *time.Time `json:"answered,omitempty"` // when the store last said who holds what; none: not yet
	Available bool       `json:"available"`          // it did when it was asked last
	Reason    string     `json:"reason,omitempty"`   // why not, or why some locks can't be read
	Health    any        `json:"health"`             // null: not known
	Locks     []any      `json:"locks"`              // null: not known
	Events    []any      `json:"events"`             // the latest first
}

// api answers with what is known as JSON:
//
//	/api          all
//	/api/health   as lockkeeper health -o json; null: not known
//	/api/locks    as lockkeeper list -o json; null: not known
//	/api/events   as lockkeeper watch -o json, the latest first
//
// Each takes prefix or key, which limit locks and events.
func (s *Server) api(w http.ResponseWriter, r *http.Request) {
	v, err := s.viewOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f := s.feed.frame()
	var body any
	switch r.PathValue("what") {
	case "":
		all := apiState{
			Store: s.opts.Store, Prefix: s.opts.Prefix, Time: f.at, Available: f.read && f.err == nil,
			Health: f.healthJSON(), Locks: f.locksJSON(v), Events: f.eventsJSON(v),
		}
		if f.read {
			all.Answered = &f.answered
		}
		if f.err != nil {
			all.Reason = f.err.Error()
		} else if f.partial != nil {
			all.Reason = f.partial.Error()
		}
		body = all
	case "health":
		body = f.healthJSON()
	case "locks":
		body = f.locksJSON(v)
	case "events":
		body = f.eventsJSON(v)
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(body) // the client has gone: nobody to notify
}

// now is what is known of l at a moment after it was read.
func (l Lock) now(at time.Time) inspect.Reading {
	r := l.Reading
	since := at.Sub(l.Read)
	if r.TTL >= 0 {
		r.TTL = max(0, r.TTL-since)
	}
	if r.Held > 0 {
		r.Held += since
	}
	return r
}

// healthJSON is nil where nothing is known.
func (f *frame) healthJSON() any {
	if !f.checked || f.health.Err != nil {
		return nil
	}
	return f.health.Health
}

// locksJSON is nil where nothing is known.
func (f *frame) locksJSON(v view) []any {
	if !f.read {
		return nil
	}
	all := []any{}
	for _, l := range f.locks {
		if v.key == "" && strings.HasPrefix(l.Name(), v.prefix) || v.key != "" && groupKey(l.Key) == v.key {
			all = append(all, l.now(f.at).JSON())
		}
	}
	return all
}

func (f *frame) eventsJSON(v view) []any {
	all := []any{}
	for _, e := range f.events {
		if v.shows(e) {
			all = append(all, e.JSON)
		}
	}
	return all
}
