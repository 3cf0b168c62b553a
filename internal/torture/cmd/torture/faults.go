package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/internal/torture/history"
)

// kind is a kind of fault.
type kind struct {
	name     string
	weight   int // how often it is chosen
	target   target
	shortest time.Duration
	longest  time.Duration // 0: it is done in an instant
	on       []keeping     // nodes that keep their data so; nil: all
	impair   history.Impair
	restarts bool // the node's process ends
	forgets  bool // a node loses data, and nothing reports that it did
	unsafe   bool // not among what a quorum survives, see limits
	do       func(*torture, planned, func()) (note string, err error)
}

// disables reports whether its target can't work meanwhile.
func (k *kind) disables() bool { return k.impair != history.Nothing && k.impair != history.OnePath }

const ms = time.Millisecond

// clientKinds are what every store must bear.
func clientKinds() []kind {
	return []kind{
		{name: "client: kill -9", weight: 7, target: aClient, shortest: 1 * ms, longest: 1500 * ms, impair: history.Process, do: killClient},
		{name: "client: SIGSTOP, SIGCONT", weight: 9, target: aClient, shortest: 20 * ms, longest: 4500 * ms, impair: history.Process, do: stopClient},
	}
}

// pathKinds are those of the network between clients and a server.
func pathKinds() []kind {
	return []kind{
		{name: "network: black hole", weight: 8, target: aPath, shortest: 50 * ms, longest: 4000 * ms, impair: history.OnePath, do: path(blackhole)},
		{name: "network: replies are lost", weight: 6, target: aPath, shortest: 50 * ms, longest: 3000 * ms, impair: history.OnePath, do: path(noReplies)},
		{name: "network: held back, then delivered", weight: 8, target: aPath, shortest: 50 * ms, longest: 4000 * ms, impair: history.OnePath, do: path(hold)},
		{name: "network: delay", weight: 10, target: aPath, shortest: 100 * ms, longest: 5000 * ms, impair: history.OnePath, do: path(delay)},
		{name: "network: reset", weight: 8, target: aPath, do: path(reset)},
		{name: "network: half-open connections", weight: 7, target: aPath, shortest: 30 * ms, longest: 60 * ms, impair: history.OnePath, do: path(blackhole)},
		{name: "network: node cut off from all", weight: 3, target: nodeNet, shortest: 100 * ms, longest: 3000 * ms, impair: history.AllPaths, do: path(hold)},
	}
}

// networkKinds are pathKinds where there are several servers.
func networkKinds() []kind {
	return append(pathKinds(), []kind{
		{name: "network: client cut off, requests and all", weight: 3, target: clientNet, shortest: 100 * ms, longest: 4000 * ms, impair: history.AllPaths, do: path(blackhole)},
		{name: "network: client cut off, delivered late", weight: 3, target: clientNet, shortest: 100 * ms, longest: 4000 * ms, impair: history.AllPaths, do: path(hold)},
		{name: "network: client receives no replies", weight: 2, target: clientNet, shortest: 100 * ms, longest: 3000 * ms, impair: history.AllPaths, do: path(noReplies)},
	}...)
}

