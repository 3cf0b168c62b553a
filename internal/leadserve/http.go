package leadserve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tonsurance/lockkeeper/internal/hostcheck"
	"github.com/tonsurance/lockkeeper/leader"
)

// body is an answer as JSON.
type body struct {
	Key     string       `json:"key"`
	State   leader.State `json:"state"`
	Leading bool         `json:"leading"`
	// Token is text: some readers of JSON lose digits of large numbers.
	Token string `json:"token,omitempty"`
	// Certain counts from when the request was received, which is after it was sent: from
	// when it was sent, the hold lasts longer. In a stream it is the request for the stream.
	Certain int64  `json:"certain_ms"`
	Leader  string `json:"leader,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

func (l *Leadership) body(a answer, received time.Time) body {
	b := body{Key: l.key, State: a.state, Leading: a.leading, Leader: a.holder}
	if a.token > 0 {
		b.Token = strconv.FormatUint(a.token, 10)
	}
	if a.leading {
		b.Certain = max(0, a.until.Sub(received).Milliseconds()) // rounded down
	}
	if a.reason != nil {
		b.Reason = l.opts.Words(a.reason)
	}
	return b
}

const (
	// maxStreams is how many programs can follow at a time: each is a goroutine and a connection.
	maxStreams = 256
	// heartbeat is between two lines of a stream that has nothing to say: both ends see that
	// the other is there.
	heartbeat = 15 * time.Second
	// writeTime is for a reader to take what it is sent.
	writeTime = 5 * time.Second
	// streamTTLs is how long a stream lasts at most. Its answers count from its beginning, on
	// the reader's clock: even one that is wrong by 500 ppm is off by a hundredth of a ttl then.
	streamTTLs = 20
)

// Handler serves
//
//	GET  /                   200: the answer as JSON
//	GET  /readyz             the same, but 503 unless this process leads
//	GET  /events             server-sent events: an answer now, at each change, and in time
//	                         before the last one is certain no longer
//	POST /stopped?token=T    the programs that led by that term have stopped: 202, or 409
//	                         if it is not under way
//
// A request whose Host is a name that is neither localhost nor one of hosts is refused (403):
// a page of another site may have its own name lead here. With anyHost none is, as for a unix
// socket, which no browser reaches.
func (l *Leadership) Handler(hosts []string, anyHost bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		received := time.Now()
		l.write(w, http.StatusOK, l.now(), received)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		received := time.Now()
		a := l.now()
		code := http.StatusServiceUnavailable
		if a.leading {
			code = http.StatusOK
		}
		l.write(w, code, a, received)
	})
	mux.HandleFunc("GET /events", l.stream)
	mux.HandleFunc("POST /stopped", func(w http.ResponseWriter, r *http.Request) {
		received := time.Now()
		token, err := strconv.ParseUint(r.URL.Query().Get("token"), 10, 64)
		if err != nil {
			http.Error(w, "want the token of the term, as in /stopped?token=17", http.StatusBadRequest)
			return
		}
		code := http.StatusConflict
		if l.stopped(token) {
			code = http.StatusAccepted
		}
		l.write(w, code, l.now(), received)
	})
	var sameOrigin http.CrossOriginProtection
	inner := sameOrigin.Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !anyHost && !hostcheck.Sent(r, hosts) {
			http.Error(w, fmt.Sprintf("the Host %q is not known here, want localhost, an address, or a name that --allow-host has given", r.Host), http.StatusForbidden)
			return
		}
		inner.ServeHTTP(w, r)
	})
}

func (l *Leadership) write(w http.ResponseWriter, code int, a answer, received time.Time) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(l.body(a, received)) // the client has gone: nobody to notify
}

// stream sends answers until the term that it has reported is over. It has no queue: a
// reader that is slow gets the latest answer when it takes one, and holds up nobody.
func (l *Leadership) stream(w http.ResponseWriter, r *http.Request) {
	received := time.Now()
	if !l.open() {
		http.Error(w, fmt.Sprintf("%d streams are open already", maxStreams), http.StatusServiceUnavailable)
		return
	}
	defer l.leave()
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the request has been read
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	send := func(text string) bool {
		_ = control.SetWriteDeadline(time.Now().Add(writeTime))
		_, err := w.Write([]byte(text))
		return err == nil && control.Flush() == nil
	}

	if r.Method == http.MethodHead {
		return
	}
	age := time.NewTimer(streamTTLs * l.opts.TTL)
	defer age.Stop()
	var last answer
	for first := true; ; first = false {
		changed, closed := l.change() // before the answer, so that no change is missed
		a, over := following(last, l.now())
		if first || over || l.due(last, a) {
			data, err := json.Marshal(l.body(a, received))
			if err != nil || !send(fmt.Sprintf("data: %s\n\n", data)) {
				return
			}
			last = a
		}
		if over || closed {
			return
		}
		wait := heartbeat
		if last.leading {
			next := l.refresh(last)
			if time.Until(next) <= 0 {
				next = last.until // what there was to say later than last has been said
			}
			wait = min(wait, time.Until(next))
		}
		beat := time.NewTimer(wait)
		select {
		case <-changed:
		case <-beat.C:
			if !last.leading && !send(":\n\n") {
				return
			}
		case <-age.C:
			return
		case <-r.Context().Done():
			return
		}
		beat.Stop()
	}
}

// following is what a reader that has last gets of a, and whether the term that last was of
// is over. The answer to its end names that term, whatever this process does by the time that
// the stream looks: it may stand by or lead again, and the next term is another stream's.
func following(last, a answer) (answer, bool) {
	if !last.leading || (a.leading && a.token == last.token) {
		return a, false
	}
	if a.leading || (a.token != 0 && a.token != last.token) {
		a = answer{state: leader.Draining}
	}
	a.token = last.token
	return a, true
}

// due reports whether a reader that has last is to have a.
func (l *Leadership) due(last, a answer) bool {
	if a.state != last.state || a.leading != last.leading || a.token != last.token || a.holder != last.holder {
		return true
	}
	return a.until.After(last.until) && time.Until(l.refresh(last)) <= 0
}

// refresh is when a reader is to have an answer that is certain for longer than a.
func (l *Leadership) refresh(a answer) time.Time { return a.until.Add(-2 * l.opts.Certain / 3) }

func (l *Leadership) open() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.streams >= maxStreams {
		return false
	}
	l.streams++
	return true
}

func (l *Leadership) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams--
}
