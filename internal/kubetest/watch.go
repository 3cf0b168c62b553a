package kubetest

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// watch streams what happens after a version, until its time is over or the client leaves.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, namespace string) {
	query := r.URL.Query()
	only, _ := strings.CutPrefix(query.Get("fieldSelector"), "metadata.name=")
	seconds, err := strconv.Atoi(query.Get("timeoutSeconds"))
	if err != nil || seconds <= 0 {
		seconds = 1800
	}
	v := &viewer{s: s, only: namespace + "/" + only, flush: http.NewResponseController(w).Flush, enc: json.NewEncoder(w)}
	if only == "" {
		v.prefix = namespace + "/"
	}
	unlock := s.lock()
	v.at = s.revision
	asked, err := strconv.ParseUint(query.Get("resourceVersion"), 10, 64)
	switch {
	case err != nil || asked == 0: // from the present on, which comes first
		for _, key := range slices.Sorted(maps.Keys(s.objects)) {
			v.pending = append(v.pending, event{Type: "ADDED", Key: key, Object: s.objects[key].json()})
		}
	case asked > s.revision:
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusGatewayTimeout, "Timeout", "Too large resource version", "", "", "ResourceVersionTooLarge")
		unlock()
		return
	default:
		v.at = asked
	}
	every := s.BookmarkEvery
	unlock()
	if every == 0 {
		every = time.Minute
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_ = v.flush()
	end := time.NewTimer(time.Duration(seconds) * time.Second)
	defer end.Stop()
	bookmark := time.NewTicker(every)
	defer bookmark.Stop()
	marks := query.Get("allowWatchBookmarks") == "true"
	for {
		changed, ok := v.show()
		if !ok {
			return
		}
		select {
		case <-changed:
		case <-bookmark.C:
			if marks && !v.bookmark() {
				return
			}
		case <-end.C:
			if marks {
				_ = v.bookmark()
			}
			return
		case <-r.Context().Done():
			return
		}
	}
}

// viewer is one watch.
type viewer struct {
	s       *Server
	only    string
	prefix  string // "": only
	at      uint64
	pending []event
	enc     *json.Encoder
	flush   func() error
}

// show sends what is new; false: the watch is over.
func (v *viewer) show() (changed <-chan struct{}, ok bool) {
	unlock := v.s.lock()
	changed = v.s.changed
	gone := v.at < v.s.compacted
	events := v.pending
	v.pending = nil
	if !gone {
		for _, e := range v.s.events {
			if e.Revision > v.at {
				events = append(events, e)
			}
		}
		v.at = v.s.revision
	}
	unlock()
	for _, e := range events {
		if e.Key != v.only && (v.prefix == "" || !strings.HasPrefix(e.Key, v.prefix)) {
			continue
		}
		if v.enc.Encode(map[string]any{"type": e.Type, "object": e.Object}) != nil {
			return nil, false
		}
	}
	if gone {
		_ = v.enc.Encode(map[string]any{"type": "ERROR", "object": failure(http.StatusGone, "Expired", "too old resource version: "+decimal(v.at), "", "")})
		_ = v.flush()
		return nil, false
	}
	return changed, v.flush() == nil
}

func (v *viewer) bookmark() bool {
	o := map[string]any{"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": map[string]any{"resourceVersion": decimal(v.at), "creationTimestamp": nil}, "spec": map[string]any{}}
	return v.enc.Encode(map[string]any{"type": "BOOKMARK", "object": o}) == nil && v.flush() == nil
}
