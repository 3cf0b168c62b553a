package redlock

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// call is a request to a node.
type call struct {
	script.Request
	who   caller
	start time.Time // of the request; only for Options.OnRequest

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

func newCall(who caller, q script.Request, class class) *call {
	c := calls.Get().(*call)
	c.who, c.Request, c.class = who, q, class
	return c
}

func (c *call) recycle() {
	*c = call{}
	calls.Put(c)
}

const maxBatch = 64 // about a millisecond of the server's time

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

// work sends what waits in the queue until nothing is left.
func (n *node) work() {
	defer n.wg.Done()
	for {
		batch := n.queue.take(maxBatch, n.conn.Cluster())
		if len(batch) == 0 {
			return
		}
		if batch = n.wanted(batch); len(batch) == 0 {
			continue
		}
		c, err := n.conn.Client()
		switch {
		case err != nil:
			n.fail(batch, err)
		case c.Mode() == rueidis.ClientModeCluster: // one script call takes one hash slot
			for _, w := range batch {
				n.wg.Go(func() { n.finish(w, answered(w.Eval(context.Background(), c))) })
			}
		default:
			err = n.sendBatch(c, batch)
		}
		if nodeerr.Broken(err) {
			// What waits behind a connection that died fails with it: one that hangs
			// would hold up each batch for its time-out. What comes after that is tried
			// on a new one, whoever asks again at once.
			if batch = n.queue.take(math.MaxInt, n.conn.Cluster()); len(batch) == 0 {
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

// sendBatch sends the calls in one round trip and hands out their answers. It returns the
// error of a connection that died.
func (n *node) sendBatch(c rueidis.Client, batch []*call) (broken error) {
	var alone []*call
	for i, res := range n.run(c, batch) {
		w := batch[i]
		if len(batch) > 1 && nodeerr.KeysRefused(res.Err) {
			// One of them is not allowed its keys, and with it none: nothing was run. Or it
			// is this one, which is asked once more in vain.
			alone = append(alone, w)
			continue
		}
		if nodeerr.Broken(res.Err) {
			broken = res.Err
		}
		n.finish(w, answer{msg: res.Msg, err: res.Err})
	}
	for i, w := range alone {
		if broken != nil {
			n.fail(alone[i:], broken)
			break
		}
		res := n.run(c, []*call{w})[0]
		if nodeerr.Broken(res.Err) {
			broken = res.Err
		}
		n.finish(w, answer{msg: res.Msg, err: res.Err})
	}
	return broken
}

// run sends the calls and gives their results, in the sender's own memory.
func (n *node) run(c rueidis.Client, batch []*call) []script.Result {
	clear(n.queue.results) // answered meanwhile
	n.queue.results = n.functions.Run(context.Background(), c, n.queue.requests(batch), n.queue.results[:0])
	return n.queue.results
}
