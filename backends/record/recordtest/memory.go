package recordtest

import (
	"context"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
)

// Memory is a [record.Store] in memory, for tests of what is built on records. It goes by
// package time, so it works in a testing/synctest bubble. It reports ages and pushes
// notifications; Client makes one that doesn't.
type Memory struct {
	mu       sync.Mutex // guards all below
	rows     map[string]row
	past     map[string][]row // every state of a name, for stale reads
	version  int
	skew     time.Duration
	watchers map[string]map[*watcher]struct{}
}

type row struct {
	record  record.Record
	version string // "": deleted
	put     time.Time
}

func (r row) entry() record.Entry { return record.Entry{Record: r.record, Version: r.version} }

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return &Memory{rows: map[string]row{}, past: map[string][]row{}, watchers: map[string]map[*watcher]struct{}{}}
}

// Skew sets the store's wall clock off by d.
func (m *Memory) Skew(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.skew = d
}

// Get returns the latest state, with the store's clock and the record's age.
func (m *Memory) Get(ctx context.Context, name string) (record.Entry, error) {
	return m.GetOld(ctx, name, 0)
}

// roundTrip is how long each request takes, so that time passes in a bubble, too.
const roundTrip = 50 * time.Microsecond

// GetOld is a Get of the state that was there lag ago.
func (m *Memory) GetOld(ctx context.Context, name string, lag time.Duration) (record.Entry, error) {
	if ctx.Err() != nil {
		return record.Entry{}, ctx.Err()
	}
	time.Sleep(roundTrip)
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rows[name]
	if lag > 0 {
		r = row{}
		for _, old := range m.past[name] {
			if time.Since(old.put) >= lag {
				r = old
			}
		}
	}
	e := r.entry()
	e.Record.Queue = slices.Clone(e.Record.Queue)
	e.Time = time.Now().Add(m.skew)
	if e.Version != "" {
		e.Age = max(time.Since(r.put), 1)
	}
	return e, nil
}

// Put writes in place of version.
func (m *Memory) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	time.Sleep(roundTrip)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows[name].version != version {
		return "", record.ErrChanged
	}
	m.version++
	r.Queue = slices.Clone(r.Queue)
	m.set(name, row{r, strconv.Itoa(m.version), time.Now()})
	return m.rows[name].version, nil
}

// Delete removes name if it has version.
func (m *Memory) Delete(ctx context.Context, name, version string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if version == "" || m.rows[name].version != version {
		return record.ErrChanged
	}
	m.set(name, row{put: time.Now()})
	return nil
}

// set is a change of one row, and notifies those who watch it. mu is held.
func (m *Memory) set(name string, r row) {
	m.rows[name] = r
	m.past[name] = append(m.past[name], r)
	if r.version == "" {
		delete(m.rows, name)
	}
	for w := range m.watchers[name] {
		w.send(r.entry())
	}
}

// Remove deletes name whatever its version, as an operator does.
func (m *Memory) Remove(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(name, row{put: time.Now()})
}

// List yields all entries whose names start with prefix.
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[record.Entry, error] {
	return func(yield func(record.Entry, error) bool) {
		if ctx.Err() != nil {
			yield(record.Entry{}, ctx.Err())
			return
		}
		m.mu.Lock()
		var all []record.Entry
		for name, r := range m.rows {
			if strings.HasPrefix(name, prefix) {
				e := r.entry()
				e.Age, e.Name = max(time.Since(r.put), 1), name
				all = append(all, e)
			}
		}
		m.mu.Unlock()
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// watcher hands states on in order, without holding the store up.
type watcher struct {
	changed func(*record.Entry)
	states  chan record.Entry
	done    chan struct{}
}

// send is called with the store's mutex held.
func (w *watcher) send(e record.Entry) {
	select {
	case w.states <- e:
	case <-w.done:
	}
}

// Watch notifies of each state of name.
func (m *Memory) Watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	w := &watcher{changed, make(chan record.Entry, 1024), make(chan struct{})}
	m.mu.Lock()
	if m.watchers[name] == nil {
		m.watchers[name] = map[*watcher]struct{}{}
	}
	m.watchers[name][w] = struct{}{}
	m.mu.Unlock()
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			select {
			case e := <-w.states:
				w.changed(&e)
			case <-w.done:
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		close(w.done)
		m.mu.Lock()
		delete(m.watchers[name], w)
		m.mu.Unlock()
		ended.Wait()
	}), nil
}

// Client is m as one of its clients sees it: without ages, or without notifications.
func (m *Memory) Client(ages, pushes bool) record.Store {
	c := client{m, ages}
	if pushes {
		return pushing{c}
	}
	return c
}

// client hides what its store need not have.
type client struct {
	m    *Memory
	ages bool
}

func (c client) entry(e record.Entry) record.Entry {
	if !c.ages {
		e.Age = 0
	}
	return e
}

func (c client) Get(ctx context.Context, name string) (record.Entry, error) {
	return c.GetOld(ctx, name, 0)
}

func (c client) GetOld(ctx context.Context, name string, lag time.Duration) (record.Entry, error) {
	e, err := c.m.GetOld(ctx, name, lag)
	return c.entry(e), err
}

func (c client) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	return c.m.Put(ctx, name, r, version)
}

func (c client) Delete(ctx context.Context, name, version string) error {
	return c.m.Delete(ctx, name, version)
}

func (c client) List(ctx context.Context, prefix string) iter.Seq2[record.Entry, error] {
	return func(yield func(record.Entry, error) bool) {
		for e, err := range c.m.List(ctx, prefix) {
			if !yield(c.entry(e), err) {
				return
			}
		}
	}
}

type pushing struct{ client }

func (p pushing) Watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	return p.m.Watch(ctx, name, changed)
}
