package node

import (
	"context"
	"errors"
	"math"

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
			// would hold up each batch for its time-out. What comes after that is tried
			// on a new one, whoever asks again at once.
			if batch = n.queue.take(math.MaxInt, n.Conn.Cluster()); len(batch) == 0 {
				return
			}
			n.fail(batch, err)
		}
	}
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

// sendBatch sends the calls as one and hands out their answers.
func (n *Node) sendBatch(c rueidis.Client, batch []*Call) error {
	if len(batch) == 1 {
		a := AnswerOf(batch[0].Eval(context.Background(), c))
		n.finish(batch[0], a)
		return a.Err
	}
	parts, err := script.EvalBatch(context.Background(), c, n.queue.requests(batch))
	if nodeerr.KeysRefused(err) {
		// One of them is not allowed its keys, and with it none: nothing was run.
		return n.sendEach(c, batch)
	}
	for i, w := range batch {
		if err != nil {
			n.finish(w, Answer{Err: err, Fate: fateOf(err)})
			continue
		}
		n.finish(w, Answer{Msg: parts[i], Err: parts[i].Error(), Fate: Answered})
	}
	return err
}

// sendEach sends the calls one after another.
func (n *Node) sendEach(c rueidis.Client, batch []*Call) error {
	for i, w := range batch {
		a := AnswerOf(w.Eval(context.Background(), c))
		n.finish(w, a)
		if nodeerr.Broken(a.Err) {
			n.fail(batch[i+1:], a.Err)
			return a.Err
		}
	}
	return nil
}
