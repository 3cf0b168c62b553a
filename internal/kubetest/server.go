// Package kubetest is the part of a Kubernetes API server that Leases need, for tests: one
// history of resource versions, uids, optimistic concurrency, preconditions, watches with
// bookmarks and an end of the history, lists in pages, managed fields, namespaces that go,
// users with rights, and throttling. Where it differs from the real one is found by
// [Fidelity], which runs on both.
//
// A [Server] is an http.Handler, and reaches through [Server.Client] without a network, so
// that it works in a testing/synctest bubble. kubefake serves one as a process of its own.
package kubetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server is one API server. Its zero value has the namespace "default", and lets anybody do
// anything. It is safe for concurrent use.
type Server struct {
	// BookmarkEvery is how often a watch that asked for it gets a bookmark. 0 means a minute.
	BookmarkEvery time.Duration

	mu         sync.Mutex // guards all below
	revision   uint64
	began      bool
	namespaces map[string]bool   // true: it is being deleted
	objects    map[string]object // by namespace/name
	events     []event           // in order; those up to compacted are gone
	compacted  uint64
	changed    chan struct{} // closed at the next change
	users      map[string]User
	role       []string // verbs of the role that was made last
	throttled  int
	retryAfter string
	clock      time.Duration // what the server's clock is ahead
	intercept  func(http.ResponseWriter, *http.Request) bool
	requests   map[string]int
	log        io.Writer // of a durable server
}

// object is a Lease as it is in JSON.
type object map[string]any

// event is one change.
type event struct {
	Revision uint64
	Type     string // ADDED, MODIFIED, DELETED
	Key      string // namespace/name
	Object   json.RawMessage
}

// window is how many changes are kept at least for those who watch.
const window = 1000

// begin makes the zero value ready. mu is held.
func (s *Server) begin() {
	if s.began {
		return
	}
	s.began = true
	s.revision = 100 // of what a new cluster writes by itself
	s.namespaces = map[string]bool{"default": false}
	s.objects = map[string]object{}
	s.changed = make(chan struct{})
	s.requests = map[string]int{}
}

func (s *Server) lock() func() {
	s.mu.Lock()
	s.begin()
	return s.mu.Unlock
}

// Durable keeps what is written in a file, each write before it is acknowledged, and begins
// with what is there. It survives the process, not the machine.
func (s *Server) Durable(path string) error {
	defer s.lock()()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	whole := int64(0)
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadBytes('\n')
		if err != nil {
			break // what was cut off was never acknowledged
		}
		whole += int64(len(line))
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			continue
		}
		s.revision = max(s.revision, e.Revision)
		switch e.Type {
		case "DELETED":
			delete(s.objects, e.Key)
		case "NAMESPACE":
			s.namespaces[e.Key] = string(e.Object) == "true"
		case "NO NAMESPACE":
			delete(s.namespaces, e.Key)
		default:
			s.objects[e.Key] = parse(e.Object)
		}
	}
	if err := f.Truncate(whole); err != nil {
		return err
	}
	// A watch cache begins anew with each server: what is before is too old.
	s.events, s.compacted = nil, s.revision
	s.log = f
	return nil
}

// record makes a change the next one of the history. mu is held.
func (s *Server) record(kind, key string, o object) {
	s.revision++
	o.meta()["resourceVersion"] = decimal(s.revision)
	e := event{s.revision, kind, key, o.json()}
	s.events = append(s.events, e)
	if len(s.events) > 2*window {
		s.events = slices.Clone(s.events[window:])
		s.compacted = s.events[0].Revision - 1
	}
	if delete(s.objects, key); kind != "DELETED" {
		s.objects[key] = o
	}
	s.keep(e)
	close(s.changed)
	s.changed = make(chan struct{})
}

// keep writes a change of a durable server down. mu is held.
func (s *Server) keep(e event) {
	if s.log == nil {
		return
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = s.log.Write(append(line, '\n'))
	}
	if err != nil {
		panic(err)
	}
}

