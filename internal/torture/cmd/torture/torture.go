package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/internal/torture/history"
)

// config is what the flags say.
type config struct {
	store    *store // nil: redlock
	duration time.Duration
	seed     uint64
	nodes    int // 0: as the store has it
	clients  int
	quorum   int // 0: a majority
	profile  profile
	keep     string // folder for failures
	draw     string // file for the timeline of any run; "" for none
	locker   string
	pace     time.Duration  // between faults, on average
	chaos    time.Duration  // between two rolling restarts
	only     *regexp.Regexp // kinds of faults; nil: all
	noRolls  bool           // no rolling restarts
	delayed  bool           // the operator keeps nodes that may have forgotten down for the longest ttl
	out      io.Writer
}

// profile is what may happen and what must hold all the same.
type profile struct {
	name   string
	about  string
	unsafe bool // faults that no quorum survives, and no guard
	rules  history.Rules
}

var profiles = []profile{
	{"safe", "every fault that the limits cover: at most one holder, and tokens", false, history.Rules{Exclusive: true, Fenced: true}},
	{"fenced", "also what the store's page does not promise to survive (redlock: FLUSHALL, deleted locks and damaged files on any nodes, restart guard off; others: deleted records): tokens alone", true, history.Rules{Fenced: true}},
}

const (
	maxTTL      = 2 * time.Second
	nodeTimeout = 300 * time.Millisecond
	keyCount    = 8
	workerCount = 5
	rollingKey  = "rolling"
)

// server is what the servers of all stores can do.
type server interface {
	Addr() string // the same over restarts
	Kill()
	Pause()
	Resume()
}

// node is one server.
type node struct {
	server
	restart func() // with its data, which is also there after a kill
	keeping keeping
	program string // what it is, for the report

	redis  *redistest.Server // nil: another store's
	member *storetest.Member // likewise
	nats   *storetest.NatsMember

	lane sync.Mutex // held while a fault of its process lasts
}

// torture is one run.
type torture struct {
	config
	h       *storetest.Host
	dir     string // of the clients' logs
	ledger  *ledger
	nodes   []*node
	clients []*process
	keys    []string
	brief   brief
	kinds   []kind
	place   place
	guard   time.Duration
	rng     *rand.Rand
	began   int64
	ctx     context.Context

	rolls, survived, spoiled int
	flushes                  int

	mu       sync.Mutex // guards all below
	ordering string     // what a client that starts shall do
}

func (t *torture) order() directive {
	t.mu.Lock()
	defer t.mu.Unlock()
	return directive{Order: t.ordering}
}

// recovery is how long after its start a node does not vote: the guard time as the
// scripts see it, in whole seconds of a clock that is rounded down.
func (t *torture) recovery() time.Duration {
	if t.guard <= 0 {
		return 0
	}
	return t.guard + 2*time.Second
}

func (t *torture) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
	}
}

// run tortures, and gives the history and what was wrong with it. An error says that
// the run itself failed.
func run(ctx context.Context, c config) (r report, err error) {
	if c.store == nil {
		c.store = storeNamed("redlock")
	}
	if c.nodes == 0 {
		c.nodes = c.store.nodes
	}
	if c.quorum == 0 && c.nodes > 0 {
		c.quorum = c.nodes/2 + 1
	}
	t := &torture{config: c, h: &storetest.Host{}, ledger: newLedger(), guard: maxTTL, ordering: orderDrain,
		rng: rand.New(rand.NewPCG(c.seed, 1))}
	t.kinds = c.store.kinds()
	if c.profile.unsafe {
		t.guard = -1
		t.noRolls = true // no lease can be expected to survive
	}
	if c.store.name != "redlock" {
		t.guard = 0
		t.noRolls = true // it is about what a quorum repairs
	}
	if !lockers[c.locker].tokens {
		t.profile.rules.Fenced = false
		t.noRolls = true // it repairs nothing
		t.ledger.open = true
	}
	for i := range keyCount {
		t.keys = append(t.keys, fmt.Sprintf("key-%d", i))
	}
	if t.dir, err = os.MkdirTemp("", "torture-"); err != nil {
		return r, err
	}
	t.h.Cleanup(func() { _ = os.RemoveAll(t.dir) })
	t.brief = brief{Seed: c.seed, Keys: t.keys, Workers: workerCount, MaxTTL: maxTTL, NodeTimeout: nodeTimeout, Store: c.store.name,
		Quorum: c.quorum, Guard: t.guard, Locker: c.locker}
	err = t.h.Within(func() error {
		var stop context.CancelFunc
		t.ctx, stop = context.WithCancel(ctx)
		defer stop()
		if err := t.start(); err != nil {
			return err
		}
		var pulse sync.WaitGroup
		pulse.Go(func() { t.pulse() })
		t.began = mono()
		err := t.torment()
		err = errors.Join(err, t.end())
		stop()
		pulse.Wait()
		r = t.report()
		if ctx.Err() != nil { // a Ctrl-C reaches the servers too: what fails then is not reported
			return ctx.Err()
		}
		return err
	})
	return r, err
}

