package redlock

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeconn"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// Locker takes locks on a quorum of independent nodes. It is safe for concurrent
// use and implements every optional interface of package lock.
type Locker struct {
	lock.Waiters // one queue a key for those who wait in this process

	opts  settings
	nodes []*node.Node
	owned bool // the clients are ours to close

	// suspended starts a measurement of the time that this machine is suspended.
	suspended func() func() time.Duration

	timers     sync.Pool // of *time.Timer, stopped
	wakes      sync.Pool // of hold.wake
	extensions extensions

	journal   *node.Journal
	nodeOpts  *node.Options
	agreement *agreement // on the nodes, with other clients

	pushes *pushes      // the notifications of grants, for those who wait
	trip   atomic.Int64 // the last round trip to a quorum, a duration
	served atomic.Bool  // votes have decided: from then on what nodes refuse counts as an outage

	done   chan struct{} // closed by Close
	mu     sync.RWMutex  // guards closed, and that wg grows only before Close waits
	closed bool
	wg     sync.WaitGroup // every goroutine of this locker
}

// New makes a Locker of clients that the caller owns, one for each vote: a
// standalone server, a Sentinel-managed primary, or a whole Redis Cluster. It does
// no I/O. Give each client a ConnWriteTimeout of a few seconds, and one of a Cluster
// MaxMovedRedirections: they bound how long a request can stay with a node that hangs,
// or between servers that disagree.
//
// Where a client's connections lead is its own affair: those that Dial makes are
// replaced when they lead to a replica or another wrong server, and about every minute.
//
// A server that breaks Redis' protocol on purpose can make rueidis panic. The
// connections that [Dial] makes are guarded against that, those of the caller's
// clients are not.
func New(nodes []rueidis.Client, o *Options) (*Locker, error) {
	opts, err := o.withDefaults(len(nodes))
	if err != nil {
		return nil, err
	}
	l := newLocker(opts)
	for i, client := range nodes {
		if client == nil {
			return nil, fmt.Errorf("redlock: %w: node %d of %d is nil, want a rueidis.Client", lock.ErrInvalid, i+1, len(nodes))
		}
		for j := range i {
			if nodes[j] == client {
				return nil, fmt.Errorf("redlock: %w: nodes %d and %d are the same client, want an independent server for each vote", lock.ErrInvalid, j+1, i+1)
			}
		}
		l.addNode(clientName(client, i), nodeconn.Of(client, &l.wg))
	}
	return l, nil
}

func newLocker(opts settings) *Locker {
	l := &Locker{opts: opts, suspended: lock.Suspension, done: make(chan struct{})}
	l.pushes, l.agreement = newPushes(), newAgreement(l)
	l.journal = node.NewJournal(opts.Logger, &l.wg)
	l.nodeOpts = &node.Options{Timeout: opts.NodeTimeout, Least: opts.least, OnRequest: opts.OnRequest, Journal: l.journal, Group: &l.wg}
	return l
}

func (l *Locker) addNode(name string, conn *nodeconn.Conn) *node.Node {
	n := node.New(name, conn, l.nodeOpts)
	l.pushes.subscribe(l, n, len(l.nodes))
	l.nodes = append(l.nodes, n)
	return n
}

// clientName is an address of the node, or its number where none is known.
func clientName(c rueidis.Client, i int) string {
	name := ""
	for addr := range c.Nodes() {
		if name == "" || addr < name {
			name = addr
		}
	}
	if name == "" {
		return fmt.Sprint(i + 1)
	}
	return name
}

// keysOf names key's lock and counter, and refuses a key that can't have both.
func (l *Locker) keysOf(key string) (script.Keys, error) {
	k, oneSlot := script.NewKeys(l.opts.Prefix, key)
	switch {
	case strings.HasPrefix(k.Lock, FencePrefix), strings.HasPrefix(k.Lock, StandingPrefix), strings.HasPrefix(k.Lock, QueuePrefix), strings.HasPrefix(k.Lock, AgreedPrefix):
		return k, fmt.Errorf("%w: key %q would be %.64q in Redis, want no name that begins with %s, %s, %s or %s: fence counters, queues and what clients agree on do", lock.ErrInvalid, key, k.Lock, FencePrefix, StandingPrefix, QueuePrefix, AgreedPrefix)
	case !oneSlot && l.hasCluster():
		return k, fmt.Errorf("%w: key %q has a } without a hash tag {...} before it, so that a Redis Cluster can't keep its fence counter beside it", lock.ErrInvalid, key)
	}
	return k, nil
}

func (l *Locker) hasCluster() bool {
	for _, n := range l.nodes {
		if n.Conn.Cluster() {
			return true
		}
	}
	return false
}

// begin announces a call, or goroutines, unless the locker is closed. What begins
// within a call need not ask: Close waits for the call.
func (l *Locker) begin(goroutines int) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return lock.ErrClosed
	}
	l.wg.Add(goroutines)
	return nil
}

// Close ends the locker: calls after it fail with [lock.ErrClosed]. It does not
// release leases, which end at their expiry: release them before. It returns when
// every request under way, cleanups included, was answered or its connection has
// died. Connections that Dial made are closed for that, after a second (or the
// node timeout, if that is less) where a node is so slow.
func (l *Locker) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		l.wg.Wait()
		return nil
	}
	l.closed = true
	close(l.done)
	l.mu.Unlock()
	for _, s := range l.pushes.all() {
		s.closing()
	}
	defer l.extensions.stop()
	if !l.owned {
		l.wg.Wait()
		return nil
	}
	idle := make(chan struct{})
	go func() {
		l.wg.Wait()
		close(idle)
	}()
	grace := time.NewTimer(min(l.opts.NodeTimeout, closeGrace))
	defer grace.Stop()
	select {
	case <-idle:
	case <-grace.C:
	}
	l.closeNodes()
	<-idle
	l.closeNodes() // a client that was connecting puts its connection in after its Close
	return nil
}

// closeGrace is how long Close lets requests be answered before it cuts them off.
const closeGrace = time.Second
