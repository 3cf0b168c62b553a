package redlock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

// link keeps the connection on which one node's news come.
type link struct {
	d    *desk
	node *node.Node
	i    int
	kick chan struct{} // what is watched has changed

	err error // why news don't flow; nil also before the first try. The desk's mu guards it.
}

const (
	// A PING goes out each heartbeat, and a connection that does not answer in time is
	// dead: news that were lost unnoticed are missed for 1.4s at most. It takes the
	// place of the client's own PING, which it sends after a second without answers.
	heartbeat   = 900 * time.Millisecond
	beatTimeout = 500 * time.Millisecond
	// Pauses between attempts to connect, from and to.
	minReconnect = 50 * time.Millisecond
	maxReconnect = 400 * time.Millisecond
	// The pause where the server refuses to tell.
	forbidden = 30 * time.Second
	// spareNames is how many names beyond twice those that are watched a node may report:
	// each costs it time on every write.
	spareNames = 64
	// linger is for how long a key is heard of after nobody waits for it: the next one
	// often follows soon.
	linger = 2 * time.Second
)

// startLinks has a link for each node. mu is held.
func (d *desk) startLinks() {
	if d.links == nil && d.l.begin(len(d.l.nodes)) == nil {
		for i, n := range d.l.nodes {
			k := &link{d: d, node: n, i: i, kick: make(chan struct{}, 1)}
			d.links = append(d.links, k)
			go k.run()
		}
	}
	for _, k := range d.links {
		select {
		case k.kick <- struct{}{}:
		default:
		}
	}
}

// run connects while somebody watches, until the locker closes.
func (k *link) run() {
	defer k.d.l.wg.Done()
	pause := minReconnect
	for {
		for k.d.quiet() {
			select {
			case <-k.kick:
			case <-k.d.l.done:
				return
			}
		}
		flowed, err := k.listen()
		if flowed {
			pause = minReconnect
		}
		if err == nil {
			continue
		}
		if nodeerr.Refusal(err) != nil || errors.Is(err, errNoTracking) {
			pause = forbidden
		}
		timer := time.NewTimer(pause)
		pause = min(2*pause, maxReconnect)
		select {
		case <-timer.C:
		case <-k.d.l.done:
			timer.Stop()
			return
		}
	}
}

var errNoTracking = errors.New("it does not tell of keys")

// listen connects, and keeps what the node tells of in step with what is watched.
// It returns nil when nobody has watched for a while. flowed: it was of use.
func (k *link) listen() (flowed bool, err error) {
	defer func() { k.d.down(k, err) }()
	client, err := k.node.Conn.Client()
	if err != nil {
		return false, err
	}
	if client.Mode() == rueidis.ClientModeCluster {
		return false, fmt.Errorf("%w: a Redis Cluster has no one connection for that", errNoTracking)
	}
	if k.node.Conn.RESP2Only() {
		return false, fmt.Errorf("%w: it speaks RESP2 only", errNoTracking)
	}
	replaced := k.node.Conn.Replaced()
	conn, _ := client.Dedicate()
	defer k.end(conn)
	conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(m rueidis.PubSubMessage) { k.d.called(k.i, m.Message) }})
	closed := conn.SetOnInvalidations(func(names []rueidis.RedisMessage) { k.d.heard(k.i, names) })
	t := tracker{conn: conn}
	if err := t.start(k.d.l.opts.NodeTimeout, WakePrefix+k.d.l.id); err != nil {
		return false, err
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		names, version, settled := k.d.wanted()
		gap, err := t.follow(names, settled)
		if err != nil {
			return flowed, err
		}
		if len(names) == 0 && settled {
			return flowed, nil
		}
		k.d.up(k, version, gap, t.callsOnly)
		flowed = true
		select {
		case <-k.kick:
		case <-beat.C:
			if err := t.ping(); err != nil {
				return flowed, err
			}
		case <-replaced: // the name may have moved: listen where it leads now
			return flowed, nil
		case err := <-closed:
			return flowed, cmpErr(err, errors.New("connection closed"))
		case <-k.d.l.done:
			return flowed, lock.ErrClosed
		}
	}
}

// end closes a connection. The client waits for what is unanswered on it, on a dead
// one as long as its ConnWriteTimeout: nobody else needs to.
func (k *link) end(conn rueidis.DedicatedClient) {
	if k.d.l.begin(1) != nil {
		conn.Close()
		return
	}
	go func() {
		defer k.d.l.wg.Done()
		conn.Close()
	}()
}

func cmpErr(err, other error) error {
	if err == nil {
		return other
	}
	return nodeerr.Shown(err)
}

// tracker is what one connection was told to tell of.
type tracker struct {
	conn rueidis.DedicatedClient
	have []string // prefixes, none of which begins another: Redis refuses that

	callsOnly bool // the server tells of no keys, and so only when it is our turn
}

