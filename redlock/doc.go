// Package redlock locks on a quorum of independent Redis nodes: Redlock as Redis
// describes it ("Distributed Locks with Redis", redis.io), with a fencing token on
// the quorum, repair of nodes that lost their data, a guard against the votes of
// nodes that forgot, and bounds on every call when nodes hang.
//
//	locker, err := redlock.Dial(ctx, []string{"redis://10.0.0.1", "redis://10.0.1.1", "redis://10.0.2.1"},
//		&redlock.Options{Logger: slog.Default()})
//	if err != nil {
//		return err
//	}
//	defer locker.Close()
//	return leader.Run(ctx, locker, "pricing-oracle-keeper", run, nil)
//
// What it does not do: it does not stop a paused process from acting after its
// lease has ended; only a resource that checks the fencing token does. It is not
// consensus: a quorum that loses acknowledged writes unnoticed can elect two.
//
// [Dial] makes and owns the connections, [New] takes yours. A node is one vote: a
// standalone server (best), a Sentinel-managed primary or a whole Redis Cluster
// (each with the weakness that a fail-over to a lagging replica forgets).
// Redis 6.2 to 8 and Valkey.
//
// # What is in Redis
//
//	redlock:<key>                             string "<owner>/<random>", PX ttl
//	lockkeeper:fence:{<tag>}redlock:<key>     hash: count, run and, of the queue, standing and
//	                                          granted; kept for Options.Retention
//	lockkeeper:standing:{<tag>}redlock:<key>  sorted set: the waiters, by their positions
//	lockkeeper:standing:asked:{<tag>}redlock:<key>
//	                                          hash: what each of the waiters asked for
//	lockkeeper:agreed:redlock:                string: nodes, quorum and guard of the clients, PX guard
//
// The string is what node-redlock, redsync and bsm/redislock use for the same key,
// so that they exclude us and are excluded. GET, TTL and DEL in redis-cli do what
// an operator expects. The random part is new for every attempt: nothing of one
// attempt can touch another's lock.
//
// # How a lease is made
//
//	         all nodes, in parallel, one round trip
//	acquire ───► Q granted, same count T ─────────────────────► lease, token T
//	   │              Q granted, counts differ ─► commit ──► Q answer T ─► lease, token T
//	   └───► no quorum in reach ─► what was granted is taken back ─► ErrHeld or ErrUnavailable
//
//	extend  ───► Q confirmed ─► new expiry; nodes that lost the lock are repaired
//	   ├───► N-Q+1 lost or taken ─► ErrLost; what is left stays until Release or its ttl
//	   └───► anything else ─► ErrUnavailable: the old expiry stands
//
// Each call returns at the first moment that its outcome is certain; a minority of
// nodes that is down or hangs costs no time. On one node, the requests of one lease
// run one after another, so that a cleanup never overtakes the request it cleans
// up; a request ends only by its answer or the death of its connection. What is still
// to be done when a call returns goes on in goroutines that Close waits for.
//
// A lease normally stands on all nodes: one that lags behind it is asked again within
// milliseconds of the grant and of each extend, a few times. A node gets renewals first,
// then releases, then votes. A vote that nobody wants any more is not sent, and a node with
// some hundred requests unanswered is left out of new attempts as long as a quorum has room.
//
// [lock.ReleaseAfter] lets a hold end by itself, on all nodes, at a time of up to
// Options.RestartGuard after its start.
//
// Validity counts from before the first request: ttl - elapsed - drift, drift = 1 %
// of the ttl + 2ms, on the monotonic clock, less what the machine was suspended.
// Wall clocks decide nothing.
//
// # Waiting
//
// Waiting is direct hand-off: see [Locker.Await], which [lock.Acquire] uses. A request that
// is not granted at once stands in a queue on every node:
//
//	release ─► node: DEL, grant to the first of the queue, notify it ─► Q notifications: lease
//	expiry, DEL by anybody ─► found by the next refresh of a request ─► the same
//	votes split ─► handed back to who has most, then to who has waited longest
//
// A lease that was waited for is for a claim of a second at first (or for the ttl, if that is
// less), and extends itself to the ttl after a quarter of that.
//
// # Fencing tokens
//
// Each node counts the grants of a key. A token is a count that Q nodes endorsed
// while they had this lease's value. Two quorums share a node and a count never
// falls, so tokens of different leases differ and rise in real time, under any
// delay, loss or pause. A node that lost its counter starts again at its clock's
// microseconds, above everything issued before, as long as nodes' clocks are closer
// to each other than the time it was away.
//
// # The restart guard
//
// A node that restarted without its data would vote for a second holder. So a node
// votes only if its uptime is above Options.RestartGuard (at least the longest ttl
// in use, default 60s), or if it shows that it was durable ever since it started, and
// so forgot nothing: appendonly yes, appendfsync always, no-appendfsync-on-rewrite no,
// and nothing in its own statistics that could have changed that in this run (CONFIG
// SET, CONFIG RESETSTAT, a rewrite of its file, replication). That needs Redis 7 or
// later. One that waits is named in errors and in Health, with the time left.
//
// # Who the nodes are
//
// Two clients exclude each other only if each quorum of one shares a node with each
// quorum of the other. So the nodes remember, as long as a lease can stand, which nodes,
// quorum and guard the clients of a prefix have; who has others is refused
// ([lock.ErrRefused]) with both named. See [Options] for how to change them.
//
// # Limits
//
// With up to N-Q nodes down, hung or cut off, locks are granted, renewed and freed.
// At most one lease of a key is valid at a time, if clock rates stay within the
// drift, no quorum-deciding node's clock steps forward, nobody deletes lock keys
// under a holder, and nodes forget nothing but by a restart that the guard covers.
// Not covered, each able to make two holders (their tokens still differ):
//
//   - FLUSHALL, DEL, eviction or deleted volumes on 2Q-N nodes (one of three or
//     five, two of four), and restarts with the guard off or on unguarded nodes;
//   - a durable node started from older or damaged files, durability switched on by
//     a restart (use CONFIG SET while it runs, and don't restart it within the guard
//     time after that) or off on a running node, a running server rolled back to a
//     snapshot, an address that moved to another server;
//   - a forward clock step of a node during the guard time;
//   - fail-over to a lagging replica (Sentinel, Cluster);
//   - clients with other nodes that the nodes can't show to each other: they share none
//     that is up, or their keys meet by different prefixes ("a:" and key "b:k", "a:b:" and
//     key "k"); or the first attempt of one, if the shared node answers it much later than
//     a quorum of the others does, and not in a quarter of the node timeout.
package redlock
