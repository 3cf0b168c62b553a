package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/redis/rueidis"

	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// The bench runs itself again as the processes that contend for locks: actors. An
// actor reads orders from its standard input, one JSON value each, carries them out
// side by side, and writes a report for each. It ends when its input does.

// actorEnv makes a process an actor.
const actorEnv = "LOCKKEEPER_PEERBENCH_ACTOR"

// order is what an actor is to do.
type order struct {
	ID      int
	Do      string // a key of handlers
	Library string // whose lock
	Places  places
	Key     string
	Keep    bool          // open: holders renew their leases
	TTL     time.Duration // open: of the leases
	Times   int           // ping: rounds; contend: callers
	Hold    time.Duration // contend: how long each holds
	Rest    time.Duration // contend: how long each pauses after that, at random up to twice as long
	Start   int64         // contend: when, by mono
	End     int64
}

// report is what came of it. Times are by mono.
type report struct {
	ID     int
	Err    string
	Begun  int64 // when the call was made
	At     int64 // when it was done
	Expiry int64 // die: until when the lease was certain; 0: not known
	Each   []time.Duration
	Terms  []term
}

// term is one hold of a lock: when its holder began to wait, had it, and began to
// release it.
type term struct{ Begun, Got, Freed int64 }

// actor carries out orders.
type actor struct {
	mu     sync.Mutex // guards all below
	open   map[string]waiter
	held   map[string]holding // by library and key
	leads  map[string]*leadership
	pinger []rueidis.Client
}

// leadership is a term as leader.
type leadership struct {
	resign   context.CancelFunc
	returned int64         // when fn did
	over     chan struct{} // closed when Run has returned
}

var handlers = map[string]func(*actor, context.Context, order) (report, error){
	"open": (*actor).doOpen, "close": (*actor).doClose,
	"lock": (*actor).doLock, "unlock": (*actor).doUnlock,
	"lead": (*actor).doLead, "resign": (*actor).doResign,
	"ping": (*actor).doPing, "contend": (*actor).doContend, "die": (*actor).doDie,
}