// start asks for the protocol that has messages besides replies, listens on the
// channel where this process is called, and for now wants no other news: a caller's
// connection can come with tracking in another mode. One of the two kinds of news
// will do, where the server refuses the other.
func (t *tracker) start(timeout time.Duration, channel string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	hello, err := t.conn.Do(ctx, t.conn.B().Arbitrary("HELLO").Build()).AsMap()
	if err != nil {
		return nodeerr.Shown(err)
	}
	proto := hello["proto"]
	if n, err := proto.AsInt64(); err != nil || n < 3 {
		return fmt.Errorf("%w: the connection does not speak RESP3", errNoTracking)
	}
	deaf := t.conn.Do(ctx, t.conn.B().Subscribe().Channel(channel).Build()).Error()
	if nodeerr.Broken(deaf) {
		return nodeerr.Shown(deaf)
	}
	err = t.do(trackingOff)
	if !nodeerr.Broken(err) && deaf == nil {
		t.callsOnly, err = err != nil, nil
	}
	return err
}

// follow makes the node tell of these names, and of no others once settled. gap:
// news may have been missed meanwhile.
func (t *tracker) follow(names []string, settled bool) (gap bool, err error) {
	if t.callsOnly {
		return false, nil
	}
	missing := shortest(slices.DeleteFunc(slices.Clone(names), func(name string) bool { return begins(t.have, name) }))
	clash := slices.ContainsFunc(t.have, func(have string) bool { return begins(missing, have) })
	most := len(shortest(names))
	if !settled {
		most = 2*most + spareNames
	}
	if clash || len(t.have)+len(missing) > most && len(t.have) > 0 {
		// There is no way to take back one prefix, nor to replace it by a shorter one.
		had := len(t.have) > 0
		t.have = nil
		if err := t.do(trackingOff); err != nil {
			return false, err
		}
		_, err := t.follow(names, false)
		return had, err
	}
	if len(missing) == 0 {
		return false, nil
	}
	args := trackingOn
	for _, name := range missing {
		args = append(args, "PREFIX", name)
	}
	if err := t.do(args); err != nil {
		return false, err
	}
	t.have = append(t.have, missing...)
	return false, nil
}

var (
	trackingOff = []string{"CLIENT", "TRACKING", "OFF"}
	trackingOn  = []string{"CLIENT", "TRACKING", "ON", "BCAST"}[:4:4]
)

func (t *tracker) ping() error { return t.do([]string{"PING"}) }

func (t *tracker) do(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), beatTimeout)
	defer cancel()
	return nodeerr.Shown(t.conn.Do(ctx, t.conn.B().Arbitrary(args...).Build()).Error())
}

// begins reports whether one of the prefixes begins name.
func begins(prefixes []string, name string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// shortest leaves out names that another one begins.
func shortest(names []string) []string {
	slices.Sort(names)
	var out []string
	for _, name := range names {
		if len(out) == 0 || !strings.HasPrefix(name, out[len(out)-1]) {
			out = append(out, name)
		}
	}
	return out
}

// quiet: nobody watches.
func (d *desk) quiet() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.watches) == 0
}

// wanted is what the nodes shall tell of. settled: nobody has stopped lately.
func (d *desk) wanted() (names []string, version int, settled bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.watches {
		names = append(names, name)
	}
	for name := range d.fences {
		names = append(names, name)
	}
	return names, d.version, time.Since(d.removed) > linger
}

// up: the node tells of everything that was watched at this version.
func (d *desk) up(k *link, version int, gap, deaf bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k.err = nil
	changed := false
	for _, w := range d.watches {
		v := &w.views[k.i]
		if w.version > version || v.live && !gap {
			continue
		}
		v.live, v.deaf = true, deaf
		changed = true
		if v.lost || gap { // what happened meanwhile?
			v.lost = false
			d.wake(w)
		}
		if v.missed { // it was out of reach when the wait began
			v.missed = false
			d.standAgain(w)
		}
	}
	if changed {
		d.broadcast()
	}
}

// down: the node tells nothing. err is nil if nobody asked it to.
func (d *desk) down(k *link, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && k.err == nil {
		d.l.journal.Add(slog.LevelDebug, "no wake-ups from a redis node", "node", k.node.Name, "err", err)
	}
	k.err = err
	for _, w := range d.watches {
		if v := &w.views[k.i]; v.live {
			*v = view{lost: true, news: v.news + 1, place: v.place, rank: -1}
			d.wake(w)
		}
	}
	d.broadcast()
}

// broadcast tells who waits in flowing. mu is held.
func (d *desk) broadcast() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// flow counts the nodes whose news of w's key flow, and those that may follow.
func (d *desk) flow(w *watch) (live, open int, changed <-chan struct{}, why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	why = errNoNews
	for i, k := range d.links {
		switch {
		case w.views[i].live:
			live++
		case k.err == nil:
			open++
		default:
			why = fmt.Errorf("node %s: %w", k.node.Name, k.err)
		}
	}
	return live, open, d.changed, why
}
