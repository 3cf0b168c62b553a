package script

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

var (
	//go:embed lua/known.lua
	knownLua string
	//go:embed lua/library.lua
	libraryLua string

	// Library is the name of the library of functions: one for each text, so that versions
	// of lockkeeper that differ in it stand beside each other.
	Library, library = newLibrary()

	functionKeeps, functionTakes = Library + "_keeps", Library + "_takes"
)

// LibraryPrefix begins the name of each version's library of functions.
const LibraryPrefix = "lockkeeper_"

// newLibrary gives the name and the text of the library.
func newLibrary() (name, source string) {
	var b strings.Builder
	b.WriteString(constants)
	b.WriteString(serverLua)
	b.WriteString(knownLua)
	b.WriteString(voteLua)
	b.WriteString(passOnLua)
	for _, s := range batched {
		if s.way != asScript {
			b.WriteString(s.body)
		}
	}
	b.WriteString(strings.Replace(libraryLua, "--BATCH\n", batchLua, 1))
	for _, set := range []struct {
		way         way
		name, flags string
	}{{keeps, "keeps", "{'allow-oom'}"}, {takes, "takes", "{}"}} {
		ops := ""
		for _, s := range batched {
			if s.way == set.way {
				fmt.Fprintf(&b, "register('%s', alone(%[1]s), %s)\n", s.Name, set.flags)
				ops += fmt.Sprintf("%s = %[1]s, ", s.Name)
			}
		}
		fmt.Fprintf(&b, "register('%s', batch{%s}, %s)\n", set.name, ops, set.flags)
	}
	sum := sha256.Sum256([]byte(b.String()))
	name = LibraryPrefix + hex.EncodeToString(sum[:6])
	for _, s := range batched {
		if s.way != asScript {
			s.function = name + "_" + s.Name
		}
	}
	return name, "#!lua name=" + name + "\nlocal LIBRARY = '" + name + "'\n" + b.String()
}

// way is how a script is called where the server has functions.
type way uint8

const (
	asScript way = iota // in no case as a function
	keeps               // as a function that a node with a full memory runs, too
	takes               // as one that it does not
)

// Result is what became of one request.
type Result struct {
	Msg rueidis.RedisMessage
	Err error // of the server, or of the connection
}

// Functions calls the scripts of one node: as functions of a library, which keep the
// server's run from one call to the next, or, where the server has none or does not
// permit them, as scripts. Its zero value is ready. Safe for concurrent use.
type Functions struct {
	served atomic.Bool             // the node has answered a function
	absent atomic.Pointer[absence] // nil: they were not found to be missing
}

// absence is why functions are not called, and until when that is taken for true.
type absence struct {
	why   string
	until time.Time
}

const (
	// What a server does not have or permit can change, but seldom does.
	absentFor = 10 * time.Minute
	// A server that is full, say, can't take the library at this moment.
	troubledFor = 5 * time.Second
)

// String says how the node is called, for people.
func (f *Functions) String() string {
	if a := f.absent.Load(); a != nil {
		return "no (" + a.why + ")"
	}
	if f.served.Load() {
		return "yes (" + Library + ")"
	}
	return "not tried yet"
}

func (f *Functions) usable() bool {
	a := f.absent.Load()
	return a == nil || time.Now().After(a.until)
}

// Run sends requests, in one round trip as a rule. Each has the effect that it has alone.
// Those that a node with a full memory still runs come first; else they keep their order.
// It appends their results to out. If several requests go in one call, and that is refused,
// each of them has that error.
func (f *Functions) Run(ctx context.Context, c rueidis.Client, requests []*Request, out []Result) []Result {
	n := len(out)
	out = slices.Grow(out, len(requests))[:n+len(requests)]
	results := out[n:]
	usable := f.usable()
	if len(requests) == 1 { // the usual case, without more memory
		g := group{requests: requests, at: first}
		if usable {
			g.way = requests[0].script.way
		}
		g.hand(f.finish(ctx, c, &g, c.Do(ctx, g.command(c, false))), results)
		return out
	}
	var groups [3]group
	for i, q := range requests {
		w := asScript
		if usable {
			w = q.script.way
		}
		g := &groups[(w+2)%3] // keeps, takes, scripts
		g.way = w
		g.requests, g.at = append(g.requests, q), append(g.at, i)
	}
	var sent []*group
	var commands []rueidis.Completed
	for i := range groups {
		if g := &groups[i]; len(g.requests) > 0 {
			sent, commands = append(sent, g), append(commands, g.command(c, false))
		}
	}
	if len(sent) == 1 {
		sent[0].hand(f.finish(ctx, c, sent[0], c.Do(ctx, commands[0])), results)
		return out
	}
	for i, res := range c.DoMulti(ctx, commands...) {
		sent[i].hand(f.finish(ctx, c, sent[i], res), results)
	}
	return out
}

