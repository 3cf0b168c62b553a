package redlock

import (
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
	"github.com/tonsurance/lockkeeper/redlock/internal/waiting"
)

// pushes are the notifications of grants, for all waits of this process: one channel, and
// one connection to each node.
type pushes struct {
	channel string
	subs    []*waiting.Subscription

	mu    sync.Mutex           // guards all below; nothing is taken while it is held
	waits map[string]*standing // by id: those that wait, and those that ended lately
	many  int                  // how many of them wait
	// ended are those that wait no more, in the order in which they are forgotten. Until
	// then a late grant of theirs is released at once; after it, the claim has ended that. One
	// can be in it twice: since it has its lease, and since nothing of it is wanted.
	ended []endedWait
}

type endedWait struct {
	s     *standing
	until time.Time
}

func newPushes() *pushes {
	return &pushes{channel: script.WakePrefix + rand.Text(), waits: map[string]*standing{}}
}

// subscribe prepares the connection to n, which is node i.
func (p *pushes) subscribe(l *Locker, n *node.Node, i int) {
	p.subs = append(p.subs, &waiting.Subscription{
		Channel: p.channel, Timeout: l.opts.NodeTimeout, Done: l.done,
		Client:   func() (rueidis.Client, error) { return n.Conn.Client() },
		Replaced: func() <-chan struct{} { return n.Conn.Replaced() },
		Push:     func(message string) { p.push(i, message) },
		Changed: func(live bool, err error) {
			if err != nil && !l.ending() {
				n.Log(slog.LevelDebug, "no notifications of grants from a redis node", "err", err)
			}
			for _, s := range p.all() {
				s.subscribed(i, live)
			}
		},
		Wanted: func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.many > 0
		},
		Begin: func() bool { return l.begin(1) == nil },
		End:   l.wg.Done,
	})
}

// start makes sure that all connections are there, or in the making.
func (p *pushes) start() {
	for _, sub := range p.subs {
		sub.Start()
	}
}

// live reports whether notifications of node i arrive.
func (p *pushes) live(i int) bool { return p.subs[i].Live() }

// channelOf is the channel on which notifications of node i arrive; "" if they don't.
func (p *pushes) channelOf(i int) string {
	if p.live(i) {
		return p.channel
	}
	return ""
}

// add notes a wait, and gives the nodes whose notifications arrive. One that changes
// afterwards is reported to it.
func (p *pushes) add(s *standing) (live []bool) {
	p.mu.Lock()
	p.forget()
	p.waits[s.id] = s
	p.many++
	p.mu.Unlock()
	live = make([]bool, len(p.subs))
	for i := range p.subs {
		live[i] = p.live(i)
	}
	return live
}

// doneWaiting notes that s has its lease, or has given up.
func (p *pushes) doneWaiting(s *standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !s.doneWaiting {
		s.doneWaiting = true
		p.many--
		p.forgetLater(s)
	}
}

// forgetLater keeps s for a while from now on. mu is held.
func (p *pushes) forgetLater(s *standing) {
	p.forget()
	p.waits[s.id] = s
	s.until = time.Now().Add(2*s.claim + 6*s.l.opts.NodeTimeout) // after its last try to leave a node
	p.ended = append(p.ended, endedWait{s, s.until})
}

// remove notes that nothing of s is wanted any more.
func (p *pushes) remove(s *standing) {
	p.doneWaiting(s)
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.unwanted {
		return
	}
	s.unwanted = true
	p.forgetLater(s)
}

// forget drops those that ended long ago. mu is held.
func (p *pushes) forget() {
	for len(p.ended) > 0 && time.Now().After(p.ended[0].until) {
		if e := p.ended[0]; e.s.until.Equal(e.until) { // else it was to be kept for longer since
			delete(p.waits, e.s.id)
		}
		p.ended[0] = endedWait{}
		p.ended = p.ended[1:]
	}
}

// push takes in a notification of node i.
func (p *pushes) push(i int, message string) {
	g, err := script.ParsePush(message)
	if err != nil {
		return // not from a script of ours
	}
	p.mu.Lock()
	s := p.waits[g.Waiter]
	p.mu.Unlock()
	if s != nil {
		s.pushed(i, g)
	}
}

// all are the waits that are not forgotten yet.
func (p *pushes) all() []*standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*standing, 0, len(p.waits))
	for _, s := range p.waits {
		all = append(all, s)
	}
	return all
}
