package redlock

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeconn"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
	"github.com/tonsurance/lockkeeper/redlock/internal/server"
)

var _ lock.HealthChecker = (*Locker)(nil)

// Health asks every node for a real vote, on a key of its own that is freed at
// once: a server that answers PING may refuse writes all the same. It waits for
// slow nodes up to twice the node timeout, or until ctx ends.
//
// Its facts are, in this order and where a node answers: reachable, version, role,
// persistence, memory, eviction, uptime, clock (how far the node's is ahead of this
// machine's), guard, and clients: the number of nodes, quorum and restart guard of
// those that use the locks now. If they are others than this client's, no node is healthy, since
// nothing can be acquired. What the user may not ask for says "not permitted".
func (l *Locker) Health(ctx context.Context) (lock.Health, error) {
	if ctx == nil {
		return lock.Health{}, fmt.Errorf("redlock: health: %w", ended(ctx))
	}
	timeout := 2 * l.opts.NodeTimeout
	if end, ok := ctx.Deadline(); ok { // long enough for a connection that is slow to be made
		timeout = max(timeout, min(time.Until(end), nodeconn.ConnectLimit))
	}
	if err := ended(ctx); err != nil { // nodes that were not asked are not down
		return lock.Health{}, fmt.Errorf("redlock: health: %w", err)
	}
	all, errs, err := each(ctx, l, timeout, l.checkNode)
	if err != nil {
		return lock.Health{}, fmt.Errorf("redlock: health: %w", err)
	}
	h := lock.Health{Quorum: l.opts.Quorum, Nodes: make([]lock.NodeHealth, len(all))}
	for i, n := range l.nodes {
		h.Nodes[i] = all[i].NodeHealth
		h.Nodes[i].Name = n.Name
		if errs[i] != nil {
			h.Nodes[i].Err = nodeerr.Explain(errs[i], l.opts.NodeTimeout)
		}
		if len(h.Nodes[i].Facts) == 0 {
			h.Nodes[i].Facts = []lock.Fact{{Name: "reachable", Value: yesNo(nodeerr.Refusal(errs[i]) != nil)}}
		}
	}
	refuseTwins(h.Nodes, all)
	l.refuseDifferent(h.Nodes, all)
	warnOfClocks(h.Nodes, all)
	return h, nil
}

// refuseTwins makes a node unhealthy whose server is that of an earlier node: two names of
// one server are one vote. Dial refuses such a list, as far as nodes have answered by then.
func refuseTwins(nodes []lock.NodeHealth, all []checkup) {
	first := map[string]int{}
	for i := range all {
		switch j, seen := first[all[i].run]; {
		case all[i].run == "" || nodes[i].Err != nil:
		case seen:
			nodes[i].Err = fmt.Errorf("the same server as %s by its run_id, want an independent one for each vote", nodes[j].Name)
		default:
			first[all[i].run] = i
		}
	}
}

// refuseDifferent says of each node how it stands with other clients' terms. If one has
// others than this client's, none is of use, because nothing is acquired then.
func (l *Locker) refuseDifferent(nodes []lock.NodeHealth, all []checkup) {
	members := make([]member, len(all))
	for i, n := range l.nodes {
		members[i] = member{Name: n.Name}
		if n.Conn.Single() {
			at := &all[i]
			members[i].Run, members[i].Port, members[i].uptime = at.run, at.port, at.uptime
		}
	}
	mine := l.terms(members)
	var remembered time.Duration
	l.agreement.locked(func() { remembered = l.agreement.remembered() })
	var refusal error
	for i := range all {
		at := &all[i]
		if at.agreed == "" {
			continue
		}
		others, err := parseTerms(at.agreed)
		if err != nil {
			nodes[i].Err = cmp.Or(nodes[i].Err, err)
			continue
		}
		nodes[i].Facts = append(nodes[i].Facts, lock.Fact{Name: "clients", Value: others.summary()})
		if _, ok := mine.join(others, l.ago(at.agreedLeft)); !ok {
			refusal = l.differ(l.nodes[i], others, mine, remembered, at.agreedLeft)
			nodes[i].Err = cmp.Or(nodes[i].Err, refusal)
		}
	}
	for i := range nodes {
		if refusal != nil {
			nodes[i].Err = cmp.Or(nodes[i].Err, refusal)
		}
	}
}

