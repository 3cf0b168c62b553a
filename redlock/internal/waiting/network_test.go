package waiting

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// network is some waiters and nodes on virtual time, with messages that are late, lost and
// doubled. The nodes do what the scripts do, with counts and a queue, and without restarts:
// those are the model's and the simulation's.
type network struct {
	t    *testing.T
	r    *rand.Rand
	w    networkFaults
	now  time.Duration
	h    events
	seq  int
	n    []*server
	c    []*client
	held *client
	tok  uint64
	last time.Duration // a lease began
	sent int           // requests
	got  int           // leases
	stop bool          // nobody begins any more
}

type networkFaults struct {
	clients, nodes int
	replies        float64 // share of requests whose answer is lost; of these half arrive, late
	pushes         float64 // share of pushes that are lost; as many come twice
	silent         bool    // one node never answers
	refuses        bool    // one node may not vote
	foreign        bool    // a lease stands on two of the nodes for a while, and is not released
	quits          float64 // share of waits that give up
	try            bool    // ordinary attempts, too
	lan            time.Duration
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (h events) Len() int { return len(h) }

func (h events) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}

func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *events) Push(x any) { *h = append(*h, x.(event)) }

func (h *events) Pop() any { o := *h; x := o[len(o)-1]; *h = o[:len(o)-1]; return x }

func (w *network) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.h, event{w.now + d, w.seq, do})
}

func (w *network) latency() time.Duration {
	d := w.w.lan/2 + time.Duration(w.r.Int64N(int64(w.w.lan)))
	if w.r.IntN(200) == 0 {
		d += time.Duration(w.r.Int64N(int64(20 * w.w.lan)))
	}
	return d
}

type server struct {
	i       int
	lock    string
	until   time.Duration
	count   uint64
	grant   Grant  // of
	of      string // that value
	who     string // by that waiter
	queue   []request
	endorse map[string]uint64
}

type request struct {
	c               *client
	id, value       string
	position        int64
	stamp           time.Duration
	fresh, claimFor time.Duration
}

func (s *server) look(now time.Duration) {
	if s.lock != "" && now >= s.until {
		s.lock = ""
	}
}

func (s *server) at(id string) int {
	return slices.IndexFunc(s.queue, func(r request) bool { return r.id == id })
}

func (s *server) leave(id string) {
	s.queue = slices.DeleteFunc(s.queue, func(r request) bool { return r.id == id })
}

func (w *network) give(s *server, r request, silent bool) {
	s.leave(r.id)
	s.count++
	s.lock, s.until, s.of, s.who = r.value, w.now+r.claimFor, r.value, r.id
	s.grant = Grant{Count: s.count, Stamp: r.stamp, Position: r.position}
	s.endorse[r.value] = s.count
	if silent {
		return
	}
	g := s.grant
	times := 1
	if w.r.Float64() < w.w.pushes {
		times = 2 * w.r.IntN(2)
	}
	for range times {
		w.after(w.latency(), func() { r.c.wake(r.id, func(m *Machine) { m.Pushed(r.c.clock(), s.i, g) }) })
	}
}

func (w *network) passOn(s *server, me string) {
	for len(s.queue) > 0 && !(w.w.refuses && s.i == 0) {
		r := s.queue[0]
		if s.leave(r.id); r.id == me || w.now <= r.fresh {
			w.give(s, r, r.id == me)
			return
		}
	}
}

func (w *network) run(s *server, c *client, id, value, instead string, a Action) Answer {
	s.look(w.now)
	switch a.Kind {
	case Leave:
		s.leave(id)
		if s.lock == value {
			s.lock = ""
		}
		if s.lock == "" {
			w.passOn(s, "")
		}
		return Answer{Result: Left}
	case Confirm:
		if s.lock != value || w.w.refuses && s.i == 0 {
			return Answer{Result: Denied}
		}
		s.count = max(s.count, a.Token)
		s.endorse[value] = s.count
		s.until = max(s.until, w.now+ttl)
		return Answer{Result: Confirmed, Grant: Grant{Count: s.count}}
	}
	if s.lock == value {
		g := s.grant
		if s.of != value {
			g.Stamp = 0
		}
		return Answer{Result: Granted, Grant: Grant{s.count, g.Stamp, g.Position}}
	}
	if instead != "" && s.lock == instead {
		s.lock = ""
		if k := s.at(a.To); a.To != "" && a.To != id && k >= 0 && w.now <= s.queue[k].fresh {
			w.give(s, s.queue[k], false)
		}
	}
	r := request{c, id, value, (w.now - a.Stamp).Microseconds(), a.Stamp, w.now + claim*13/10, claim}
	late := false
	if k := s.at(id); k >= 0 {
		late = a.Stamp < s.queue[k].stamp
		r.position = min(r.position, s.queue[k].position)
	}
	if !late {
		s.leave(id)
		k := slices.IndexFunc(s.queue, func(o request) bool { return o.position > r.position })
		if k < 0 {
			k = len(s.queue)
		}
		s.queue = slices.Insert(s.queue, k, r)
	}
	if s.lock == "" && a.Take {
		me := id
		if late {
			me = ""
		}
		if w.passOn(s, me); s.lock == value {
			return Answer{Result: Granted, Grant: s.grant}
		}
	}
	h := Holder{Value: s.lock, Left: s.until - w.now}
	if s.lock != "" && s.of == s.lock {
		h.Waiter, h.Position = s.who, s.grant.Position
	}
	for k := 1; k <= c.attempts; k++ {
		if s.lock == c.value(id, k) {
			h.Attempt = k
		}
	}
	return Answer{Result: Standing, Rank: max(s.at(id), 0), Holder: h, NoVote: w.w.refuses && s.i == 0}
}

