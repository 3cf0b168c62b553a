package node

import (
	"context"
	"errors"
	"math"
	"runtime"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// MaxBatch is how many requests one script call has at most: about a millisecond of the
// server's time.
const MaxBatch = 64

// work sends what waits in the queue until nothing is left.
func (n *Node) work() {
	defer n.o.Group.Done()
	growStack()
	for {
		batch := n.queue.take(MaxBatch, n.Conn.Cluster())
		if len(batch) == 0 {
			return
		}
		if batch = n.wanted(batch); len(batch) == 0 {
			continue
		}
		c, err := n.Conn.Client()
		switch {
		case err != nil:
			n.fail(batch, err)
		case c.Mode() == rueidis.ClientModeCluster: // one script call takes one hash slot
			for _, w := range batch {
				n.o.Group.Go(func() { n.finish(w, AnswerOf(w.Eval(context.Background(), c))) })
			}
		default:
			err = n.sendBatch(c, batch)
		}
		if nodeerr.Broken(err) {
			// What waits behind a connection that died fails with it: one that hangs
			// would hold up each batch for its time-out. What is asked after that, if only
			// once more and at once, is tried on a new connection.
			if batch = n.queue.take(math.MaxInt, n.Conn.Cluster()); len(batch) == 0 {
				return
			}
			n.fail(batch, err)
		}
	}
}

// growStack makes the stack of a new goroutine large enough for a request in one step, while
// there is nothing on it: to send and receive takes more than a stack begins with, and to
// copy a deep one costs about a microsecond for each request.
//
//go:noinline
func growStack() {
	var room [6 << 10]byte
	runtime.KeepAlive(&room)
}

// wanted drops from a batch what nobody wants any more because its lease would be over.
func (n *Node) wanted(batch []*Call) []*Call {
	now := Now()
	fresh := batch[:0]
	for _, c := range batch {
		if c.Until != 0 && now > c.Until {
			n.conclude(c, Answer{Err: errOver, Fate: NeverSent})
		} else {
			fresh = append(fresh, c)
		}
	}
	return fresh
}

var errOver = errors.New("not asked: the node was so slow that the lease would be over")

func (n *Node) fail(batch []*Call, err error) {
	for _, w := range batch {
		n.finish(w, Answer{Err: err, Fate: NeverSent})
	}
}

// sendBatch sends the calls in one round trip and hands out their answers. It returns the
// error of a connection that died.
func (n *Node) sendBatch(c rueidis.Client, batch []*Call) (broken error) {
	finish := func(w *Call, res script.Result) {
		if nodeerr.Broken(res.Err) {
			broken = res.Err
		}
		n.finish(w, Answer{Msg: res.Msg, Err: res.Err, Fate: fateOf(res.Err)})
	}
	var alone []*Call
	for i, res := range n.run(c, batch) {
		if len(batch) > 1 && nodeerr.KeysRefused(res.Err) {
			// The user may not use the keys of one of those that went in one call, so that
			// none was run. Each is sent alone now. (This may be the one: it is refused again.)
			alone = append(alone, batch[i])
			continue
		}
		finish(batch[i], res)
	}
	for i, w := range alone {
		if broken != nil {
			n.fail(alone[i:], broken)
			break
		}
		finish(w, n.run(c, []*Call{w})[0])
	}
	return broken
}

// Call asks the node at once, beside the queue, on a client of it: for what may overtake
// all others, and be overtaken.
func (n *Node) Call(ctx context.Context, c rueidis.Client, q script.Request) Answer {
	if c.Mode() == rueidis.ClientModeCluster {
		return AnswerOf(q.Eval(ctx, c))
	}
	res := n.functions.Run(ctx, c, []*script.Request{&q}, nil)[0]
	return Answer{Msg: res.Msg, Err: res.Err, Fate: fateOf(res.Err)}
}

// Functions says, for people, whether the node is asked by functions, and why not.
func (n *Node) Functions() string {
	if n.Conn.Cluster() {
		return "no (a Redis Cluster)"
	}
	return n.functions.String()
}

// run sends the calls and gives their results, in the sender's own memory.
func (n *Node) run(c rueidis.Client, batch []*Call) []script.Result {
	clear(n.queue.results) // answered meanwhile
	n.queue.results = n.functions.Run(context.Background(), c, n.queue.requests(batch), n.queue.results[:0])
	return n.queue.results
}
