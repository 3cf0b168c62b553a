// Httpwrites is an HTTP server of which many copies answer reads, and the one that leads
// takes writes.
//
//	LOCKS=redlock://h1,h2,h3 go run ./httpwrites -listen 127.0.0.1:8080
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/tonsurance/lockkeeper/backends"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	locker, err := backends.Open(ctx, os.Getenv("LOCKS"))
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	if err := serve(ctx, locker, listener); err != nil {
		log.Fatal(err)
	}
	if err := lock.Close(locker); err != nil {
		log.Print(err)
	}
}

// serve ends in this order: no more writes, the lease free, no more reads.
func serve(ctx context.Context, l lock.Locker, listener net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	writes := NewWrites(l, "prices", slog.Default())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /price", read)
	mux.Handle("PUT /price", writes.Handler(http.HandlerFunc(write)))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() {
		err := server.Serve(listener)
		cancel(err) // a server that does not serve must not lead
		served <- err
	}()
	err := writes.Run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		err = nil // it was asked to end while it stood by
	}
	shut, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer done()
	err = errors.Join(err, server.Shutdown(shut))
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

func read(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "42") }

// write has a context that ends with the term, and the term's token, which the store of
// the prices has to compare: package fence does.
func write(w http.ResponseWriter, r *http.Request) {
	log.Print("writing with fencing token ", lock.Token(r.Context()))
	w.WriteHeader(http.StatusNoContent)
}

// Writes lets requests through while this process leads.
type Writes struct {
	elector *leader.Elector

	mu   sync.Mutex // protects term, and what begins in it
	term *term
}

type term struct {
	ctx      context.Context
	requests sync.WaitGroup
}

// NewWrites makes a gate for key.
func NewWrites(l lock.Locker, key string, log *slog.Logger) *Writes {
	return &Writes{elector: leader.New(l, key, &leader.Options{Logger: log})}
}

// Run campaigns, leads and stands by until ctx ends. A term ends when the requests that
// began in it have been served; only then may another process lead.
func (w *Writes) Run(ctx context.Context) error {
	return w.elector.Run(ctx, func(ctx context.Context) error {
		t := &term{ctx: ctx}
		w.set(t)
		<-ctx.Done()
		w.set(nil) // no request begins in t from here on
		t.requests.Wait()
		return nil
	})
}

func (w *Writes) set(t *term) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.term = t
}

// begin counts a request into the term under way, or returns nil.
func (w *Writes) begin() *term {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Err looks at the clock: also where the term is over and no timer has run since.
	if w.term == nil || w.term.ctx.Err() != nil {
		return nil
	}
	w.term.requests.Add(1)
	return w.term
}

// Handler serves next while this process leads; otherwise it answers 503, and a client asks
// another copy. The request's context ends with the request's own, and before another process
// can lead. next must return soon after that.
func (w *Writes) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		t := w.begin()
		if t == nil {
			rw.Header().Set("Retry-After", "1")
			http.Error(rw, "this copy does not lead", http.StatusServiceUnavailable)
			return
		}
		defer t.requests.Done()
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(t.ctx, func() { cancel(context.Cause(t.ctx)) })()
		next.ServeHTTP(rw, r.WithContext(lock.WithToken(ctx, lock.Token(t.ctx))))
	})
}
