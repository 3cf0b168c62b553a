// Package moves runs a fleet that changes stores, by lock.Both, in rolling deployments and
// on fake time, under random faults and crashes, and checks that no two hold a key at once
// and that tokens rise through all of it. It must run in a testing/synctest bubble.
//
// Simulated: the deployments, the programs, the network of the record store and the resource
// that is written to. Not simulated: lock.Both, the engine of backends/record and
// backends/memory, which are the two stores in either order.
package moves

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/simtest"
	"github.com/tonsurance/lockkeeper/lock"
)

// Profile is a set of assumptions, and what is asserted under them.
type Profile struct {
	Name      string
	Exclusive bool // at most one lease is valid at a time; tokens are asserted in every profile
	Forced    bool // an operator breaks holds in one store or the other
	Hasty     bool // the next deployment begins before the last one has ended, which is a mistake
}

// Profiles are those that a run can have. The last one is not the procedure: it shows what
// becomes of a fleet that skips a step.
var Profiles = []Profile{
	{Name: "orderly", Exclusive: true},
	{Name: "forced", Forced: true},
	{Name: "hasty", Exclusive: true, Hasty: true},
}

// Config is one run.
type Config struct {
	Seed    uint64
	Profile *Profile // nil: orderly or forced, by the seed
}

// side is what a program is deployed with.
type side int

const (
	oldAlone side = iota
	bothStores
	nextAlone
)

func (s side) String() string { return [...]string{"old", "both", "next"}[s] }

// paths are the ways that a fleet takes, back ones included.
var paths = [][]side{
	{oldAlone, bothStores, nextAlone},
	{oldAlone, bothStores, oldAlone, bothStores, nextAlone},
	{oldAlone, bothStores, nextAlone, bothStores, nextAlone},
	{oldAlone, bothStores, nextAlone, bothStores, oldAlone},
}

const key = "k"

// world is one run.
type world struct {
	profile Profile
	ttl     time.Duration
	stores  [2]*store // old and next
	run     *simtest.Run

	late sync.WaitGroup // requests that nobody waits for any more

	mu       sync.Mutex // guards all below
	rng      *rand.Rand
	deployed []side // of each program's next life
	running  []side // of each program's present one
	alive    []*process
	over     bool
}

// store is one of the two: memory, or the record engine.
type store struct {
	memory *memory.Locker
	record *recordtest.Memory
	ages   bool
}

func (w *world) newStore(kind int) *store {
	if kind == 0 {
		s := &store{memory: memory.New()}
		return s
	}
	return &store{record: recordtest.NewMemory(), ages: w.rng.IntN(2) == 0}
}

// some is a time of up to most.
func (w *world) some(most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.rng.Int64N(int64(most) + 1))
}

