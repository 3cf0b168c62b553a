package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
	"golang.org/x/term"
)

const (
	leastInterval  = 100 * time.Millisecond
	healthInterval = 5 * time.Second // a health check is a real vote on each node
	askTimeout     = 5 * time.Second // for one question
	keptEvents     = 200             // for a tall screen
)

// watcher is one lockkeeper watch.
type watcher struct {
	a        *app
	prefix   string
	interval time.Duration

	locks   func(ctx context.Context) (all []inspect.Reading, err error)
	inspect func(ctx context.Context, key string) (inspect.Reading, error)
	health  func(ctx context.Context) (lock.Health, error)

	held map[string]bool // the keys that the latest list had; its goroutine's own

	state  watchState
	recent []event // the latest last
	screen *screen // nil: lines
}

func (a *app) watchCommand() *cobra.Command {
	w := &watcher{a: a}
	c := &cobra.Command{
		Use:   "watch [PREFIX]",
		Short: "Show nodes, locks and what happens to them, live",
		Long: `Watch shows the nodes, who holds which lock and for how long, and what happens:
a lock is acquired, released, expires or is handed over, a node goes down or
comes back. A bar is full at the longest time left that was seen of that hold.

It asks the store once every --interval for its locks, and every 5s for its
health. So what comes and goes within an interval is not seen. A lock that is
gone before its time was up is shown as released, no matter who did it; later,
as expired. Where a lock passes from one holder to another, both are named, as
in: a → b.

Held for is the store's word, where it knows; else how long watch has seen the
hold, with a > if it was there before. Waiting is how many stand in the store's
queue.

If standard output is no terminal, or TERM is dumb, each event is a line. With
--output json it is one JSON object a line, with "time" and "event": holds,
acquired, released, expired, handed_over, resign_asked, node_up, node_down,
node_back, unavailable, available; incomplete, where some locks can't be read
and the others are watched, and complete.

Ctrl-C ends it, with status 0.`,
		Example: `  lockkeeper watch
  lockkeeper watch tenant: --interval 200ms
  lockkeeper watch --output json | jq -c 'select(.event == "handed_over")'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			if w.interval < leastInterval {
				return usage("--interval is %v, want %v or more", w.interval, leastInterval)
			}
			w.prefix = optional(args)
			s, err := a.store()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return w.run(ctx, s.openAnyway)
		},
	}
	c.Flags().DurationVar(&w.interval, "interval", time.Second, "`time` between two questions to the store, 100ms or more")
	a.outputFlag(c)
	return c
}

// run watches what open opens. A store that is away when the watch begins is one to
// watch, too.
func (w *watcher) run(ctx context.Context, open func(context.Context) (lock.Locker, error)) error {
	o := &opener{open: open}
	defer o.close()
	if err := o.first(ctx); err != nil {
		return err
	}
	w.ask(o)
	if _, ok := terminalOf(w.a.out); ok && w.a.output != "json" && w.a.getenv("TERM") != "dumb" {
		w.screen = &screen{w: w.a.out}
	}
	err := w.loop(ctx)
	var sig signalled
	if errors.As(err, &sig) && sig.Signal == syscall.SIGINT {
		return nil // how else should it end?
	}
	return err
}

// ask makes w ask the store that o opens.
func (w *watcher) ask(o *opener) {
	w.locks = func(ctx context.Context) ([]inspect.Reading, error) {
		l, err := o.get(ctx)
		if err != nil {
			return nil, err
		}
		return inspect.Keys(ctx, l, w.prefix)
	}
	w.inspect = func(ctx context.Context, key string) (inspect.Reading, error) {
		l, err := o.get(ctx)
		if err != nil {
			return inspect.Reading{}, err
		}
		return inspect.Key(ctx, l, key)
	}
	w.health = func(ctx context.Context) (lock.Health, error) {
		l, err := o.get(ctx)
		if err != nil {
			return lock.Health{}, err
		}
		checker, ok := lock.As[lock.HealthChecker](l)
		if !ok {
			return lock.Health{}, errors.ErrUnsupported // then there are no nodes to show
		}
		return checker.Health(ctx)
	}
}

// opener opens a store as soon as it can be opened.
type opener struct {
	open func(context.Context) (lock.Locker, error)

	mu sync.Mutex // guards l; held while it is opened
	l  lock.Locker
}

func (o *opener) get(ctx context.Context) (lock.Locker, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.l != nil {
		return o.l, nil
	}
	// Less than a question's time: somebody else may wait for it as well.
	ctx, cancel := context.WithTimeout(ctx, askTimeout/4)
	defer cancel()
	l, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	o.l = l
	return l, nil
}

// first opens the store, and refuses one that can't be inspected. One that is away now may
// come back: it is asked again.
func (o *opener) first(ctx context.Context) error {
	l, err := o.get(ctx)
	if err == nil {
		_, err = inspectorOf(l)
	}
	if ctx.Err() != nil || errors.Is(err, lock.ErrUnavailable) {
		return nil
	}
	return err
}

func (o *opener) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.l != nil {
		closeLocker(o.l)
	}
}

// checkup is an answer of the nodes.
type checkup struct {
	at  time.Time
	h   lock.Health
	err error
}

// loop shows what comes until ctx ends. Whatever happens, the terminal is as it was
// before: first, because a store may take its time to let go.
func (w *watcher) loop(ctx context.Context) error {
	asking, stop := context.WithCancel(ctx)
	listings, listed := ask(asking, w.interval, w.list)
	defer func() { stop(); <-listed }()
	checkups, checked := ask(asking, max(w.interval, healthInterval), func(ctx context.Context) checkup {
		h, err := w.health(ctx)
		return checkup{time.Now(), h, err}
	})
	defer func() { stop(); <-checked }()
	var redraw <-chan time.Time
	var t terminalSignals
	if w.screen != nil {
		t = watchTerminal()
		defer t.stop()
		defer w.screen.leave()
		if err := w.screen.enter(); err != nil {
			return err
		}
		ticker := time.NewTicker(min(w.interval, time.Second))
		defer ticker.Stop()
		redraw = ticker.C
	}
	for {
		if err := w.draw(); err != nil {
			return err
		}
		var events []event
		select {
		case l := <-listings:
			events = w.state.update(l)
		case c := <-checkups:
			events = w.state.checkup(c.at, c.h, c.err)
		case <-redraw:
		case <-t.resized:
		case <-t.suspend:
			w.screen.leave()
			t.sleep()
			if err := w.screen.enter(); err != nil {
				return err
			}
		case s := <-t.quit:
			return signalled{s.(syscall.Signal)}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := w.report(events); err != nil {
			return err
		}
	}
}

// list asks who holds what. What can't be read of some locks must not hide the others.
func (w *watcher) list(ctx context.Context) listing {
	l := listing{began: time.Now()}
	all, err := w.locks(ctx)
	seen := map[string]bool{}
	for _, k := range all {
		seen[k.Key] = true
		if unavailable := k.Unavailable(); unavailable != nil {
			l.unknown = append(l.unknown, k.Key)
			l.partial = cmp.Or(l.partial, unavailable)
		} else if k.Holder != "" {
			l.locks = append(l.locks, k)
		}
	}
	if err != nil {
		l.partial = cmp.Or(l.partial, err)
		if !w.askEach(ctx, &l, seen) && len(all) == 0 && !w.answers(ctx) {
			l.err = err
		}
	}
	l.ended = time.Now()
	if l.err == nil {
		w.held = map[string]bool{}
		for _, k := range l.locks {
			w.held[k.Key] = true
		}
		for _, key := range l.unknown {
			w.held[key] = true
		}
	}
	l.fold(w.prefix)
	return l
}

// fold leaves of the locks those that an operator knows. What is not known of a gate is
// not known of its readers' places: they may be a writer's.
func (l *listing) fold(prefix string) {
	for _, k := range l.locks {
		if key, ok := rwlock.ReaderOf(k.Key); ok && slices.Contains(l.unknown, key) {
			l.unknown = append(l.unknown, k.Key)
		}
	}
	l.locks = slices.DeleteFunc(inspect.Fold(l.locks, prefix), func(k inspect.Reading) bool {
		return slices.Contains(l.unknown, k.Key) || k.ResignOf != "" // a request to one that is gone asks nobody
	})
}

// mostUnanswered is how many locks are asked for by themselves before the store is said
// to be away.
const mostUnanswered = 3

// askEach asks for each lock that was there before and that a list which is not whole
// does not have: that it is missing does not say that it is free. It reports whether the
// store has answered.
func (w *watcher) askEach(ctx context.Context, l *listing, seen map[string]bool) (answered bool) {
	for _, key := range slices.Sorted(maps.Keys(w.held)) {
		if seen[key] {
			continue
		}
		k, err := w.inspect(ctx, key)
		if err == nil {
			err = k.Unavailable()
		}
		switch {
		case err != nil:
			l.unknown = append(l.unknown, key)
		case k.Holder != "":
			l.locks = append(l.locks, k)
		}
		answered = answered || err == nil
		if ctx.Err() != nil || !answered && len(l.unknown) >= mostUnanswered {
			return false
		}
	}
	return answered
}

// answers reports whether the store answers at all: for a key that nobody locks.
func (w *watcher) answers(ctx context.Context) bool {
	k, err := w.inspect(ctx, w.prefix+"lockkeeper-watch")
	return err == nil && k.Unavailable() == nil
}

// ask asks at once and then every interval, until ctx ends. A question has its end.
// done is closed when none is under way any more.
func ask[T any](ctx context.Context, interval time.Duration, question func(context.Context) T) (answers <-chan T, done <-chan struct{}) {
	out, ended := make(chan T), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			asking, cancel := context.WithTimeout(ctx, askTimeout)
			answer := question(asking)
			cancel()
			select {
			case out <- answer:
			case <-ctx.Done():
				return
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, ended
}

// report prints events, or keeps them for the screen.
func (w *watcher) report(events []event) error {
	for _, e := range events {
		var err error
		switch {
		case w.screen != nil && (e.Kind == evHolds || e.Kind == evNodeUp): // it is there to see
		case w.screen != nil:
			w.recent = append(w.recent, e)
			w.recent = slices.Delete(w.recent, 0, max(0, len(w.recent)-keptEvents))
		case w.a.output == "json":
			encoder := json.NewEncoder(w.a.out)
			encoder.SetEscapeHTML(false)
			err = encoder.Encode(e)
		default:
			_, err = fmt.Fprintln(w.a.out, e.line())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *watcher) draw() error {
	if w.screen == nil {
		return nil
	}
	width, height := 80, 24
	if fd, ok := terminalOf(w.a.out); ok {
		// Not COLUMNS: it is as wide as the window was.
		if x, y, err := term.GetSize(fd); err == nil && x > 0 && y > 0 {
			width, height = x, y
		}
	}
	return w.screen.draw(w.frame(time.Now(), width, height))
}