func (t *torture) start() error {
	var err error
	if t.nodes, t.place, err = t.store.start(t); err != nil {
		return err
	}
	for i := range t.config.clients {
		p := &process{torture: t, slot: i}
		for _, n := range t.nodes {
			p.proxies = append(p.proxies, redistest.NewProxy(t.h, n.Addr()))
		}
		p.urls = t.place.urls(p)
		t.h.Cleanup(func() { _ = p.kill() }) // before its proxies
		t.clients = append(t.clients, p)
		if err := p.start(); err != nil {
			return err
		}
	}
	for _, p := range t.clients {
		if err := t.within("client is ready", p.now().ready); err != nil {
			return errors.Join(err, p.alive())
		}
	}
	return t.allVote()
}

// within waits for c, bounded.
func (t *torture) within(what string, c <-chan struct{}) error {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-c:
		return nil
	case <-timer.C:
		return fmt.Errorf("%s: not within %v", what, bound)
	case <-t.ctx.Done():
		return t.ctx.Err()
	}
}

// until asks again and again whether something is so, bounded.
func (t *torture) until(what string, so func() (bool, error)) error {
	for end := time.Now().Add(bound); ; {
		ok, err := so()
		if err != nil || ok {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %v", what, bound)
		}
		t.sleep(20 * time.Millisecond)
		if t.ctx.Err() != nil {
			return t.ctx.Err()
		}
	}
}

// allVote waits until every node has sat out its guard time.
func (t *torture) allVote() error {
	for _, n := range t.nodes {
		if err := t.votes(n); err != nil {
			return err
		}
	}
	return nil
}

func (t *torture) votes(n *node) error {
	if t.guard <= 0 || n.keeping == always {
		return nil
	}
	least := int(t.guard/time.Second) + 1
	return t.until("node votes", func() (bool, error) {
		info, err := n.redis.Try("INFO", "server")
		if err != nil {
			return false, err
		}
		_, rest, _ := strings.Cut(info, "uptime_in_seconds:")
		digits, _, _ := strings.Cut(rest, "\r")
		up, err := strconv.Atoi(digits)
		return up >= least, err
	})
}

// tellAll gives every client an order, now and when it starts again.
func (t *torture) tellAll(order string) {
	t.mu.Lock()
	t.ordering = order
	t.mu.Unlock()
	for _, p := range t.clients {
		p.give(directive{Order: order})
	}
}

// torment alternates between faults at random and a rolling restart, until the time is
// over; then it lets the system heal.
func (t *torture) torment() error {
	t.tellAll(orderContend)
	end := t.began + int64(t.duration)
	for round := 0; ; round++ {
		left := time.Duration(end - mono())
		if left <= 0 || t.ctx.Err() != nil {
			break
		}
		chaos := min(t.chaos, left)
		if left < 2*chaos && !t.noRolls {
			chaos = left - min(left/2, 40*time.Second) // time for the last rolling restart
		}
		if err := t.strike(round, chaos); err != nil {
			return err
		}
		if t.noRolls {
			continue
		}
		if err := t.roll(); err != nil {
			return err
		}
	}
	return t.healed()
}

// strike carries out one plan.
func (t *torture) strike(round int, length time.Duration) error {
	p := planner{rng: rand.New(rand.NewPCG(t.seed, uint64(round)+100)), kinds: t.kinds, nodes: len(t.nodes), clients: len(t.clients),
		quorum: t.quorum, unsafe: t.profile.unsafe, only: t.only, guard: t.recovery(), maxTTL: maxTTL}
	plan := p.plan(length, t.pace)
	var wg sync.WaitGroup
	defer wg.Wait()
	errs := make(chan error, len(plan))
	start := time.Now()
	for _, f := range plan {
		t.sleep(time.Until(start.Add(f.at)))
		if t.ctx.Err() != nil {
			return t.ctx.Err()
		}
		select {
		case err := <-errs:
			return err
		default:
		}
		wg.Go(func() {
			if err := t.perform(f); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	for _, p := range t.clients {
		if err := p.alive(); err != nil {
			return err
		}
	}
	return nil
}

// healed: when all faults have ended, every key is acquired again within a bound.
func (t *torture) healed() error {
	from := mono()
	if err := t.allVote(); err != nil {
		return err
	}
	for _, key := range t.keys {
		err := t.until("acquired again", func() (bool, error) {
			return t.ledger.acquiredSince(key, from), nil
		})
		if t.ctx.Err() != nil {
			return t.ctx.Err()
		}
		if err != nil {
			t.ledger.violation("once healed, somebody acquires", "nobody has acquired %s within %v after the last fault", key, bound)
		}
	}
	return nil
}

// end lets the clients end.
func (t *torture) end() error {
	t.tellAll(orderDrain)
	errs := make([]error, len(t.clients))
	var wg sync.WaitGroup
	for i, p := range t.clients {
		wg.Go(func() { errs[i] = p.stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// pulse notes when this process itself did not run, and when the wall clock, which
// servers count expiry by, was set.
func (t *torture) pulse() {
	last := mono()
	for t.ctx.Err() == nil {
		t.sleep(25 * time.Millisecond)
		now := mono()
		if now-last > int64(stall) {
			t.ledger.take(-1, 0, said{What: saidStall, Asked: last, At: now})
		}
		last = now
	}
}
