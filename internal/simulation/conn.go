package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// conn is one process' way to one node: a rueidis.Client with what redlock calls.
type conn struct {
	rueidis.Client // nil: whatever else is called is a mistake

	w    *world
	c    *client
	n    *node
	rng  *rand.Rand // under the world's mutex
	dead bool       // the process has ended

	lostTo, lostFrom time.Time // a partition in that direction lasts until then
}

func (k *conn) B() rueidis.Builder               { return builder() }
func (k *conn) Mode() rueidis.ClientMode         { return rueidis.ClientModeStandalone }
func (k *conn) Nodes() map[string]rueidis.Client { return map[string]rueidis.Client{k.n.name: k} }
func (k *conn) Close()                           {}

// DoMulti sends requests on one connection: when it dies, it does so for all that follow.
func (k *conn) DoMulti(ctx context.Context, cmds ...rueidis.Completed) []rueidis.RedisResult {
	results := make([]rueidis.RedisResult, 0, len(cmds))
	broken := false
	for _, cmd := range cmds {
		if broken {
			results = append(results, failed(errBroken))
			continue
		}
		res := k.Do(ctx, cmd)
		broken = res.NonRedisError() != nil
		results = append(results, res)
	}
	return results
}

// flight is what happens to one message and its reply.
type flight struct {
	to, from             time.Duration
	lost, replyLost      bool
	late, double         bool
	lateAfter, doubledBy time.Duration
}

// plan draws it. mu is held.
func (k *conn) plan() flight {
	w, r, wx := k.w, k.rng, k.w.weak
	delay := func() time.Duration {
		d := time.Duration((0.2 + r.ExpFloat64()) * float64(wx.latency))
		if r.Float64() < wx.slow {
			d += time.Duration(r.Float64() * 1.5 * float64(w.timeout))
		}
		return d + time.Duration(r.Int64N(1000)) + 1 // so that no two fall on one instant
	}
	f := flight{to: delay(), from: delay()}
	now := time.Now()
	f.lost = r.Float64() < wx.loss || now.Before(k.lostTo)
	f.replyLost = r.Float64() < wx.loss || now.Before(k.lostFrom)
	f.late = f.lost && r.IntN(4) == 0 // not lost, but so late that its connection has died
	f.double = r.Float64() < wx.double
	f.lateAfter = time.Duration(r.Float64() * 1.5 * float64(w.ttl))
	f.doubledBy = time.Duration(r.Float64() * 1.5 * float64(w.ttl))
	w.res.Messages++
	return f
}

// Do sends a request. It returns when the node has answered, or when the connection
// has died of silence, as redlock expects of a client.
func (k *conn) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	args := cmd.Commands()
	w := k.w
	end := time.Now().Add(2 * w.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	w.mu.Lock()
	f := k.plan()
	if k.dead {
		w.mu.Unlock()
		return failed(errClosing)
	}
	arrival := later(time.Now(), k.c.frozen).Add(f.to)
	switch {
	case f.late:
		w.res.Late++
		k.deliverLater(args, time.Until(arrival)+f.lateAfter)
	case f.lost:
		w.res.Lost++
	case arrival.After(end):
		w.res.Late++
		k.deliverLater(args, time.Until(arrival))
	}
	w.mu.Unlock()
	if f.lost || arrival.After(end) {
		return k.broken(end)
	}
	time.Sleep(time.Until(arrival))
	w.mu.Lock()
	if k.n.down {
		w.mu.Unlock()
		time.Sleep(f.from)
		return failed(errRefused)
	}
	if until := k.n.hung; until.After(time.Now()) {
		// It waits in the server's socket, also when nobody waits for it any more.
		if until = until.Add(f.to); until.After(end) {
			w.res.Late++
			k.deliverLater(args, time.Until(until))
			w.mu.Unlock()
			return k.broken(end)
		}
		w.mu.Unlock()
		time.Sleep(time.Until(until))
		w.mu.Lock()
		if k.n.down {
			w.mu.Unlock()
			return k.broken(end)
		}
	}
	answer := k.n.do(args)
	k.noteReply(args, answer)
	if f.double {
		w.res.Doubled++
		k.deliverLater(args, f.doubledBy)
	}
	back := later(time.Now(), k.c.frozen).Add(f.from)
	lost := f.replyLost || back.After(end) || k.dead
	if lost {
		w.res.Lost++
	}
	w.mu.Unlock()
	if lost {
		return k.broken(end)
	}
	time.Sleep(time.Until(back))
	return answered(answer)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// broken is the end of a connection that was silent for too long.
func (k *conn) broken(end time.Time) rueidis.RedisResult {
	time.Sleep(time.Until(end))
	return failed(errBroken)
}

// deliverLater brings a message that nobody waits for. mu is held.
func (k *conn) deliverLater(args []string, after time.Duration) {
	k.w.late.Go(func() {
		time.Sleep(after)
		k.w.mu.Lock()
		defer k.w.mu.Unlock()
		if k.n.down || k.n.hung.After(time.Now()) {
			return
		}
		k.noteReply(args, k.n.do(args))
	})
}

// noteReply notes what a node answered to a script. mu is held.
func (k *conn) noteReply(args []string, answer any) {
	if refused, ok := answer.([]any); args[0] != "EVALSHA" && args[0] != "FCALL" || ok && len(refused) == 3 && refused[0] == int64(0) {
		return // refusals would fill the timeline
	}
	name := k.n.scripts[args[1]]
	if args[0] == "FCALL" {
		name = strings.TrimPrefix(args[1], k.n.library+"_")
	}
	k.w.note("c%d -> %s: %s = %v", k.c.id, k.n.name, call{name, args}, answer)
}

// call prints a script's call.
type call struct {
	script string
	args   []string
}

func (c call) String() string {
	if c.script == "batch" || c.script == "keeps" || c.script == "takes" || len(c.args) < 6 {
		return c.script
	}
	// A value is "c/" and 26 random letters, of which a few distinguish it.
	return fmt.Sprintf("%s(%s, %.8s, %v)", c.script, c.args[3], c.args[5], c.args[6:])
}