// probeTTL is how long a health check's lock would stand if it could not free it.
const probeTTL = time.Second

// checkup is what a health check finds out about one node.
type checkup struct {
	lock.NodeHealth
	clock server.Clock
	run   string // the server's run_id; "": not reported, or a Cluster of many

	agreed     string // the terms of the clients that use the locks; "": of none
	agreedLeft time.Duration
	port       string
	uptime     time.Duration
}

func (l *Locker) checkNode(ctx context.Context, n *node.Node, c rueidis.Client) (checkup, error) {
	start := time.Now()
	err := c.Do(ctx, c.B().Ping().Build()).Error()
	for nodeconn.StillConnecting(err) && ctx.Err() == nil {
		start = time.Now()
		err = c.Do(ctx, c.B().Ping().Build()).Error()
	}
	if err != nil && !nodeerr.UnknownCommand(err) {
		return checkup{}, err
	}
	h := checkup{NodeHealth: lock.NodeHealth{Latency: time.Since(start)}}
	k, err := l.keysOf("lockkeeper:health:" + rand.Text())
	if err != nil { // the prefix: no key can be locked
		return h, err
	}
	rep := l.probeVote(ctx, n, c, k)
	h.Err = nodeerr.Explain(rep.reason(l.opts.NodeTimeout, true), l.opts.NodeTimeout)
	var waits []string
	var asked sync.WaitGroup // beside what follows
	if rep.Kind == script.Granted || rep.Kind == script.Held {
		asked.Go(func() { waits = l.waitAdvice(ctx, slices.Index(l.nodes, n), n, c, k) })
	}
	look := script.Agree(l.opts.Prefix, "", "", script.ToMillis(0))
	agreed, err := parseAgree(node.AnswerOf(look.Eval(ctx, c)))
	info := server.ParseInfo(agreed.Info)
	h.port, h.uptime = info["tcp_port"], info.Uptime()
	if h.agreed, h.agreedLeft = agreed.Text, agreed.Left; err != nil && !nodeerr.KeyForbidden(err) {
		h.Err = cmp.Or(h.Err, nodeerr.Explain(err, l.opts.NodeTimeout))
	}
	s := server.Take(ctx, c)
	if c.Mode() != rueidis.ClientModeCluster && h.Err == nil { // it voted on this check's key, but may lack others
		h.Err = l.misplaced(ctx, n, c, s.Info["redis_mode"])
	}
	if rep.Kind == script.Recovering && s.Info["role"] == "slave" && s.Info["slave_read_only"] == "1" {
		// The guard refuses first; when that time is over, the replica still refuses writes.
		rep = reply{}
		h.Err = errors.New("answers, but refuses writes: it is a read-only replica")
	}
	h.clock, h.run = s.Clock, s.Info["run_id"]
	h.Facts = append([]lock.Fact{{Name: "reachable", Value: "yes"}}, s.Facts()...)
	if guard := l.guardFact(rep); guard != "" {
		fact := lock.Fact{Name: "guard", Value: guard}
		if rep.Kind == script.Recovering {
			fact.Measures = []lock.Measure{{Name: "guard_left_seconds", Value: rep.Left.Seconds()}}
		}
		h.Facts = append(h.Facts, fact)
	}
	h.Facts = append(h.Facts, lock.Fact{Name: "functions", Value: n.Functions()})
	h.Warnings = append(l.guardAdvice(rep.Unguarded), s.Advice(l.restartEffect())...)
	h.Warnings = append(h.Warnings, s.CounterAdvice(ctx, c, FencePrefix, l.opts.Retention, h.Err)...)
	asked.Wait()
	h.Warnings = append(h.Warnings, waits...)
	if nodeerr.KeyForbidden(err) {
		h.Warnings = append(h.Warnings, "it can't show whether all clients have the same nodes, quorum and restart guard: "+allowAgreed)
	}
	if err := server.ProveDurable(s.Conf, s.Info); rep.Kind == script.Recovering && s.Conf.Durable() && err != nil {
		h.Warnings = append(h.Warnings, fmt.Sprintf("durable now, but it votes only in %v: %v", rep.Left, err))
	}
	if took := n.Conn.Took(); took.Total() > l.opts.NodeTimeout {
		h.Warnings = append(h.Warnings, fmt.Sprintf("to connect took %v: when a connection breaks, its vote is missing for so long", took))
	}
	return h, nil
}