// Compact ends the history here: watches from before get 410, and lists do not go on.
func (s *Server) Compact() {
	defer s.lock()()
	s.events, s.compacted = nil, s.revision
}

// Namespace makes one, or begins to delete it: then nothing new can be made in it.
func (s *Server) Namespace(name string, ending bool) {
	defer s.lock()()
	s.setNamespace(name, ending)
}

func (s *Server) setNamespace(name string, ending bool) {
	s.namespaces[name] = ending
	s.keep(event{Type: "NAMESPACE", Key: name, Object: json.RawMessage(strconv.FormatBool(ending))})
}

// RemoveNamespace ends one, and what is in it.
func (s *Server) RemoveNamespace(name string) {
	defer s.lock()()
	s.dropNamespace(name)
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if strings.HasPrefix(key, name+"/") {
			s.record("DELETED", key, s.objects[key].clone())
		}
	}
}

func (s *Server) dropNamespace(name string) {
	delete(s.namespaces, name)
	s.keep(event{Type: "NO NAMESPACE", Key: name})
}

// Users lets in nobody but those with one of these tokens. Without any, everybody is.
func (s *Server) Users(byToken map[string]User) {
	defer s.lock()()
	s.users = byToken
}

// Throttle has the next n requests for Leases refused with 429 and this Retry-After.
func (s *Server) Throttle(n int, retryAfter string) {
	defer s.lock()()
	s.throttled, s.retryAfter = n, retryAfter
}

// SetClock sets the server's clock ahead of the real one.
func (s *Server) SetClock(ahead time.Duration) {
	defer s.lock()()
	s.clock = ahead
}

// Intercept has f look at each request first; true: it has answered. nil ends it.
func (s *Server) Intercept(f func(http.ResponseWriter, *http.Request) bool) {
	defer s.lock()()
	s.intercept = f
}

// Requests counts them by verb: get, list, watch, create, update, delete.
func (s *Server) Requests(verb string) int {
	defer s.lock()()
	return s.requests[verb]
}

// Remove deletes a Lease as an operator does.
func (s *Server) Remove(namespace, name string) {
	defer s.lock()()
	key := namespace + "/" + name
	if o, ok := s.objects[key]; ok {
		s.record("DELETED", key, o.clone())
	}
}

// Edit changes a Lease as an operator does, and returns it.
func (s *Server) Edit(namespace, name string, change func(o map[string]any)) map[string]any {
	defer s.lock()()
	key := namespace + "/" + name
	o := s.objects[key].clone()
	if o == nil {
		return nil
	}
	if change != nil {
		change(o)
		s.record("MODIFIED", key, o)
	}
	return o.clone()
}

func (s *Server) now() time.Time { return time.Now().Add(s.clock).UTC() }

// Client makes a client that reaches the server without a network, and the function that
// ends its connections. Both ends of each are in the bubble of who calls it.
func (s *Server) Client() (client *http.Client, stop func()) {
	conns := make(chan net.Conn)
	ln := &listener{conns: conns, done: make(chan struct{})}
	var served sync.WaitGroup // Serve, and its connections
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(100 * time.Microsecond) // the way there and back: no request takes no time
			s.ServeHTTP(w, r)
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				served.Add(1)
			case http.StateClosed:
				served.Done()
			}
		},
	}
	served.Go(func() { _ = server.Serve(ln) })
	t := &http.Transport{MaxIdleConnsPerHost: 16, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		a, b := net.Pipe()
		select {
		case conns <- b:
			return a, nil
		case <-ln.done:
			return nil, errors.New("connection refused")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	return &http.Client{Transport: t}, func() {
		t.CloseIdleConnections()
		_ = server.Close()
		served.Wait()
	}
}

// listener accepts what is sent to conns.
type listener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "kubetest"} }
