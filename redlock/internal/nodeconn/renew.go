package nodeconn

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

const (
	// MaxAge is about how long connections are used: a name, a balancer or a proxy can
	// lead to another server meanwhile, and nothing reports that where the old one
	// lives on. It is short, since for so long two processes can ask different servers
	// for one vote.
	MaxAge = time.Minute
	// closeLimit is several times what it takes to close a client.
	closeLimit = 5 * time.Second
	// Pauses between clients that replace one of a wrong server, from and to.
	minRenew, MaxRenew = 100 * time.Millisecond, 10 * time.Second
)

// jittered is d, a quarter more or less: many processes that began together don't
// connect together.
func jittered(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2) }

// generation is one client of a node, in the course of time. The next takes its place
// while requests are under way on it: it is closed when the last of them has ended.
type generation struct {
	rueidis.Client
	users   atomic.Int64  // how many use it, and one more until it is retired
	retired chan struct{} // closed when there is a newer one
}

// use counts a user in, unless it is closed.
func (g *generation) use() bool {
	for {
		n := g.users.Load()
		if n == 0 {
			return false
		}
		if g.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// current is a node's client as others see it: each request uses the generation that is
// present when it begins. Of rueidis.Client it has those methods that redlock uses.
type current struct {
	rueidis.Client // nil
	d              *dialer
}

func (c *current) generation() *generation {
	for {
		if g := c.d.gen.Load(); g.use() {
			return g
		} // else it was replaced since the Load
	}
}

func (c *current) B() rueidis.Builder       { return c.d.gen.Load().B() }
func (c *current) Mode() rueidis.ClientMode { return c.d.gen.Load().Mode() }
func (c *current) Close()                   { c.d.closeAll() }

func (c *current) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	g := c.generation()
	defer c.d.done(g)
	res := g.Do(ctx, cmd)
	c.d.replied(g, res.Error())
	return res
}

func (c *current) DoMulti(ctx context.Context, cmds ...rueidis.Completed) []rueidis.RedisResult {
	g := c.generation()
	defer c.d.done(g)
	all := g.DoMulti(ctx, cmds...)
	for _, res := range all {
		c.d.replied(g, res.Error())
	}
	return all
}

// Nodes are a Cluster's servers at this moment.
func (c *current) Nodes() map[string]rueidis.Client {
	g := c.d.gen.Load()
	nodes := g.Nodes()
	for addr, client := range nodes {
		if g.Mode() == rueidis.ClientModeCluster {
			nodes[addr] = &clusterServer{client, c, g, addr}
		} else {
			nodes[addr] = c // there is one
		}
	}
	return nodes
}

// clusterServer is one server of a Cluster. It outlives the generation that named it.
type clusterServer struct {
	rueidis.Client
	of   *current
	g    *generation
	addr string
}

func (m *clusterServer) use() (*generation, rueidis.Client) {
	if m.g.use() {
		return m.g, m.Client
	}
	g := m.of.generation()
	if client := g.Nodes()[m.addr]; client != nil {
		return g, client
	}
	return g, m.Client // the Cluster has no such server any more: this client is closed
}

func (m *clusterServer) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	g, client := m.use()
	defer m.of.d.done(g)
	return client.Do(ctx, cmd)
}

func (m *clusterServer) DoMulti(ctx context.Context, cmds ...rueidis.Completed) []rueidis.RedisResult {
	g, client := m.use()
	defer m.of.d.done(g)
	return client.DoMulti(ctx, cmds...)
}

func (c *current) Dedicate() (rueidis.DedicatedClient, func()) {
	g := c.generation()
	conn, cancel := g.Dedicate()
	d := &dedicated{DedicatedClient: conn, done: sync.OnceFunc(func() { c.d.done(g) })}
	return d, func() {
		cancel()
		d.done()
	}
}

// dedicated is a connection of its own, for which its generation stays open.
type dedicated struct {
	rueidis.DedicatedClient
	done func()
}

func (d *dedicated) Close() {
	d.DedicatedClient.Close()
	d.done()
}