func (w *world) draw(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

// Run simulates one seed.
func Run(cfg Config) *simtest.Run {
	w := &world{rng: rand.New(rand.NewPCG(cfg.Seed, 1))}
	w.profile = Profiles[w.rng.IntN(2)]
	if cfg.Profile != nil {
		w.profile = *cfg.Profile
	}
	w.ttl = time.Duration(1+w.rng.IntN(60)) * time.Second
	kinds := w.rng.IntN(4)
	w.stores = [2]*store{w.newStore(kinds & 1), w.newStore(kinds >> 1)}
	w.run = simtest.NewRun(cfg.Seed, w.profile.Name, w.profile.Exclusive,
		"deployments", "grants", "grants to old", "grants to both", "grants to next", "extends", "losses", "crashes", "overlaps")
	n := 3 + w.rng.IntN(4)
	w.deployed, w.running, w.alive = make([]side, n), make([]side, n), make([]*process, n)
	path := paths[w.rng.IntN(len(paths))]
	w.unevenCounts()

	var programs, faults sync.WaitGroup
	for i := range n {
		programs.Go(func() { w.program(i) })
	}
	faults.Go(w.faults)
	for _, to := range path[1:] {
		time.Sleep(w.some(20 * w.ttl))
		w.deploy(to)
	}
	time.Sleep(w.some(20 * w.ttl))
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	programs.Wait()
	faults.Wait()
	w.recovers(path[len(path)-1])
	w.late.Wait()
	w.run.End()
	return w.run
}

// unevenCounts has the stores begin with counts that differ, either one ahead.
func (w *world) unevenCounts() {
	for _, s := range w.stores {
		l, end := w.open(s, nil)
		lease, err := l.TryAcquire(context.Background(), key, w.ttl)
		if err == nil { // also above every clock, so that a count is what is counted on
			ahead := [...]uint64{0, lease.Token() + 1_000_000, uint64(time.Now().AddDate(1, 0, 0).UnixMicro())}
			err = lock.RaiseToken(context.Background(), lease, ahead[w.rng.IntN(len(ahead))])
		}
		if err == nil {
			err = lease.Release(context.Background())
		}
		end()
		if err != nil {
			panic(err) // nothing disturbs it yet
		}
	}
}

// deploy restarts every program with to, one after another and in any order; a hasty one
// leaves one behind.
func (w *world) deploy(to side) {
	w.mu.Lock()
	order := w.rng.Perm(len(w.alive))
	w.mu.Unlock()
	w.run.Log("deployment of %v", to)
	w.run.Count("deployments", 1)
	if w.profile.Hasty {
		order = order[1:]
	}
	for _, i := range order {
		time.Sleep(w.some(3 * w.ttl))
		w.mu.Lock()
		w.deployed[i] = to
		if p := w.alive[i]; p != nil {
			p.stop()
		}
		w.mu.Unlock()
		for { // until it has ended and is back with it
			w.mu.Lock()
			done := w.alive[i] != nil && w.running[i] == to
			w.mu.Unlock()
			if done {
				break
			}
			time.Sleep(w.ttl / 100)
		}
	}
}

// process is one life of a program.
type process struct {
	w      *world
	side   side
	locker lock.Locker
	net    *network
	mem    []*memory.Locker // its clients of stores in memory
	ctx    context.Context  // ends when it is to stop
	stop   context.CancelFunc
	end    func()
}

func (w *world) start(s side) *process {
	p := &process{w: w, side: s, net: w.network()}
	p.ctx, p.stop = context.WithCancel(context.Background())
	old, endOld := w.open(w.stores[0], p)
	next, endNext := w.open(w.stores[1], p)
	p.end = func() { endOld(); endNext(); p.stop() }
	p.locker = [...]lock.Locker{old, lock.Both(old, next), next}[s]
	return p
}

// open makes a client of s, and what ends it. Without a process, nothing goes wrong with it.
func (w *world) open(s *store, p *process) (lock.Locker, func()) {
	if s.memory != nil {
		l := s.memory.Client("program")
		if p != nil {
			p.mem = append(p.mem, l)
		}
		return l, func() { _ = l.Close() }
	}
	own := s.record.Client(s.ages, false)
	over := record.Store(own)
	if p != nil {
		over = lossy{own, p.net}
	}
	l, err := record.New(over, &record.Options{Owner: "program", HeadStart: -1, Poll: w.ttl / 20, Timeout: w.ttl / 5})
	if err != nil {
		panic(err)
	}
	return l, func() { _ = l.Close() }
}

// program starts, works, ends in good order or crashes, and starts again.
func (w *world) program(i int) {
	for {
		w.mu.Lock()
		if w.over {
			w.mu.Unlock()
			return
		}
		s := w.deployed[i]
		w.mu.Unlock()
		p := w.start(s)
		w.mu.Lock()
		w.alive[i], w.running[i] = p, s
		w.mu.Unlock()
		life := time.Now().Add(w.some(20 * w.ttl))
		for p.ctx.Err() == nil && time.Now().Before(life) && !w.isOver() {
			p.work()
		}
		w.mu.Lock()
		w.alive[i] = nil
		w.mu.Unlock()
		p.end()
		time.Sleep(w.some(w.ttl / 10))
	}
}

func (w *world) isOver() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

// work takes the key, holds it for a while, and lets it go; or dies with it.
func (p *process) work() {
	w := p.w
	ctx, cancel := context.WithTimeout(p.ctx, w.ttl/10+w.some(4*w.ttl))
	defer cancel()
	asked := time.Now()
	var lease lock.Lease
	var err error
	if w.draw(3) == 0 {
		lease, err = p.locker.TryAcquire(ctx, key, w.ttl)
	} else {
		lease, err = lock.Acquire(ctx, p.locker, key, w.ttl, &lock.AcquireOptions{Delay: w.ttl / 50})
	}
	if err != nil {
		time.Sleep(w.some(w.ttl / 4))
		return
	}
	s := w.run.Granted(key, p.side.String(), asked, lease)
	w.run.Count("grants to "+p.side.String(), 1)
	for w.draw(4) > 0 && p.ctx.Err() == nil {
		time.Sleep(w.some(w.ttl / 3))
		w.run.Write(s, lease)
		ctx, cancel := context.WithTimeout(context.Background(), w.ttl/50+w.some(w.ttl/2))
		err := lease.Extend(ctx, w.ttl)
		cancel()
		if w.run.Extended(s, lease, err); errors.Is(err, lock.ErrLost) {
			break
		}
	}
	switch w.draw(6) {
	case 0: // it dies: nothing of it reaches a store any more
		p.crash()
		w.run.Concluded(s, "crashed")
		p.stop()
		return
	case 1: // it hangs, and wakes with an old token
		time.Sleep(w.some(3 * w.ttl))
		w.run.Write(s, lease)
	case 2:
		w.run.Concluded(s, "released later")
		_ = lock.ReleaseAfter(context.Background(), lease, w.some(w.ttl))
		return
	}
	w.run.Concluded(s, "released")
	for range 2 {
		if err := lease.Release(context.Background()); err == nil || errors.Is(err, lock.ErrLost) {
			break
		}
	}
	w.run.Write(s, lease) // too late, perhaps: the resource refuses it
}

func (p *process) crash() {
	p.w.run.Count("crashes", 1)
	p.net.set(func(n *network) { n.cut = true })
	for _, l := range p.mem {
		l.FailNext(-1, nil)
	}
}
