package recordtest

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
)

// Faults is one client's way to a store, with what can go wrong on it. Its zero value
// but for Store works like the store. Set faults by its methods, which are safe for
// concurrent use; wait for requests that are on their way with Drain.
type Faults struct {
	Store record.Store

	mu       sync.Mutex // guards all below
	delay    time.Duration
	late     bool
	lose     bool
	silent   bool
	outage   bool
	doubled  bool
	conflict bool
	frozen   bool
	seen     map[string]record.Entry // what this client has last seen of each name
	lag      time.Duration
	err      error
	gets     int
	puts     int
	cut      int
	requests sync.WaitGroup
}

func (f *Faults) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// Delay makes each later request d slower. With late, the request is slow on its way
// there, and arrives although its caller has given up; else the reply is slow.
func (f *Faults) Delay(d time.Duration, late bool) { f.set(func() { f.delay, f.late = d, late }) }

// LoseReply has the next Put applied and its reply lost: the connection breaks or, with
// silent, nothing comes until the caller's ctx ends.
func (f *Faults) LoseReply(silent bool) { f.set(func() { f.lose, f.silent = true, silent }) }

// CutAt loses the n-th request from now (1: the next), Get or Put: with applied its reply
// only, else all of it. The function that it returns ends that, and reports whether there
// was such a request.
func (f *Faults) CutAt(n int, applied bool) (hit func() bool) {
	f.set(func() { f.cut, f.lose, f.silent = n, applied, false })
	return func() (hit bool) {
		f.set(func() {
			hit = f.cut == 0
			f.cut, f.lose = 0, false
		})
		return hit
	}
}

// Outage makes every request fail without reaching the store.
func (f *Faults) Outage(on bool) { f.set(func() { f.outage = on }) }

// Fail makes every request fail with err; nil ends it.
func (f *Faults) Fail(err error) { f.set(func() { f.err = err }) }

// Double sends each Put twice, as clients and proxies do that repeat requests by
// themselves: the caller gets the second reply.
func (f *Faults) Double(on bool) { f.set(func() { f.doubled = on }) }

// Conflict makes the next Put fail with ErrChanged although nothing has changed.
func (f *Faults) Conflict() { f.set(func() { f.conflict = true }) }

// Freeze makes reads show what this client has last seen before it was called, as a cache
// does that is not refreshed. It works over any store.
func (f *Faults) Freeze(on bool) { f.set(func() { f.frozen = on }) }

// Stale makes reads show the state of lag ago, as a replica that lags does. The store must
// be a [Memory].
func (f *Faults) Stale(lag time.Duration) { f.set(func() { f.lag = lag }) }

// Sent counts the requests.
func (f *Faults) Sent() (gets, puts int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gets, f.puts
}

// Drain waits until no request is on its way any more.
func (f *Faults) Drain() { f.requests.Wait() }

var errReset = errors.New("connection reset")