func simulate(t *testing.T, seed uint64, we networkFaults, lasting time.Duration) *network {
	w := &network{t: t, r: rand.New(rand.NewPCG(seed, 1)), w: we}
	for i := range we.nodes {
		w.n = append(w.n, &server{i: i, endorse: map[string]uint64{}})
	}
	if we.foreign {
		for _, s := range w.n[:we.nodes/2+1] {
			s.lock, s.until = "foreign/F", lasting/2
		}
		w.last = lasting / 2
	}
	if we.silent {
		w.n[we.nodes-1].lock, w.n[we.nodes-1].until = "silent", never
	}
	for i := range we.clients {
		c := &client{w: w, name: string(rune('a' + i)), old: map[string]*Machine{}, starts: map[string]time.Duration{}}
		w.c = append(w.c, c)
		w.after(time.Duration(w.r.Int64N(int64(ms))), c.begin)
	}
	if we.try {
		w.after(0, func() { w.try(0) })
	}
	for len(w.h) > 0 && w.now < lasting {
		e := heap.Pop(&w.h).(event)
		w.now = e.at
		if w.now-w.last > 5*time.Second {
			t.Fatalf("seed %d, %+v: nobody holds from %v on", seed, we, w.last)
		}
		e.do()
	}
	return w
}

var networks = map[string]networkFaults{
	"calm":              {clients: 3, nodes: 3},
	"sixteen":           {clients: 16, nodes: 3},
	"five nodes":        {clients: 5, nodes: 5},
	"one node":          {clients: 3, nodes: 1},
	"far":               {clients: 4, nodes: 3, lan: 60 * ms},
	"pushes lost":       {clients: 3, nodes: 3, pushes: 0.5},
	"replies lost":      {clients: 3, nodes: 3, replies: 0.05, pushes: 0.05},
	"a silent node":     {clients: 4, nodes: 3, silent: true},
	"a node sits out":   {clients: 4, nodes: 3, refuses: true},
	"on two of three":   {clients: 4, nodes: 3, foreign: true},
	"some give up":      {clients: 5, nodes: 3, quits: 0.5, replies: 0.02},
	"ordinary attempts": {clients: 3, nodes: 3, try: true},
	"everything":        {clients: 6, nodes: 5, pushes: 0.1, replies: 0.03, quits: 0.2, silent: true, try: true},
}

func TestWaitersOnANetwork(t *testing.T) {
	for name, we := range networks {
		t.Run(name, func(t *testing.T) {
			if we.lan == 0 {
				we.lan = 120 * time.Microsecond
			}
			runs := 8
			if testing.Short() {
				runs = 2
			}
			sent, got := 0, 0
			for seed := range runs {
				w := simulate(t, uint64(seed), we, 6*time.Second)
				sent, got = sent+w.sent, got+w.got
				w.nothingLeft()
			}
			t.Logf("%d leases, %.2f requests each", got, float64(sent)/float64(max(got, 1)))
			if got < runs*5 {
				t.Errorf("%d leases in %d runs", got, runs)
			}
			if sent > got*400 {
				t.Errorf("%d requests for %d leases", sent, got)
			}
		})
	}
}

// nothingLeft lets all give up, and looks at what the nodes have then.
func (w *network) nothingLeft() {
	w.stop = true
	for _, c := range w.c {
		if c.id != "" {
			c.end()
		}
	}
	within := 200 * ms // less than a claim: nothing has expired
	if w.w.lan > ms {
		within = 4 * time.Second
	}
	if w.w.replies > 0 { // what arrives after the last try ends by itself
		within = ttl + time.Second
	}
	end := w.now + within
	for len(w.h) > 0 && w.h[0].at < end {
		e := heap.Pop(&w.h).(event)
		w.now = e.at
		e.do()
	}
	w.now = end
	for _, s := range w.n {
		if s.look(w.now); s.lock != "" && s.lock != "foreign/F" && s.lock != "silent" {
			w.t.Errorf("%v: node %d is left with %s", w.now, s.i, s.lock)
		}
		for _, r := range s.queue {
			if w.now <= r.fresh {
				w.t.Errorf("%v: node %d is left with %s in its queue", w.now, s.i, r.id)
			}
		}
	}
	for _, c := range w.c {
		for id, m := range c.old {
			if !w.w.silent && !m.Done() {
				w.t.Errorf("%s is not done", id)
			}
		}
	}
}

func FuzzWaitersOnANetwork(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(3), uint8(10), uint8(5), uint8(0))
	f.Add(uint64(2), uint8(5), uint8(5), uint8(50), uint8(10), uint8(63))
	f.Fuzz(func(t *testing.T, seed uint64, clients, nodes, pushes, replies, flags uint8) {
		we := networkFaults{
			clients: 1 + int(clients%8), nodes: 1 + int(nodes%6), lan: 120 * time.Microsecond,
			pushes: float64(pushes%100) / 100, replies: float64(replies%10) / 100,
		}
		if flags&1 != 0 && we.nodes > 2 {
			we.silent = true
		} else if flags&2 != 0 && we.nodes > 2 {
			we.refuses = true
		}
		we.foreign, we.try = flags&4 != 0, flags&8 != 0
		if flags&16 != 0 {
			we.quits = 0.3
		}
		if flags&32 != 0 {
			we.lan = 10 * ms
		}
		simulate(t, seed, we, 4*time.Second)
	})
}