// perform does a fault and records it. pause lasts as long as the fault shall.
func (t *torture) perform(f planned) error {
	unlock := t.lock(f)
	defer unlock()
	from := mono()
	var note string
	err := storetest.Caught(func() (err error) {
		note, err = f.kind.do(t, f, func() { t.sleep(f.length) })
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", f.kind.name, err)
	}
	t.ledger.fault(history.Fault{Kind: f.kind.name, Node: f.node, Client: f.client, Note: note, Impair: f.kind.impair,
		Span: history.Span{From: from, To: max(mono(), from+1)}})
	return nil
}

// lock takes the lanes of the processes that a fault hits, in a fixed order: what a
// plan keeps apart may meet if a restart was slow.
func (t *torture) lock(f planned) (unlock func()) {
	var held []interface{ Unlock() }
	for i, n := range t.nodes {
		if f.kind.target == aNode && i == f.node || f.kind.target == everyNode {
			n.lane.Lock()
			held = append(held, &n.lane)
		}
	}
	if f.kind.target == aClient {
		t.clients[f.client].lane.Lock()
		held = append(held, &t.clients[f.client].lane)
	}
	return func() {
		for _, l := range held {
			l.Unlock()
		}
	}
}

// restart kills a node, changes its data and starts it again.
func restart(change func(*torture, *node, planned) (string, error)) func(*torture, planned, func()) (string, error) {
	return func(t *torture, f planned, pause func()) (string, error) {
		n := t.nodes[f.node]
		n.Kill()
		note, err := change(t, n, f)
		if err != nil {
			return "", err
		}
		pause()
		return note, t.revive(n, f.node)
	}
}

// revive starts a killed node, and notes for how long it will not vote.
func (t *torture) revive(n *node, i int) error {
	if t.delayed && n.keeping != always {
		t.sleep(maxTTL)
	}
	var err error
	for range 3 { // another program may have taken its port meanwhile, for a moment
		if err = storetest.Caught(func() error { n.restart(); return nil }); err == nil {
			break
		}
		t.sleep(time.Second)
	}
	if err != nil {
		return err
	}
	if t.guard > 0 && n.keeping != always {
		from := mono()
		t.ledger.fault(history.Fault{Kind: recovering, Node: i, Client: -1, Impair: history.OneNode,
			Span: history.Span{From: from, To: from + int64(t.recovery())}})
	}
	return nil
}

// recovering is no fault of its own: a node sits out its guard time.
const recovering = ""

func empty(_ *torture, n *node, _ planned) (string, error) { return "", os.RemoveAll(n.redis.Dir()) }

// truncate cuts the last bytes off the newest part of the append-only file.
func truncate(_ *torture, n *node, f planned) (string, error) {
	files, err := filepath.Glob(filepath.Join(n.redis.Dir(), "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) == 0 {
		return "no file yet", err
	}
	slices.Sort(files)
	last := files[len(files)-1]
	info, err := os.Stat(last)
	if err != nil {
		return "", err
	}
	off := min(info.Size(), int64(1+f.amount%2000))
	return fmt.Sprintf("%d of %d bytes cut off", off, info.Size()), os.Truncate(last, info.Size()-off)
}

func killAll(t *torture, f planned, pause func()) (string, error) {
	for _, n := range t.nodes {
		n.Kill()
		if n.keeping != always {
			if err := os.RemoveAll(n.redis.Dir()); err != nil {
				return "", err
			}
		}
	}
	pause()
	for i, n := range t.nodes {
		if err := t.revive(n, i); err != nil {
			return "", err
		}
	}
	return "", nil
}

func stopNode(t *torture, f planned, pause func()) (string, error) {
	t.nodes[f.node].Pause()
	pause()
	t.nodes[f.node].Resume()
	return "", nil
}

func stopMost(t *torture, f planned, pause func()) (string, error) {
	order := rand.New(rand.NewPCG(uint64(f.amount), 0)).Perm(len(t.nodes))[:len(t.nodes)-t.quorum+1]
	for _, i := range order {
		t.nodes[i].Pause()
	}
	pause()
	for _, i := range order {
		t.nodes[i].Resume()
	}
	return fmt.Sprint("nodes ", order), nil
}

func clientPause(t *torture, f planned, pause func()) (string, error) {
	mode := []string{"ALL", "WRITE"}[f.amount%2]
	t.nodes[f.node].redis.Do("CLIENT", "PAUSE", strconv.FormatInt(f.length.Milliseconds(), 10), mode)
	pause()
	return mode, nil
}

func debugSleep(t *torture, f planned, _ func()) (string, error) {
	t.nodes[f.node].redis.Do("DEBUG", "SLEEP", strconv.FormatFloat(f.length.Seconds(), 'f', 3, 64))
	return "", nil
}

func fullMemory(t *torture, f planned, pause func()) (string, error) {
	n := t.nodes[f.node].redis
	n.Do("CONFIG", "SET", "maxmemory", "1")
	pause()
	n.Do("CONFIG", "SET", "maxmemory", "0")
	return "", nil
}

func command(args ...string) func(*torture, planned, func()) (string, error) {
	return func(t *torture, f planned, _ func()) (string, error) {
		t.nodes[f.node].redis.Do(args...)
		return "", nil
	}
}

func clientKill(t *torture, f planned, _ func()) (string, error) {
	which := []string{"normal", "pubsub"}[f.amount%2]
	killed := t.nodes[f.node].redis.Do("CLIENT", "KILL", "TYPE", which)
	return killed + " " + which, nil
}

// deleteLocks ends the locks that stand on a node, at once or in a moment.
func deleteLocks(t *torture, f planned, _ func()) (string, error) {
	n := t.nodes[f.node].redis
	for _, key := range t.keys {
		if f.amount%2 == 0 {
			n.Do("DEL", "redlock:"+key)
		} else {
			n.Do("PEXPIRE", "redlock:"+key, "1")
		}
	}
	return "", nil
}

func killClient(t *torture, f planned, pause func()) (string, error) {
	p := t.clients[f.client]
	if err := p.kill(); err != nil {
		return "", err
	}
	pause()
	return "", p.start()
}

func stopClient(t *torture, f planned, pause func()) (string, error) {
	return "", t.clients[f.client].stopped(pause)
}

// path does something to a way, or to all ways of a client or to a node, and undoes it.
func path(set func(x *redistest.Proxy, f planned, on bool)) func(*torture, planned, func()) (string, error) {
	return func(t *torture, f planned, pause func()) (note string, err error) {
		if f.kind.name == "network: delay" {
			note = delayOf(f).String()
		}
		t.paths(f, func(x *redistest.Proxy) { set(x, f, true) })
		pause()
		t.paths(f, func(x *redistest.Proxy) { set(x, f, false) })
		return note, nil
	}
}

func (t *torture) paths(f planned, do func(*redistest.Proxy)) {
	for c, p := range t.clients {
		for n, x := range p.proxies {
			if (f.client == c || f.client == -1) && (f.node == n || f.node == -1) {
				do(x)
			}
		}
	}
}

func blackhole(x *redistest.Proxy, _ planned, on bool) { x.Blackhole(on) }
func noReplies(x *redistest.Proxy, _ planned, on bool) { x.DropReplies(on) }
func hold(x *redistest.Proxy, _ planned, on bool)      { x.Hold(on) }

func reset(x *redistest.Proxy, _ planned, on bool) {
	if on {
		x.Reset()
	}
}

func delay(x *redistest.Proxy, f planned, on bool) {
	if on {
		x.Delay(delayOf(f))
	} else {
		x.Delay(0)
	}
}

// delayOf is in each direction: a slow network, one too slow for the node timeout, one
// too slow for any lease.
func delayOf(f planned) time.Duration {
	return []time.Duration{3 * ms, 20 * ms, 60 * ms, 400 * ms, 2500 * ms}[f.amount%5]
}
