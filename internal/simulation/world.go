package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/internal/simulation/seeded"
)

// Profile is a set of assumptions, and what is asserted under them.
type Profile struct {
	Name string
	// Exclusive: at most one lease is valid at a time. Tokens and the fenced store are
	// asserted in every profile.
	Exclusive bool
	Drift     float64 // the most that a node's rate is off 1
	Steps     bool    // nodes' clocks jump
	Durable   bool    // restarts keep all data, and CONFIG GET says so
	GuardOff  bool
	Vanish    bool // lock keys vanish
}

// Profiles are those that a run can have. What the first two assume is within what
// the library allows; the others are beyond it.
var Profiles = []Profile{
	{Name: "guarded", Exclusive: true, Drift: 0.0095},
	{Name: "durable", Exclusive: true, Drift: 0.0095, Durable: true},
	{Name: "drifting", Drift: 0.6, Steps: true},
	{Name: "forgetful", Drift: 0.0095, GuardOff: true, Vanish: true},
}

// Config is one run.
type Config struct {
	Seed    uint64
	Profile *Profile // nil: by the seed
	Terms   int      // its length, in ttls
	Waits   bool     // programs wait in the nodes' queues; else they ask again
}

// Result is what a run did. All but Elapsed of the real world is a function of the
// seed.
type Result struct {
	Seed      uint64
	Profile   string
	Nodes     int
	TTL       time.Duration
	Simulated time.Duration
	Terms     int // Simulated in ttls

	Messages, Lost, Late, Doubled int
	Pushes, Waits                 int // notifications of grants, leases that were waited for in the queues
	Heartbeats                    int // of the connections for notifications, among Messages
	Faults                        map[string]int
	Grants, HandOffs, Extends     int
	Losses                        int // leases that ended otherwise than by a release
	Writes, Refused               int
	Overlaps                      int // of valid leases, where they are not asserted not to be

	Hash      uint64 // of all events
	Violation string
	At        time.Duration // of the violation
	Timeline  []string      // the last events
}

// world is one run. mu guards everything in it that changes.
type world struct {
	cfg     Config
	profile Profile
	rng     *rand.Rand // of the faults; each link and client has its own
	began   time.Time
	ttl     time.Duration
	guard   time.Duration
	timeout time.Duration // of a node
	quorum  int

	nodes   []*node
	clients []*client
	keys    []string
	late    sync.WaitGroup // messages that nobody waits for

	mu     sync.Mutex
	weak   networkFaults
	hold   map[string]*register // by key
	res    Result
	events []event
	next   int // in events, a ring
	stop   context.CancelFunc
}

// networkFaults is what the network does to all messages.
type networkFaults struct {
	loss, slow, double float64
	latency            time.Duration
}

type event struct {
	at   time.Duration
	text string
	args []any
}

const kept = 600 // events of a timeline

// note keeps an event for the timeline and adds it to the hash. mu is held.
func (w *world) note(text string, args ...any) {
	at := time.Since(w.began)
	h := w.res.Hash
	mix := func(v uint64) { h = (h ^ v) * 0x100000001b3 }
	mix(uint64(at))
	for _, c := range []byte(text) {
		mix(uint64(c))
	}
	for _, a := range args {
		switch a := a.(type) {
		case int:
			mix(uint64(a))
		case uint64:
			mix(a)
		case int64:
			mix(uint64(a))
		case time.Duration:
			mix(uint64(a))
		}
	}
	w.res.Hash = h
	e := event{at, text, args}
	if len(w.events) < kept {
		w.events = append(w.events, e)
		return
	}
	w.events[w.next] = e
	w.next = (w.next + 1) % kept
}

// violate ends the run with a violation, the first one. mu is held.
func (w *world) violate(format string, args ...any) {
	if w.res.Violation != "" {
		return
	}
	w.note("VIOLATION: "+format, args...)
	w.res.Violation, w.res.At = fmt.Sprintf(format, args...), time.Since(w.began)
	for i := range w.events {
		e := w.events[(w.next+i)%len(w.events)]
		w.res.Timeline = append(w.res.Timeline, fmt.Sprintf("%14.6fs  ", e.at.Seconds())+fmt.Sprintf(e.text, e.args...))
	}
	w.stop()
}

// String is a report of a run for a person.
func (r *Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, profile %s: %d nodes, ttl %v, %.1f h (%d ttls), %d messages (%d lost, %d late, %d doubled, %d pushes), %d grants (%d waited for), %d hand-offs, %d extends, %d losses, %d writes, %d refused, %d overlaps, hash %016x",
		r.Seed, r.Profile, r.Nodes, r.TTL, r.Simulated.Hours(), r.Terms, r.Messages, r.Lost, r.Late, r.Doubled, r.Pushes, r.Grants, r.Waits, r.HandOffs, r.Extends, r.Losses, r.Writes, r.Refused, r.Overlaps, r.Hash)
	if r.Violation != "" {
		for _, line := range r.Timeline {
			fmt.Fprintf(&b, "\n%s", line)
		}
		fmt.Fprintf(&b, "\nseed %d, profile %s: after %v: %s", r.Seed, r.Profile, r.At, r.Violation)
	}
	return b.String()
}

