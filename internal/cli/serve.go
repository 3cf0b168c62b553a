package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/internal/serve"
)

// server is one lockkeeper serve.
type server struct {
	listening
	a        *app
	prefix   string
	interval time.Duration
}

const defaultServe = "127.0.0.1:4041"

func (a *app) serveCommand() *cobra.Command {
	s := &server{a: a}
	c := &cobra.Command{
		Use:   "serve [PREFIX]",
		Short: "Show nodes, locks and what happens to them in a browser, live",
		Long: `Serve shows what watch does as a page: the nodes with their votes, or why they
do not vote, who holds which lock, for how long and until when, who waits, and
what happens, as it happens; and each key on a page of its own. With PREFIX it
shows only the keys that begin with it. It changes nothing.

  /          the page; /?prefix=TEXT filters it, /lock?key=KEY is a key's
  /api       the same as JSON; /api/health, /api/locks and /api/events are what
             health, list and watch print with -o json
  /metrics   in the text format of Prometheus

The store is asked once every --interval for its locks, and every 5s for its
health, however many pages are open. A listing that takes long is followed by a
pause of three times as much.

There is no authentication: anyone who reaches the address can read the names of
keys and holders. An address that other machines reach needs --allow-remote. A
request whose Host is a name other than localhost and those of --allow-host is
refused, since another site's page may have sent it.

SIGTERM, SIGHUP and Ctrl-C end it, with status 0.`,
		Example: `  lockkeeper serve
  lockkeeper serve tenant: --listen 127.0.0.1:8080
  curl -s http://127.0.0.1:4041/api/locks | jq -r '.[].key'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.prefix = optional(args)
			if s.interval < serve.LeastInterval {
				return usage("--interval is %v, want %v or more", s.interval, serve.LeastInterval)
			}
			if err := s.listening.check(defaultServe, "can read the names of keys and holders"); err != nil {
				return err
			}
			st, err := a.store()
			if err != nil {
				return err
			}
			defer undisturbed()()
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return s.run(ctx, st)
		},
	}
	flags := c.Flags()
	s.listening.flags(flags, defaultServe)
	flags.DurationVar(&s.interval, "interval", serve.DefaultInterval, "`time` between two questions to the store, 100ms or more")
	return c
}

// run serves until ctx ends. A store that is away then is one to show, too.
func (s *server) run(ctx context.Context, st store) error {
	o := &opener{open: st.openAnyway}
	defer o.close()
	if err := o.first(ctx); err != nil {
		return err
	}
	listener, unix, err := s.listening.listener()
	if err != nil {
		return err
	}
	page, err := serve.New(newSource(s.a, s.prefix, o), &serve.Options{Store: st.shown(), Prefix: s.prefix, Interval: s.interval, Hosts: s.allowHosts, AnyHost: unix})
	if err != nil {
		_ = listener.Close()
		return err
	}
	s.a.sayDefault(st)
	fmt.Fprintf(s.a.err, "lockkeeper: serving on %s\n", s.listening.shown(listener))
	return page.Serve(ctx, listener) // nil where a signal ends it: how else should it end?
}

// source asks what watch asks, for the page.
type source struct {
	w *watcher

	mu     sync.Mutex        // guards w.state and others
	others []inspect.Reading // of the latest answer: the keys that nobody holds and that are not free
}

func newSource(a *app, prefix string, o *opener) *source {
	s := &source{w: &watcher{a: a, prefix: prefix}}
	s.w.ask(o)
	locks := s.w.locks
	s.w.locks = func(ctx context.Context) ([]inspect.Reading, error) {
		all, err := locks(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.others = slices.DeleteFunc(slices.Clone(all), func(k inspect.Reading) bool { return k.Holder != "" })
		return all, err
	}
	return s
}

func (s *source) Locks(ctx context.Context) serve.Reading {
	l := s.w.list(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := serve.Reading{Events: shownEvents(s.w.state.update(l))}
	if l.err != nil {
		r.Err = reworded{outage(l.err), l.err}
		return r
	}
	if l.partial != nil {
		r.Partial = reworded{outage(l.partial), l.partial}
	}
	for _, h := range s.w.state.holds {
		r.Locks = append(r.Locks, shownLock(h.Reading, h.ended, h.full, h.seen, h.before))
	}
	for _, k := range s.others {
		if _, held := s.w.state.holds[k.Key]; !held {
			r.Locks = append(r.Locks, shownLock(k, l.ended, k.Left(), l.ended, true))
		}
	}
	slices.SortFunc(r.Locks, func(x, y serve.Lock) int { return cmp.Compare(x.Key, y.Key) })
	return r
}

func shownLock(k inspect.Reading, read time.Time, full time.Duration, seen time.Time, before bool) serve.Lock {
	l := serve.Lock{Reading: k, Read: read, Full: full, Seen: seen, Before: before}
	if !k.Plain() {
		l.Story = stateText(k)
	}
	return l
}

func (s *source) Health(ctx context.Context) serve.Checkup {
	h, err := s.w.health(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := serve.Checkup{Events: shownEvents(s.w.state.checkup(time.Now(), h, err)), Health: s.w.state.health}
	if !s.w.state.checked {
		c.Err = reworded{outage(err), err}
	}
	return c
}

func shownEvents(events []event) (shown []serve.Event) {
	grave := map[string]serve.Gravity{good: serve.Good, warn: serve.Warn, bad: serve.Bad}
	for _, e := range events {
		shown = append(shown, serve.Event{Time: e.Time, Kind: e.Kind, Grave: grave[e.colour()], Key: e.Key, Node: e.Node, Text: e.detail(), JSON: e})
	}
	return shown
}