// done counts a user out. Its caller is counted in the owner's group.
func (d *dialer) done(g *generation) {
	if g.users.Add(-1) == 0 {
		d.group.Go(func() { d.drop(g) })
	}
}

func (d *dialer) drop(g *generation) {
	g.shut()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = slices.DeleteFunc(d.all, func(other *generation) bool { return other == g })
}

// closeAll ends the requests that are under way, too.
func (d *dialer) closeAll() {
	d.mu.Lock()
	all := slices.Clone(d.all)
	d.mu.Unlock()
	var wg sync.WaitGroup
	for _, g := range all {
		wg.Go(g.shut)
	}
	wg.Wait()
}

// shut closes the client. It does not wait for ever, as rueidis 1.0.79 can if its own PING begins
// at that very moment.
func (g *generation) shut() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		g.Close()
	}()
	select {
	case <-closed:
	case <-time.After(closeLimit):
	}
}

// install makes client the node's, in place of the one before. mu is held, and the caller is
// counted in the owner's group.
func (d *dialer) install(client rueidis.Client) {
	g := &generation{Client: client, retired: make(chan struct{})}
	g.users.Store(1)
	d.all = append(d.all, g)
	old := d.gen.Swap(g)
	if old == nil {
		d.use(&current{d: d})
	} else {
		close(old.retired)
		d.done(old)
	}
	d.ageOut(g, jittered(MaxAge))
}

// ageOut has g replaced after a while. mu is held.
func (d *dialer) ageOut(g *generation, after time.Duration) {
	d.aging = time.AfterFunc(after, func() {
		if d.begin(1) != nil {
			return
		}
		defer d.group.Done()
		if !d.renew(g) { // the old one goes on
			d.mu.Lock()
			defer d.mu.Unlock()
			if !d.closed && d.gen.Load() == g {
				d.ageOut(g, jittered(MaxAge/6))
			}
		}
	})
}

// replied looks at what came of a request: some errors say that this connection leads
// to a wrong server, or one that is of no use. g is nil where it is not known. The caller
// is counted in the owner's group.
func (d *dialer) replied(g *generation, err error) {
	if err == nil || !nodeerr.LeadsAstray(err) {
		return
	}
	if g == nil {
		g = d.gen.Load()
	}
	d.mu.Lock()
	now := time.Now()
	due := !d.renewing && g != nil && g == d.gen.Load() && !now.Before(d.renewAt)
	if due {
		if d.pause *= 2; now.Sub(d.renewAt) > MaxAge || d.pause < minRenew {
			d.pause = minRenew
		}
		d.pause = min(d.pause, MaxRenew)
		d.renewAt = now.Add(jittered(d.pause))
	}
	d.mu.Unlock()
	if due {
		d.group.Go(func() { d.renew(g) })
	}
}

// renew makes a new client beside g, and puts it in g's place once its server has
// answered as a primary does. Nothing that is under way is lost. It reports whether that
// was done.
func (d *dialer) renew(g *generation) bool {
	d.mu.Lock()
	if d.closed || d.renewing || d.gen.Load() != g {
		d.mu.Unlock()
		return false
	}
	d.renewing = true
	d.mu.Unlock()
	client, err := rueidis.NewClient(d.option)
	for StillConnecting(err) {
		if client != nil {
			client.Close()
		}
		client, err = rueidis.NewClient(d.option)
	}
	d.mu.Lock()
	d.renewing = false
	good := err == nil && !d.closed
	if good && client.Mode() != rueidis.ClientModeCluster && d.greeter.said("role") == "replica" {
		good = false // no better than what we have: a name that leads to several servers, or a fail-over that is not over
	}
	if good {
		d.install(client)
	}
	d.mu.Unlock()
	if !good && client != nil {
		client.Close()
	}
	return good
}

// StillConnecting reports that err is of a connection that goes on being made in the
// background.
func StillConnecting(err error) bool {
	slow, ok := errors.AsType[*unconnected](err)
	return ok && slow.going
}