// newWorld draws what a run is like, and makes its servers.
func newWorld(cfg Config) *world {
	seeded.Seed(cfg.Seed)
	rng := rand.New(rand.NewPCG(cfg.Seed, 1))
	w := &world{cfg: cfg, rng: rng, began: time.Now(), hold: map[string]*register{}}
	if p := cfg.Profile; p != nil {
		w.profile = *p
	} else {
		w.profile = Profiles[[]int{0, 0, 0, 0, 0, 1, 1, 1, 2, 3}[rng.IntN(10)]]
	}
	shortest, longest := 10*time.Second, time.Hour
	if cfg.Waits { // who waits refreshes, and its connections have heartbeats, all the time
		shortest, longest = 2*time.Second, 20*time.Second
	}
	w.ttl = between(rng, shortest, longest).Round(time.Millisecond)
	w.timeout = between(rng, w.ttl/200, w.ttl/4)
	w.guard = w.ttl + time.Duration(rng.Int64N(int64(w.ttl)))*time.Duration(rng.IntN(2))
	count := []int{3, 3, 3, 4, 5}[rng.IntN(5)]
	w.quorum = count/2 + 1
	if rng.IntN(6) == 0 {
		w.quorum = min(w.quorum+1, count)
	}
	for i := range count {
		n := newNode(fmt.Sprintf("n%d", i+1), time.Now)
		n.durable = w.profile.Durable
		n.noFunctions = i == 0 && cfg.Seed%2 == 0 // it is asked by scripts
		n.mute = i == 0 && cfg.Seed%5 == 0
		n.publish = w.publishTo(n)
		if !w.profile.Steps {
			n.wall = time.Duration(rng.Int64N(int64(2*maxWall))) - maxWall
		}
		w.nodes = append(w.nodes, n)
	}
	w.calm()
	w.res = Result{Seed: cfg.Seed, Profile: w.profile.Name, Nodes: count, TTL: w.ttl, Faults: map[string]int{}}
	w.keys = []string{"a", "b"}[:1+rng.IntN(2)]
	for _, key := range w.keys {
		w.hold[key] = newRegister(key)
	}
	return w
}

// Run simulates. It returns when everything that it started has ended.
func Run(cfg Config) *Result {
	w := newWorld(cfg)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	w.stop = stop

	for i := range 2 + w.rng.IntN(3) {
		w.clients = append(w.clients, w.newClient(i))
	}
	var clients sync.WaitGroup
	clientsCtx, end := context.WithCancel(context.Background())
	defer end()
	for _, c := range w.clients {
		clients.Go(func() { c.live(clientsCtx) })
	}
	w.inject(ctx, time.Duration(cfg.Terms)*w.ttl)
	healed := w.heal()
	w.requireProgress(ctx, healed)
	end()
	w.requireEnd(&clients)
	w.requireGrants(ctx)
	w.late.Wait()

	w.mu.Lock()
	defer w.mu.Unlock()
	w.res.Simulated = time.Since(w.began)
	w.res.Terms = int(w.res.Simulated / w.ttl)
	return &w.res
}

// maxWall is how far a node's TIME is off. Restarts take longer than two of them
// are apart, which is what tokens need where counts are lost.
const maxWall = time.Second

// between draws from the logarithm's even spread.
func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	d := float64(low)
	for range 4 { // a coarse power, without math.Pow: the same bits on every machine
		d *= 1 + rng.Float64()*(root4(float64(high)/float64(low))-1)
	}
	return min(time.Duration(d), high)
}

func root4(x float64) float64 {
	r := 1.0
	for range 60 {
		r -= (r*r*r*r - x) / (4 * r * r * r)
	}
	return r
}

// bound is how long it may take, once all is well, until somebody has a key: what
// the nodes' guards and the last holder's ttl take, and some attempts.
func (w *world) bound() time.Duration { return 3*w.guard + 3*w.ttl + 20*w.timeout + 10*time.Second }

// requireProgress: once healed, somebody acquires or renews within the bound, among
// contenders that do what they did.
func (w *world) requireProgress(ctx context.Context, healed time.Time) {
	for end := healed.Add(w.bound()); ctx.Err() == nil && time.Now().Before(end); {
		w.mu.Lock()
		done := false
		for _, r := range w.hold {
			done = done || r.active.After(healed)
		}
		w.mu.Unlock()
		if done {
			return
		}
		pause(ctx, w.ttl/10)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() == nil {
		w.violate("nobody acquired or renewed within %v after all was healed", w.bound())
	}
}

// requireEnd: every client returns.
func (w *world) requireEnd(clients *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		clients.Wait()
		close(done)
	}()
	timeout := time.NewTimer(20*w.bound() + time.Hour)
	defer timeout.Stop()
	select {
	case <-done:
		return
	case <-timeout.C:
	}
	w.mu.Lock()
	w.violate("clients have not ended %v after they were asked to", 20*w.bound())
	w.mu.Unlock()
	<-done // or the bubble reports the deadlock
}

// requireGrants: a newcomer gets each key, and everything of it ends.
func (w *world) requireGrants(ctx context.Context) {
	c := w.newClient(len(w.clients))
	l := c.connect()
	for _, key := range w.keys {
		bounded, cancel := context.WithTimeout(ctx, w.bound())
		lease, err := c.acquire(bounded, l, key)
		cancel()
		if err == nil {
			err = lease.Release(context.Background())
		}
		w.mu.Lock()
		if err != nil && ctx.Err() == nil {
			w.violate("a newcomer got nothing within %v: %v", w.bound(), err)
		}
		w.mu.Unlock()
	}
	c.disconnect(l)
}

// pause sleeps unless ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
