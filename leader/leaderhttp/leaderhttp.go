// Package leaderhttp serves an elector's status over HTTP, for probes and people.
//
//	elector := leader.New(locker, "pricing-oracle-keeper", nil)
//	go http.ListenAndServe("localhost:8080", leaderhttp.Handler(elector))
//	err := elector.Run(ctx, run)
//
// [Handler] has no authentication, changes nothing, and causes no traffic to the store.
// [Resign] ends the leader's term: it is a handler of its own, served only where a program
// says so.
package leaderhttp

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/tonsurance/lockkeeper/internal/hostcheck"
	"github.com/tonsurance/lockkeeper/leader"
)

// status is the body of every answer.
type status struct {
	Key     string       `json:"key"`
	State   leader.State `json:"state"`
	Leading bool         `json:"leading"`
	Token   uint64       `json:"token,omitempty"`
	Since   time.Time    `json:"since"`
	Terms   int          `json:"terms"`
	Overdue bool         `json:"overdue,omitempty"`
	Attempt string       `json:"last_attempt,omitempty"`
	Outage  *time.Time   `json:"outage_since,omitempty"`
	Result  string       `json:"last_result,omitempty"`
}

// Handler answers GET and HEAD with e's status as JSON:
//
//	/                    200 always: the status
//	/livez               200, or 503 if fn runs on although its term is lost
//	                     (Status.Overdue): a restart is what helps
//	/readyz              200 while leading, else 503: a Kubernetes Service then
//	                     sends requests to the leader alone
//	/readyz?standby=ok   200 while leading, or standing by with the store in reach,
//	                     else 503: for copies that serve while they stand by, and
//	                     for rollouts that wait until each copy is ready. 503 also
//	                     when the store has been out of reach for longer than the
//	                     ttl (Status.OutOfReach): such a copy could not take over,
//	                     and must not replace one that works
//
// Every other path is 404. To serve it below a prefix use [http.StripPrefix].
// A probe causes no traffic to the store: all answers are e's.
func Handler(e *leader.Elector) http.Handler {
	mux := http.NewServeMux()
	serve := func(pattern string, good func(r *http.Request, s leader.Status) bool) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
			s := e.Status()
			code := http.StatusOK
			if !good(r, s) {
				code = http.StatusServiceUnavailable
			}
			write(w, code, s)
		})
	}
	serve("/{$}", func(*http.Request, leader.Status) bool { return true })
	serve("/livez", func(_ *http.Request, s leader.Status) bool { return !s.Overdue })
	serve("/readyz", func(r *http.Request, s leader.Status) bool {
		standby := r.URL.Query().Get("standby") == "ok"
		return s.State == leader.Leading || standby && s.State == leader.StandingBy && !s.OutOfReach()
	})
	return mux
}

// Resign answers POST by [leader.Elector.Resign]: 202 with the status if a term was under
// way, which ends when the leader's function has returned; 409 if e does not lead. Any
// other method is 405. It is not a part of Handler:
//
//	mux.Handle("POST /resign", leaderhttp.Resign(elector))
//
// Anyone who reaches it can end every term of this copy: serve it on loopback, or behind
// what you let operators in by. Requests that a browser makes for another site's page are
// refused (403, [http.CrossOriginProtection]). Such a site can make its own name lead to
// loopback: so a request that arrives there must ask for localhost or an address, which a proxy
// in front of it has to set as the Host.
func Resign(e *leader.Elector) http.Handler {
	var sameOrigin http.CrossOriginProtection
	return sameOrigin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if onLoopback(r) && !hostcheck.Sent(r, nil) {
			http.Error(w, fmt.Sprintf("the Host %q leads to loopback, want localhost or an address", r.Host), http.StatusForbidden)
			return
		}
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "want POST", http.StatusMethodNotAllowed)
			return
		}
		code := http.StatusConflict
		if e.Resign() {
			code = http.StatusAccepted
		}
		write(w, code, e.Status())
	}))
}

// onLoopback reports whether r arrived at an address that only this machine reaches.
func onLoopback(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && at.IP.IsLoopback()
}

func write(w http.ResponseWriter, code int, s leader.Status) {
	body := status{
		Key: s.Key, State: s.State, Leading: s.State == leader.Leading, Token: s.Token,
		Since: s.Since, Terms: s.Terms, Overdue: s.Overdue,
		Attempt: text(s.LastAttempt), Result: text(s.LastResult),
	}
	if !s.OutageSince.IsZero() {
		body.Outage = &s.OutageSince
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client has gone: nobody to report it to
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
