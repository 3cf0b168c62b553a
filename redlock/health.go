package redlock

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"crypto/rand"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/lock"
)

var _ lock.HealthChecker = (*Locker)(nil)

// Health asks every node for a real vote, on a key of its own that is freed at
// once: a server that answers PING may refuse writes all the same. It waits for
// slow nodes up to twice the node timeout, or until ctx ends.
func (l *Locker) Health(ctx context.Context) (lock.Health, error) {
	all, errs, err := each(ctx, l, 2*l.opts.NodeTimeout, l.checkNode)
	if err != nil {
		return lock.Health{}, fmt.Errorf("redlock: health: %w", err)
	}
	h := lock.Health{Quorum: l.opts.Quorum, Nodes: make([]lock.NodeHealth, len(all))}
	for i, n := range l.nodes {
		h.Nodes[i] = all[i]
		h.Nodes[i].Name = n.name
		if errs[i] != nil {
			h.Nodes[i].Err = errs[i]
		}
	}
	return h, nil
}

// probeTTL is how long a health check's lock would stand if it could not free it.
const probeTTL = time.Second

func (l *Locker) checkNode(ctx context.Context, n *node, c rueidis.Client) (lock.NodeHealth, error) {
	start := time.Now()
	if err := c.Do(ctx, c.B().Ping().Build()).Error(); err != nil {
		return lock.NodeHealth{}, err
	}
	h := lock.NodeHealth{Latency: time.Since(start)}

	k, err := l.keysOf("lockkeeper:health:" + rand.Text())
	if err != nil { // the prefix: no key can be locked
		return h, err
	}
	ttl, run := ms(probeTTL), ""
	value := newValue(l.opts.Owner)
	vote := func() reply {
		return parseAcquire(answered(acquireScript.eval(ctx, c, k, value, ttl, ttl, l.opts.least, run)))
	}
	rep := vote()
	if rep.kind == recovering && n.probe(rep.run) {
		run = rep.run
		rep = vote()
	}
	if rep.kind == granted {
		_ = releaseScript.eval(ctx, c, k, value, "0").Error() // or its ttl ends it
	} else {
		h.Err = rep.reason(l.opts.NodeTimeout, true)
	}
	h.Warnings = l.advise(ctx, c, rep.unguarded)
	return h, nil
}

// advise says what an operator should change on a node.
func (l *Locker) advise(ctx context.Context, c rueidis.Client, unguarded bool) []string {
	var warnings []string
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	switch {
	case l.opts.RestartGuard == -1:
		warn("the restart guard is off (Options.RestartGuard is -1): if the node restarts without its data, a held lock can get a second holder")
	case unguarded:
		warn("unguarded: it does not tell its run and uptime (allow INFO server, ACL +info): it votes at once after a restart that lost its data")
	}
	conf, err := durability(ctx, c)
	var refused *rueidis.RedisError
	switch {
	case errors.As(err, &refused):
		warn("its configuration can't be read (allow CONFIG GET, ACL +config|get): after each restart it sits out the restart guard, durable or not")
	case err != nil:
		return append(warnings, "its configuration could not be read: "+err.Error())
	case !conf.durable():
		warn("not durable (appendonly %s, appendfsync %s, no-appendfsync-on-rewrite %s; want yes, always, no): after a restart it %s",
			conf["appendonly"], conf["appendfsync"], conf["no-appendfsync-on-rewrite"], l.restartEffect())
	}
	memory, err := c.Do(ctx, c.B().Arbitrary("CONFIG", "GET", "maxmemory-policy").Build()).AsStrMap()
	if policy := memory["maxmemory-policy"]; err == nil && policy != "noeviction" {
		warn("maxmemory-policy is %s, want noeviction: a full node could evict a held lock", policy)
	}
	if text, err := c.Do(ctx, c.B().Info().Build()).ToString(); err == nil {
		warnings = append(warnings, adviseInfo(parseInfo(text), time.Now())...)
	}
	return warnings
}

// adviseInfo reads INFO. Clocks are compared for the operator's sake: no decision
// depends on them but how tokens go on after lost counters.
func adviseInfo(info map[string]string, now time.Time) []string {
	var warnings []string
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	if info["role"] == "slave" {
		warn("is a replica of %s:%s: a vote must be a primary of its own", info["master_host"], info["master_port"])
	} else if n, _ := strconv.Atoi(info["connected_slaves"]); n > 0 {
		warn("has %d replicas: a fail-over to one that lags can forget locks; count on fencing tokens, not on the lock alone", n)
	}
	if info["aof_last_write_status"] == "err" || info["rdb_last_bgsave_status"] == "err" {
		warn("its last write to disk failed (aof_last_write_status %s, rdb_last_bgsave_status %s)", info["aof_last_write_status"], info["rdb_last_bgsave_status"])
	}
	used, _ := strconv.ParseFloat(info["used_memory"], 64)
	limit, _ := strconv.ParseFloat(info["maxmemory"], 64)
	if limit > 0 && used > 0.9*limit {
		warn("memory is %.0f%% full: a full node refuses locks", 100*used/limit)
	}
	if micros, err := strconv.ParseInt(info["server_time_usec"], 10, 64); err == nil {
		if off := time.UnixMicro(micros).Sub(now).Round(time.Millisecond); off.Abs() > 10*time.Second {
			warn("its clock is %v from this machine's: locks don't need equal clocks, but tokens keep rising after lost data only if clocks are close", off)
		}
	}
	return warnings
}

func (l *Locker) restartEffect() string {
	if l.opts.RestartGuard == -1 {
		return "votes at once, whatever it forgot"
	}
	return fmt.Sprintf("does not vote for %v", l.opts.RestartGuard)
}
