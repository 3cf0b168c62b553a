package redlock

import (
	"context"
	"crypto/rand"
	"sync"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
	"github.com/tonsurance/lockkeeper/redlock/internal/waiting"
)

// waitAdvice names what the node refuses to those who wait, and how to permit it. Without
// that, locks work there all the same, and waiting for them is slower.
func (l *Locker) waitAdvice(ctx context.Context, i int, n *node.Node, c rueidis.Client, k script.Keys) (advice []string) {
	ttl := script.ToMillis(probeTTL)
	wait, value, channel := rand.Text(), newValue(l.opts.Owner), script.WakePrefix+"health"
	stand := script.Stand{Waiter: wait, Value: value, Claim: ttl, Channel: channel}.Request(k, ttl, n.Guard())
	var noQueue, noPush, noSubscription, noCount bool
	var asked sync.WaitGroup // side by side: a far node has to answer all of a check within its time
	asked.Go(func() {
		a := n.Call(ctx, c, stand)
		if noQueue = nodeerr.ForbiddenWithin(a.Err); a.Err == nil {
			n.Call(ctx, c, script.Leave(k, wait, value, ttl, n.Guard())) // or the queue's ttl ends it
		}
	})
	asked.Go(func() {
		noPush = nodeerr.Forbidden(c.Do(ctx, c.B().Publish().Channel(channel).Message("").Build()).Error())
	})
	if !l.pushes.live(i) { // else it is seen already
		asked.Go(func() { noSubscription = nodeerr.Forbidden(waiting.TrySubscribe(ctx, c, channel)) })
	}
	if !n.Conn.Cluster() {
		asked.Go(func() {
			noCount = nodeerr.Forbidden(c.Do(ctx, c.B().PubsubNumsub().Channel(channel).Build()).Error())
		})
	}
	asked.Wait()
	if noQueue {
		advice = append(advice, "it keeps no queue of those who wait, so that they ask again and again: allow its user the queues (ACL ~"+StandingPrefix+"* +zadd +zrank +zrange +zrem +hdel)")
	}
	if noPush || noSubscription {
		advice = append(advice, "it can't notify those who wait, so that they ask again and again: allow its user the channels (ACL &"+WakePrefix+"* +publish +subscribe)")
	}
	if noCount {
		advice = append(advice, "it can't tell whether those who wait are still there, so that one that has died costs those behind it up to a second, or some round trips where the network is slow: allow its user to ask (ACL +pubsub|numsub)")
	}
	return advice
}