// probeVote asks for a vote as an attempt does, and gives it back.
func (l *Locker) probeVote(ctx context.Context, n *node.Node, c rueidis.Client, k script.Keys) reply {
	ttl, guard := script.ToMillis(probeTTL), script.Guard{Least: l.opts.least}
	value := newValue(l.opts.Owner)
	vote := func() reply {
		q := script.Acquire(k, value, ttl, ttl, guard)
		return replyOf(n.Call(ctx, c, q), script.ParseAcquire)
	}
	rep := vote()
	if rep.Kind == script.Recovering && n.Probe(rep.Run) {
		guard.Durable = rep.Run
		if rep = vote(); rep.Kind == script.Granted {
			rep.Run = guard.Durable
		}
	}
	if rep.Kind == script.Granted {
		q := script.Release(k, value, "", "", l.opts.retention, n.Guard())
		n.Call(ctx, c, q) // or its ttl ends it
	}
	return rep
}

// guardFact is how the restart guard stands to a node's vote; "" if it did not come
// to that.
func (l *Locker) guardFact(rep reply) string {
	switch {
	case rep.Kind == script.Recovering:
		return fmt.Sprintf("votes in %v", rep.Left)
	case rep.Kind != script.Granted:
		return ""
	case l.opts.RestartGuard == -1:
		return "off"
	case l.opts.AssumeDurable:
		return "assumed durable"
	case rep.Unguarded:
		return "can't work"
	case rep.Run != "": // it would sit out else
		return "durable"
	}
	return "passed"
}

func (l *Locker) guardAdvice(unguarded bool) []string {
	switch {
	case l.opts.RestartGuard == -1:
		return []string{"the restart guard is off (Options.RestartGuard is -1): if the node restarts without its data, a held lock can get a second holder"}
	case unguarded:
		return []string{"unguarded: it does not report its run and uptime (allow INFO server, ACL +info): it votes at once after a restart that lost its data"}
	}
	return nil
}

func (l *Locker) restartEffect() string {
	if l.opts.RestartGuard == -1 {
		return "votes at once, whatever it forgot"
	}
	return fmt.Sprintf("does not vote for %v", l.opts.RestartGuard)
}

// far is how far nodes' clocks may be apart without a word.
const far = 10 * time.Second

// warnOfClocks compares the nodes' clocks with each other, for the operator's sake:
// no decision depends on them but how tokens go on after lost counters. This
// machine's clock does not matter.
func warnOfClocks(nodes []lock.NodeHealth, all []checkup) {
	var known []int
	for i := range all {
		if all[i].clock.Known() {
			known = append(known, i)
		}
	}
	if len(known) < 2 {
		return
	}
	slices.SortStableFunc(known, func(i, j int) int { return int(all[i].clock.Ahead - all[j].clock.Ahead) })
	middle := known[(len(known)-1)/2]
	for _, i := range known {
		apart := all[i].clock.Ahead - all[middle].clock.Ahead
		if apart.Abs() <= far+all[i].clock.Slack+all[middle].clock.Slack {
			continue
		}
		word := "ahead of"
		if apart < 0 {
			word = "behind"
		}
		nodes[i].Warnings = append(nodes[i].Warnings, fmt.Sprintf("its clock is %v %s that of %s: locks don't need equal clocks, but after lost data tokens keep rising only if clocks are close",
			apart.Abs().Round(time.Second), word, nodes[middle].Name))
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