var first = []int{0}

// finish gives the answer to a group. If the node could not run it in the way that was tried,
// nothing of it was run, and it is sent in another way.
func (f *Functions) finish(ctx context.Context, c rueidis.Client, g *group, res rueidis.RedisResult) rueidis.RedisResult {
	if g.way != asScript {
		refused, isRefused := rueidis.IsRedisErr(res.Error())
		switch {
		case !isRefused:
			f.serves(res)
			return res
		case strings.HasPrefix(refused.Error(), "Function not found"):
			both := c.DoMulti(ctx, c.B().Arbitrary("FUNCTION", "LOAD", library).Build(), g.command(c, false))
			res = both[1]
			if _, isRefused := rueidis.IsRedisErr(res.Error()); !isRefused {
				f.serves(res)
				return res
			}
			if err := both[0].Error(); err != nil && !strings.Contains(err.Error(), "already exists") {
				f.missing(err)
			}
		case strings.HasPrefix(refused.Error(), "OOM "):
			// As a script it is run until it needs memory: it can still say who holds the lock.
		case strings.HasPrefix(refused.Error(), scriptError) || f.served.Load() && !unserved(refused):
			return res
		default: // a server or a proxy that has no functions, in whatever words
			f.missing(refused)
		}
		g.way = asScript
		res = c.Do(ctx, g.command(c, false))
	}
	if refused, ok := rueidis.IsRedisErr(res.Error()); ok && refused.IsNoScript() {
		res = c.Do(ctx, g.command(c, true))
	}
	return res
}

func (f *Functions) serves(res rueidis.RedisResult) {
	if res.NonRedisError() == nil && !f.served.Load() {
		f.served.Store(true)
		f.absent.Store(nil)
	}
}

// scriptError begins errors of the scripts themselves, as the client shows them.
var scriptError = strings.TrimPrefix(ErrorPrefix, "ERR ")

// unserved: the server does not have functions, or not for this user.
func unserved(err error) bool {
	text := err.Error()
	return nodeerr.UnknownCommand(err) || strings.HasPrefix(text, "NOPERM") && (strings.Contains(text, "'fcall'") || strings.Contains(text, "'function"))
}

func (f *Functions) missing(err error) {
	a := &absence{nodeerr.Shown(err).Error(), time.Now().Add(troubledFor)}
	switch {
	case nodeerr.UnknownCommand(err):
		a = &absence{"not there, as before Redis 7", time.Now().Add(absentFor)}
	case unserved(err):
		a = &absence{"not permitted: +fcall +function|load", time.Now().Add(absentFor)}
	}
	f.served.Store(false)
	f.absent.Store(a)
}

// group are requests that go in one call.
type group struct {
	way      way
	requests []*Request
	at       []int // where their results belong
}

// command is the call, with the whole source if the server does not know the script.
func (g *group) command(c rueidis.Client, whole bool) rueidis.Completed {
	script := batch
	if len(g.requests) == 1 {
		script = g.requests[0].script
	}
	name, text := "FCALL", functionTakes
	switch {
	case g.way == asScript && whole:
		name, text = "EVAL", script.Source
	case g.way == asScript:
		name, text = "EVALSHA", script.SHA
	case len(g.requests) == 1:
		text = script.function
	case g.way == keeps:
		text = functionKeeps
	}
	cmd := c.B().Arbitrary(name, text, strconv.Itoa(2*len(g.requests)))
	for _, q := range g.requests {
		cmd = cmd.Keys(q.Keys.Lock, q.Keys.Fence)
	}
	if len(g.requests) == 1 {
		return cmd.Args(g.requests[0].args[:g.requests[0].n]...).Build()
	}
	for _, q := range g.requests { // laid out as lua/batch.lua reads it
		cmd = cmd.Args(q.script.Name, strconv.Itoa(q.n)).Args(q.args[:q.n]...)
	}
	return cmd.Build()
}

// hand gives each request its part of the group's answer.
func (g *group) hand(res rueidis.RedisResult, results []Result) {
	if len(g.requests) == 1 {
		msg, err := res.ToMessage()
		results[g.at[0]] = Result{msg, err}
		return
	}
	parts, err := res.ToArray()
	switch {
	case err != nil:
		if _, reply := rueidis.IsRedisErr(err); !reply && res.NonRedisError() == nil {
			err = fmt.Errorf("%w: %w", nodeerr.ErrReply, err)
		}
	case len(parts) != len(g.requests):
		err = fmt.Errorf("%w: %d answers to %d requests", nodeerr.ErrReply, len(parts), len(g.requests))
	}
	for i, at := range g.at {
		if err != nil {
			results[at] = Result{Err: err}
		} else {
			results[at] = Result{parts[i], parts[i].Error()}
		}
	}
}
