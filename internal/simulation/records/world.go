// Package records runs the real engine of backends/record, with keepalive and
// lock.Acquire, against a simulated store on fake time, under random faults, and checks
// what it promises. It must run in a testing/synctest bubble.
//
// Simulated: the store with its clock, the network, each client's clock, the programs that
// use the locks and the resource that they write to. Not simulated: anything of the
// library. All times of a run scale with its ttl.
package records

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/simtest"
	"github.com/tonsurance/lockkeeper/lock"
)

// Profile is a set of assumptions, and what is asserted under them.
type Profile struct {
	Name string
	// Exclusive: at most one lease is valid at a time. Tokens and the fenced resource are
	// asserted in every profile.
	Exclusive bool
	Drift     float64 // the most that a clock's rate is off 1
	Deletes   bool    // records are deleted by hand, as an operator does
	Stale     bool    // reads show old states at times
	Conflicts bool    // writes are refused for nothing at times
}

// Profiles are those that a run can have. The last two assume more than the engine allows.
var Profiles = []Profile{
	{Name: "bounded", Exclusive: true, Drift: 0.0098},
	{Name: "stale", Exclusive: true, Drift: 0.0098, Stale: true, Conflicts: true},
	{Name: "drifting", Drift: 0.4},
	{Name: "deleted", Drift: 0.0098, Deletes: true},
}

// Config is one run.
type Config struct {
	Seed    uint64
	Profile *Profile // nil: by the seed
	Terms   int      // its length, in ttls
}

// world is one run.
type world struct {
	cfg     Config
	profile Profile
	began   time.Time
	ttl     time.Duration
	server  *server
	keys    []string
	end     time.Time
	run     *simtest.Run

	mu    sync.Mutex // guards all below
	rng   *rand.Rand // of what happens to the world
	links []*link
}

// Run simulates one seed.
func Run(cfg Config) *simtest.Run {
	rng := rand.New(rand.NewPCG(cfg.Seed, 1))
	w := &world{cfg: cfg, rng: rng, began: time.Now()}
	w.profile = Profiles[rng.IntN(len(Profiles))]
	if cfg.Profile != nil {
		w.profile = *cfg.Profile
	}
	w.ttl = time.Duration(float64(10*time.Second) * pow(360, rng.Float64()))
	w.end = w.began.Add(time.Duration(cfg.Terms) * w.ttl)
	w.keys = []string{"k", "odd key/é"}[:1+rng.IntN(2)]
	w.server = &server{store: recordtest.NewMemory(), ages: rng.IntN(2) == 0, run: w.began, rate: w.rate()}
	w.run = simtest.NewRun(cfg.Seed, w.profile.Name, w.profile.Exclusive,
		"requests", "requests lost", "grants", "extends", "losses", "crashes", "pruned", "overlaps")
	w.run.Log("the ttl is %v", w.ttl)

	var programs sync.WaitGroup
	pushes, queue := rng.IntN(2) == 0, rng.IntN(2) == 0
	for i := range 3 + rng.IntN(3) {
		programs.Go(func() { w.program(uint64(i), pushes, queue) })
	}
	programs.Go(w.faults)
	programs.Wait()
	w.server.late.Wait()
	w.run.End()
	return w.run
}

func pow(base, x float64) float64 { // of numbers in this range, without math's platform differences
	y := 1.0
	for range int(x * 64) {
		y *= 1.0963 // the 64th root of 360
	}
	return y
}

// rate is of a clock, often at the edge of what is allowed.
func (w *world) rate() float64 {
	switch d := w.profile.Drift; w.rng.IntN(3) {
	case 0:
		return 1 + d
	case 1:
		return 1 - d
	default:
		return 1 + d*(2*w.rng.Float64()-1)
	}
}

// process is one life of a program.
type process struct {
	w    *world
	name string
	rng  *rand.Rand
	link *link
	l    *record.Locker
}