// act is the main function of an actor.
func act(in io.Reader, out io.Writer) error {
	a := &actor{open: map[string]waiter{}, held: map[string]holding{}, leads: map[string]*leadership{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var writing sync.Mutex
	enc := json.NewEncoder(out)
	dec := json.NewDecoder(bufio.NewReader(in))
	for {
		var o order
		if err := dec.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		wg.Go(func() {
			r, err := handlers[o.Do](a, ctx, o)
			if r.ID = o.ID; err != nil {
				r.Err = err.Error()
			}
			writing.Lock()
			defer writing.Unlock()
			_ = enc.Encode(r) // who does not listen any more needs no report
		})
	}
}

func (a *actor) doOpen(ctx context.Context, o order) (r report, err error) {
	w, err := libraries[o.Library].open(ctx, o.Places, o.TTL, o.Keep)
	if err != nil {
		return r, err
	}
	// What is loaded, dialed and subscribed at the first use is done before it counts.
	h, err := w.lock(ctx, fmt.Sprintf("warm-up:%d", os.Getpid()))
	if err != nil {
		w.close()
		return r, err
	}
	if err := h.unlock(ctx); err != nil {
		w.close()
		return r, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open[o.Library] = w
	return r, nil
}

func (a *actor) waiter(name string) (waiter, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w, ok := a.open[name]
	if !ok {
		return nil, fmt.Errorf("%s is not open", name)
	}
	return w, nil
}

func (a *actor) doClose(_ context.Context, o order) (r report, err error) {
	w, err := a.waiter(o.Library)
	if err != nil {
		return r, err
	}
	a.mu.Lock()
	delete(a.open, o.Library)
	a.mu.Unlock()
	w.close()
	return r, nil
}

func (a *actor) doLock(ctx context.Context, o order) (r report, err error) {
	w, err := a.waiter(o.Library)
	if err != nil {
		return r, err
	}
	r.Begun = mono()
	h, err := w.lock(ctx, o.Key)
	r.At = mono()
	if err != nil {
		return r, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held[o.Library+" "+o.Key] = h
	return r, nil
}

// quiet is how long an actor keeps a report back, so that its reader does not wake up
// amid what is being measured.
const quiet = 2 * time.Millisecond

func (a *actor) doUnlock(ctx context.Context, o order) (r report, err error) {
	h, err := a.take(o)
	if err != nil {
		return r, err
	}
	r.Begun = mono()
	err = h.unlock(ctx)
	r.At = mono()
	time.Sleep(quiet)
	return r, err
}

func (a *actor) take(o order) (holding, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := o.Library + " " + o.Key
	h, ok := a.held[name]
	if !ok {
		return holding{}, fmt.Errorf("%s is not held", name)
	}
	delete(a.held, name)
	return h, nil
}

// doDie ends this process as kill -9 does, while it holds the lock.
func (a *actor) doDie(_ context.Context, o order) (r report, err error) {
	h, err := a.take(o)
	if err != nil {
		return r, err
	}
	last := report{ID: o.ID}
	if h.expiry != nil {
		last.Expiry = monoOf(h.expiry())
	}
	last.At = mono()
	if err := json.NewEncoder(os.Stdout).Encode(last); err != nil {
		return r, err
	}
	return r, syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// doLead campaigns, and reports when fn starts.
func (a *actor) doLead(ctx context.Context, o order) (r report, err error) {
	w, err := a.waiter(o.Library)
	if err != nil {
		return r, err
	}
	l, ok := w.(interface{ locker() lock.Locker })
	if !ok {
		return r, fmt.Errorf("%s elects nobody", o.Library)
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &leadership{resign: cancel, over: make(chan struct{})}
	started := make(chan int64, 1)
	r.Begun = mono()
	go func() { // ends with the order "resign", or with the actor
		defer close(t.over)
		_ = leader.Run(ctx, l.locker(), o.Key, func(ctx context.Context) error {
			started <- mono()
			<-ctx.Done()
			t.returned = mono()
			return nil
		}, nil)
	}()
	select {
	case r.At = <-started:
	case <-t.over:
		return r, fmt.Errorf("%s: no term", o.Key)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leads[o.Key] = t
	return r, nil
}

func (a *actor) doResign(_ context.Context, o order) (r report, err error) {
	a.mu.Lock()
	t := a.leads[o.Key]
	delete(a.leads, o.Key)
	a.mu.Unlock()
	if t == nil {
		return r, fmt.Errorf("%s is not led", o.Key)
	}
	r.Begun = mono()
	t.resign()
	<-t.over
	time.Sleep(quiet)
	r.At = t.returned
	return r, nil
}

// doPing asks all nodes in parallel and waits for all: a round trip. The actor's
// connections for it are its own.
func (a *actor) doPing(ctx context.Context, o order) (r report, err error) {
	a.mu.Lock()
	defer a.mu.Unlock() // one at a time
	if a.pinger == nil {
		if a.pinger, _, err = dialRueidis(o.Places.Redis, rueidisOption); err != nil {
			return r, err
		}
		if err := pingAll(ctx, a.pinger); err != nil {
			return r, err
		}
	}
	for range o.Times {
		start := mono()
		if err := pingAll(ctx, a.pinger); err != nil {
			return r, err
		}
		r.Each = append(r.Each, time.Duration(mono()-start))
	}
	return r, nil
}

// doContend lets callers take the lock in turn with all others who contend, from
// Start to End.
func (a *actor) doContend(ctx context.Context, o order) (r report, err error) {
	w, err := a.waiter(o.Library)
	if err != nil {
		return r, err
	}
	time.Sleep(untilMono(o.Start))
	ctx, cancel := context.WithTimeout(ctx, untilMono(o.End))
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range o.Times {
		wg.Go(func() {
			terms, e := contend(ctx, w, o)
			mu.Lock()
			defer mu.Unlock()
			r.Terms = append(r.Terms, terms...)
			err = errors.Join(err, e)
		})
	}
	wg.Wait()
	return r, err
}

func contend(ctx context.Context, w waiter, o order) (terms []term, err error) {
	for ctx.Err() == nil {
		t := term{Begun: mono()}
		h, err := w.lock(ctx, o.Key)
		if err != nil {
			if ctx.Err() != nil {
				terms = append(terms, t) // it still waited in the end: Got is 0
				break
			}
			return terms, err
		}
		t.Got = mono()
		time.Sleep(o.Hold)
		t.Freed = mono()
		terms = append(terms, t)
		if err := h.unlock(context.WithoutCancel(ctx)); err != nil {
			return terms, err
		}
		if o.Rest > 0 {
			time.Sleep(rand.N(2 * o.Rest))
		}
	}
	return terms, nil
}
