package simulation

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"time"
)

// node is a simulated server. The world's mutex guards it.
type node struct {
	name string
	now  func() time.Time // true time

	// The clock that expires keys and counts uptime: local at the true time at,
	// running at rate since.
	local time.Duration
	at    time.Time
	rate  float64
	wall  time.Duration // what TIME reports is off by this

	run      string
	runs     int
	noInfo   bool // INFO is not to be had
	started  time.Duration
	durable  bool
	data     data
	snapshot data // an earlier state, for a restart from stale files
	scripts  map[string]string

	// The library of functions, which is kept as data are, and what its upvalues have,
	// which end with the process.
	noFunctions bool   // it has none, as before Redis 7
	library     string // its name; "": not loaded
	known       string
	reached     int64
	calling     bool // a function

	// publish sends a message to those who listen on a channel, "" none, and says how many they
	// are. nil: nobody does.
	publish   func(channel, message string) int
	listeners []*listener
	mute      bool // it refuses PUBLISH

	down bool
	hung time.Time // until when it answers nothing
}

// data is what a node keeps. A clone shares nothing with it, so that it is a snapshot.
type data struct {
	locks  map[string]lockEntry
	fences map[string]fenceEntry
	agreed map[string]lockEntry
	queues map[string]*queued // by the name of the fence
}

type lockEntry struct {
	value string
	until time.Duration // on the node's clock; 0: no expiry
}

type fenceEntry struct {
	count, run string // "": unset
	standing   string // "1": there may be a queue
	granted    string // of the last grant from the queue: stamp, position, waiter and value
	until      time.Duration
}

func emptyData() data {
	return data{map[string]lockEntry{}, map[string]fenceEntry{}, map[string]lockEntry{}, map[string]*queued{}}
}

func (d data) clone() data {
	queues := map[string]*queued{}
	for fence, q := range d.queues {
		queues[fence] = q.clone()
	}
	return data{maps.Clone(d.locks), maps.Clone(d.fences), maps.Clone(d.agreed), queues}
}

func newNode(name string, now func() time.Time) *node {
	n := &node{name: name, now: now, at: now(), rate: 1, run: name + "r0", data: emptyData(), snapshot: emptyData(), scripts: map[string]string{}}
	n.local = 1000 * time.Hour // it has been up for long
	return n
}

func (n *node) clock() time.Duration {
	return n.local + time.Duration(float64(n.now().Sub(n.at))*n.rate)
}

// setRate lets the clock run at another rate from now on.
func (n *node) setRate(rate float64) {
	n.local, n.at, n.rate = n.clock(), n.now(), rate
}

// step moves the clock, and what TIME reports.
func (n *node) step(d time.Duration) {
	n.setRate(n.rate)
	n.local += d
	n.wall += d
}

// memory is what a restart leaves.
type memory int

const (
	keepsAll memory = iota
	keepsStale
	keepsNothing
)

func (m memory) String() string { return [...]string{"all", "stale", "no"}[m] + " data" }

// start begins a new run.
func (n *node) start(m memory) {
	n.runs++
	n.run = fmt.Sprintf("%sr%d", n.name, n.runs)
	n.started, n.scripts, n.down, n.hung = n.clock(), map[string]string{}, false, time.Time{}
	n.known, n.reached = "", 0
	switch m {
	case keepsStale:
		n.data = n.snapshot.clone()
	case keepsNothing:
		n.data, n.library = emptyData(), ""
	}
}

// losesKeys deletes each lock with probability p, as DEL and eviction do.
func (n *node) losesKeys(p float64, rng *rand.Rand) {
	for _, key := range slicesSorted(n.data.locks) {
		if rng.Float64() < p {
			delete(n.data.locks, key)
		}
	}
}

func (n *node) lock(key string) (lockEntry, bool) { return n.text(n.data.locks, key) }

// text is a string of these.
func (n *node) text(of map[string]lockEntry, key string) (lockEntry, bool) {
	e, ok := of[key]
	if ok && e.until != 0 && n.clock() >= e.until {
		delete(of, key)
		return lockEntry{}, false
	}
	return e, ok
}

func (n *node) pttl(key string) int64 { return n.pttlOf(n.data.locks, key) }

func (n *node) pttlOf(of map[string]lockEntry, key string) int64 {
	e, ok := n.text(of, key)
	switch {
	case !ok:
		return -2
	case e.until == 0:
		return -1
	}
	return int64((e.until - n.clock() + time.Millisecond - 1) / time.Millisecond)
}

func (n *node) fence(key string) (fenceEntry, bool) {
	e, ok := n.data.fences[key]
	if ok && e.until != 0 && n.clock() >= e.until {
		delete(n.data.fences, key)
		return fenceEntry{}, false
	}
	return e, ok
}

// micros is what TIME reports.
func (n *node) micros() int64 { return n.now().Add(n.wall).UnixMicro() }

func (n *node) uptime() int64 { return int64((n.clock() - n.started) / time.Second) }

// do executes a command.
func (n *node) do(args []string) any {
	switch strings.ToUpper(args[0]) {
	case "EVALSHA":
		name, ok := n.scripts[args[1]]
		if !ok {
			return redisError("NOSCRIPT No matching script. Please use EVAL.")
		}
		return n.eval(name, args[2:])
	case "EVAL":
		name := scriptName(args[1])
		sum := sha1.Sum([]byte(args[1]))
		n.scripts[hex.EncodeToString(sum[:])] = name
		return n.eval(name, args[2:])
	case "FUNCTION":
		if n.noFunctions {
			break
		}
		name := libraryName(args[2])
		if name == n.library {
			return redisError("ERR Library '" + name + "' already exists")
		}
		n.library, n.known, n.reached = name, "", 0
		return name
	case "FCALL":
		if n.noFunctions {
			break
		}
		name, ok := strings.CutPrefix(args[1], n.library+"_")
		if !ok || n.library == "" {
			return redisError("ERR Function not found")
		}
		if name == "keeps" || name == "takes" {
			name = "batch"
		}
		n.calling = true
		defer func() { n.calling = false }()
		return n.eval(name, args[2:])
	case "CONFIG":
		return map[string]string{args[2]: n.config(args[2])}
	case "INFO":
		if n.noInfo {
			return redisError("NOPERM no INFO")
		}
		return fmt.Sprintf("# Server\r\nrun_id:%s\r\nuptime_in_seconds:%d\r\n", n.run, n.uptime()) + sinceStart
	case "PING", "SUBSCRIBE":
		return "PONG"
	}
	return redisError("ERR unknown command (simulated)")
}

// sinceStart is what INFO all says of a server whose configuration nobody has changed
// since it started.
const sinceStart = "role:master\r\nmaster_replid2:0000\r\naof_last_rewrite_time_sec:-1\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\n" +
	"cmdstat_config|get:calls=3,usec=1\r\n"

func (n *node) config(name string) string {
	if !n.durable {
		return "no"
	}
	return map[string]string{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}[name]
}

// libraryName is that of the text of a library.
func libraryName(source string) string {
	_, name, _ := strings.Cut(source, "name=")
	name, _, _ = strings.Cut(name, "\n")
	return name
}

// scriptName knows a script by the call that ends it.
func scriptName(source string) string {
	if strings.Contains(source, "local ops = {") {
		return "batch"
	}
	_, call, _ := strings.Cut(source[strings.LastIndex(source, "return "):], "return ")
	name, _, _ := strings.Cut(call, "(")
	return name
}