// start makes a process, which has seen nothing yet.
func (w *world) start(id uint64, pushes, queue bool) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := &link{s: w.server, w: w, rng: rand.New(rand.NewPCG(w.rng.Uint64(), id)), rate: w.rate(), pushes: pushes, watches: map[*pushed]struct{}{}}
	var s record.Store = k
	if pushes {
		s = pushing{k}
	}
	o := &record.Options{Owner: fmt.Sprint("client", id), HeadStart: -1, Poll: min(w.ttl/20, time.Hour), Timeout: w.ttl / 5}
	if queue {
		o.HeadStart = min(w.ttl/40, 10*time.Second)
	}
	l, err := record.New(s, o)
	if err != nil {
		panic(err)
	}
	w.links = append(w.links, k)
	return &process{w, o.Owner, rand.New(rand.NewPCG(w.rng.Uint64(), id)), k, l}
}

// program is one client: it starts, works, crashes, and starts again.
func (w *world) program(id uint64, pushes, queue bool) {
	for time.Now().Before(w.end) {
		p := w.start(id, pushes, queue)
		life := time.Now().Add(p.some(30 * w.ttl))
		for time.Now().Before(life) && time.Now().Before(w.end) {
			p.work()
		}
		if p.rng.IntN(2) == 0 {
			w.run.Count("crashes", 1)
			p.link.setCut(true) // nothing of it reaches the store any more
		}
		_ = p.l.Close()
		w.forget(p.link)
	}
}

func (w *world) forget(k *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, other := range w.links {
		if other == k {
			w.links = append(w.links[:i], w.links[i+1:]...)
			return
		}
	}
}

func (p *process) some(most time.Duration) time.Duration {
	return time.Duration(p.rng.Int64N(int64(most) + 1))
}

// ttl is w.ttl as this process's clock measures it.
func (p *process) ttl() time.Duration { return scale(p.w.ttl, 1/p.link.rate) }

// work takes a key, holds it for a while, and lets it go.
func (p *process) work() {
	w := p.w
	key := w.keys[p.rng.IntN(len(w.keys))]
	ctx, cancel := context.WithTimeout(context.Background(), w.ttl/10+p.some(2*w.ttl))
	defer cancel()
	asked := time.Now()
	var lease lock.Lease
	var err error
	if p.rng.IntN(3) == 0 {
		lease, err = p.l.TryAcquire(ctx, key, p.ttl())
	} else {
		lease, err = lock.Acquire(ctx, p.l, key, p.ttl(), &lock.AcquireOptions{Delay: w.ttl / 50})
	}
	if err != nil {
		time.Sleep(p.some(w.ttl / 4))
		return
	}
	s := w.run.Granted(key, p.name, asked, lease)
	for p.rng.IntN(4) > 0 {
		time.Sleep(p.some(w.ttl / 3))
		w.run.Write(s, lease)
		ctx, cancel := context.WithTimeout(context.Background(), w.ttl/50+p.some(w.ttl/2))
		ttl := p.ttl()
		if p.rng.IntN(4) == 0 { // also a shorter one than before
			ttl = ttl/4 + p.some(ttl/2)
		}
		err := lease.Extend(ctx, ttl)
		cancel()
		if w.run.Extended(s, lease, err); err != nil && errors.Is(err, lock.ErrLost) {
			break
		}
	}
	switch p.rng.IntN(6) {
	case 0: // forgotten: it ends by itself
		time.Sleep(p.some(w.ttl / 2))
		return
	case 1:
		w.run.Concluded(s, "released later")
		_ = lock.ReleaseAfter(context.Background(), lease, p.some(p.ttl()))
	default:
		w.run.Concluded(s, "released")
		if err := lease.Release(context.Background()); err != nil && p.rng.IntN(2) == 0 {
			_ = lease.Release(context.Background())
		}
	}
	w.run.Write(s, lease) // too late, perhaps: the resource refuses it
}