// trip is one request.
func trip[T any](ctx context.Context, f *Faults, put bool, do func(ctx context.Context) (T, error)) (T, error) {
	var none T
	f.mu.Lock()
	if put {
		f.puts++
	} else {
		f.gets++
	}
	delay, late, outage, failure, silent := f.delay, f.late, f.outage, f.err, f.silent
	lose, drop := f.lose && put && f.cut == 0, false
	if f.cut > 0 {
		if f.cut--; f.cut == 0 {
			lose, drop = f.lose, !f.lose
			f.lose = false
		}
	}
	if lose {
		f.lose = false
	}
	f.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return none, ctx.Err()
	case outage:
		return none, errors.New("connection refused")
	case failure != nil:
		return none, failure
	case drop:
		return none, errReset
	case lose:
		_, _ = do(ctx)
		if silent {
			<-ctx.Done()
			return none, ctx.Err()
		}
		return none, errReset
	case delay == 0:
		return do(ctx)
	}
	type reply struct {
		v   T
		err error
	}
	replies := make(chan reply, 1)
	f.requests.Go(func() {
		// On its way, a request doesn't learn that its caller has given up.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if late {
			time.Sleep(delay)
		}
		v, err := do(ctx)
		if !late {
			time.Sleep(delay)
		}
		replies <- reply{v, err}
	})
	select {
	case r := <-replies:
		return r.v, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// Get asks the store.
func (f *Faults) Get(ctx context.Context, name string) (record.Entry, error) {
	f.mu.Lock()
	lag, frozen, old := f.lag, f.frozen, f.seen[name]
	f.mu.Unlock()
	e, err := trip(ctx, f, false, func(ctx context.Context) (record.Entry, error) {
		switch {
		case frozen:
			return old, nil
		case lag > 0:
			return f.Store.(staleStore).GetOld(ctx, name, lag)
		}
		return f.Store.Get(ctx, name)
	})
	if err == nil && !frozen {
		f.saw(name, e)
	}
	return e, err
}

// saw keeps a state for Freeze.
func (f *Faults) saw(name string, e record.Entry) {
	f.set(func() {
		if f.seen == nil {
			f.seen = map[string]record.Entry{}
		}
		if !f.frozen {
			f.seen[name] = e
		}
	})
}

// staleStore is a Memory.
type staleStore interface {
	GetOld(ctx context.Context, name string, lag time.Duration) (record.Entry, error)
}

// Put asks the store.
func (f *Faults) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	f.mu.Lock()
	doubled, conflict := f.doubled, f.conflict
	f.conflict = false
	f.mu.Unlock()
	newVersion, err := trip(ctx, f, true, func(ctx context.Context) (string, error) {
		if conflict {
			return "", record.ErrChanged
		}
		if doubled {
			if _, err := f.Store.Put(ctx, name, r, version); err != nil {
				return "", err
			}
		}
		return f.Store.Put(ctx, name, r, version)
	})
	if err == nil {
		f.saw(name, record.Entry{Record: r, Version: newVersion})
	}
	return newVersion, err
}

// Client is f as a [record.Store] that offers what its Store offers.
func (f *Faults) Client() record.Store {
	_, watches := f.Store.(record.Watcher)
	_, lists := f.Store.(record.Lister)
	_, deletes := f.Store.(record.Deleter)
	switch {
	case watches && lists && deletes:
		return all{f, watching{f}, listing{f}, deleting{f}}
	case watches && lists:
		return struct {
			*Faults
			watching
			listing
		}{f, watching{f}, listing{f}}
	case lists && deletes:
		return struct {
			*Faults
			listing
			deleting
		}{f, listing{f}, deleting{f}}
	case lists:
		return struct {
			*Faults
			listing
		}{f, listing{f}}
	case watches:
		return struct {
			*Faults
			watching
		}{f, watching{f}}
	}
	return f
}

type all struct {
	*Faults
	watching
	listing
	deleting
}

type watching struct{ f *Faults }

func (w watching) Watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	return trip(ctx, w.f, false, func(ctx context.Context) (func(), error) {
		return w.f.Store.(record.Watcher).Watch(ctx, name, changed)
	})
}

type listing struct{ f *Faults }

func (l listing) List(ctx context.Context, prefix string) iter.Seq2[record.Entry, error] {
	return func(yield func(record.Entry, error) bool) {
		if _, err := trip(ctx, l.f, false, func(context.Context) (struct{}, error) { return struct{}{}, nil }); err != nil {
			yield(record.Entry{}, err)
			return
		}
		for e, err := range l.f.Store.(record.Lister).List(ctx, prefix) {
			if !yield(e, err) {
				return
			}
		}
	}
}

type deleting struct{ f *Faults }

func (d deleting) Delete(ctx context.Context, name, version string) error {
	_, err := trip(ctx, d.f, true, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, d.f.Store.(record.Deleter).Delete(ctx, name, version)
	})
	return err
}
