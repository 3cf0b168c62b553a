package redlock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// call is a request to a node.
type call struct {
	script *script
	keys   keys
	args   [maxArgs]string
	nargs  int
	who    caller
	start  time.Time // of the request; only for Options.OnRequest

	class class
	until time.Duration // since epoch: it is not sent after that; 0: always wanted

	// Of the queue, whose mutex guards them: where the call waits.
	queued     bool
	alone      bool // it is its lock's only call under way
	prev, next *call

	// Of a hold's request: which one.
	node   int
	round  *round
	probed bool // sent again after the node was found durable
}

// caller hears once of each call, which is its own again then: of the answer, or of
// the connection's death. It must not block: others wait behind it.
type caller interface{ done(*call, answer) }

var calls = sync.Pool{New: func() any { return new(call) }}

func newCall(who caller, s *script, k keys, class class) *call {
	c := calls.Get().(*call)
	c.who, c.script, c.keys, c.class = who, s, k, class
	return c
}

func (c *call) put(args ...string) { c.nargs = copy(c.args[:], args) }

func (c *call) recycle() {
	*c = call{}
	calls.Put(c)
}

const (
	maxArgs  = 6
	maxBatch = 64 // about a millisecond of the server's time
)

// answer is a node's reply to one request.
type answer struct {
	msg    rueidis.RedisMessage
	err    error // of the server, or of the connection
	unsent bool  // err is why it was not sent
}

func answered(res rueidis.RedisResult) answer {
	msg, err := res.ToMessage()
	return answer{msg: msg, err: err}
}

// broken reports that err is no reply of a server: the connection has died.
func broken(err error) bool {
	_, reply := rueidis.IsRedisErr(err)
	return err != nil && !reply
}

// work sends what waits in the queue until nothing is left.
func (n *node) work() {
	defer n.wg.Done()
	for {
		batch := n.queue.take(maxBatch, n.isCluster())
		if len(batch) == 0 {
			return
		}
		if batch = n.wanted(batch); len(batch) == 0 {
			continue
		}
		c, err := n.conn()
		switch {
		case err != nil:
			n.fail(batch, err)
		case c.Mode() == rueidis.ClientModeCluster: // one script call takes one hash slot
			for _, w := range batch {
				n.wg.Go(func() { n.finish(w, answered(w.eval(c))) })
			}
		default:
			err = n.sendBatch(c, batch)
		}
		if broken(err) {
			// What waits behind a connection that died fails with it: one that hangs
			// would hold up each batch for its time-out. What comes after that is tried
			// on a new one, whoever asks again at once.
			if batch = n.queue.take(math.MaxInt, n.isCluster()); len(batch) == 0 {
				return
			}
			n.fail(batch, err)
		}
	}
}

// wanted drops from a batch what nobody wants any more because its lease would be over.
func (n *node) wanted(batch []*call) []*call {
	now := time.Since(epoch)
	fresh := batch[:0]
	for _, c := range batch {
		if c.until != 0 && now > c.until {
			n.conclude(c, answer{err: errOver, unsent: true})
		} else {
			fresh = append(fresh, c)
		}
	}
	return fresh
}

var errOver = errors.New("not asked: the node was so slow that the lease would be over")

func (n *node) fail(batch []*call, err error) {
	for _, w := range batch {
		n.finish(w, answer{err: err, unsent: true})
	}
}

// sendBatch sends the calls as one and hands out their answers.
func (n *node) sendBatch(c rueidis.Client, batch []*call) error {
	if len(batch) == 1 {
		a := answered(batch[0].eval(c))
		n.finish(batch[0], a)
		return a.err
	}
	parts, err := evalBatch(c, batch)
	if keysRefused(err) {
		// One of them is not allowed its keys, and with it none: nothing was run.
		return n.sendEach(c, batch)
	}
	for i, w := range batch {
		a := answer{err: err}
		if err == nil {
			a = answer{msg: parts[i], err: parts[i].Error()}
		}
		n.finish(w, a)
	}
	return err
}

// sendEach sends the calls one after another.
func (n *node) sendEach(c rueidis.Client, batch []*call) error {
	for i, w := range batch {
		a := answered(w.eval(c))
		n.finish(w, a)
		if broken(a.err) {
			n.fail(batch[i+1:], a.err)
			return a.err
		}
	}
	return nil
}

// keysRefused: a user may use some keys only, and a server of a Redis Cluster takes
// those of one slot.
func keysRefused(err error) bool {
	refused, ok := rueidis.IsRedisErr(err)
	return ok && (strings.HasPrefix(refused.Error(), "NOPERM") || strings.HasPrefix(refused.Error(), "CROSSSLOT"))
}

func (c *call) eval(client rueidis.Client) rueidis.RedisResult {
	return c.script.eval(context.Background(), client, c.keys, c.args[:c.nargs]...)
}

func evalBatch(c rueidis.Client, batch []*call) ([]rueidis.RedisMessage, error) {
	res := c.Do(context.Background(), batchCommand(c, "EVALSHA", batchScript.sha, batch))
	if err, ok := rueidis.IsRedisErr(res.Error()); ok && err.IsNoScript() {
		res = c.Do(context.Background(), batchCommand(c, "EVAL", batchScript.source, batch))
	}
	parts, err := res.ToArray()
	if err != nil {
		if _, reply := rueidis.IsRedisErr(err); !reply && res.NonRedisError() == nil {
			err = asReplyError(err)
		}
		return nil, err
	}
	if len(parts) != len(batch) {
		return nil, asReplyError(fmt.Errorf("%d answers to %d requests", len(parts), len(batch)))
	}
	return parts, nil
}

// batchCommand is laid out as scripts/batch.lua reads it.
func batchCommand(c rueidis.Client, command, script string, batch []*call) rueidis.Completed {
	cmd := c.B().Arbitrary(command, script, strconv.Itoa(2*len(batch)))
	for _, w := range batch {
		cmd = cmd.Keys(w.keys.lock, w.keys.fence)
	}
	for _, w := range batch {
		cmd = cmd.Args(w.script.name, strconv.Itoa(w.nargs)).Args(w.args[:w.nargs]...)
	}
	return cmd.Build()
}

func asReplyError(err error) error { return fmt.Errorf("%w: %w", errReply, err) }

// batchSource makes one script of several, so that alone and in a batch the same
// lines run. The server is asked for its run once.
func batchSource(scripts ...*script) string {
	var b strings.Builder
	b.WriteString(serverLua)
	b.WriteString(turnLua)
	b.WriteString("local asked, run, uptime = false, nil, nil\nlocal once = server\n" +
		"server = function() if not asked then asked, run, uptime = true, once() end return run, uptime end\n")
	for _, s := range scripts {
		b.WriteString(s.body)
	}
	b.WriteString("local ops = {")
	for _, s := range scripts {
		fmt.Fprintf(&b, "%s = %[1]s, ", s.name)
	}
	b.WriteString("}\n")
	b.WriteString(batchLua)
	return b.String()
}
