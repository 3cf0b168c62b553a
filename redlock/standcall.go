package redlock

import (
	"slices"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
	"github.com/tonsurance/lockkeeper/redlock/internal/waiting"
)

// standCall is one request of a wait to one node.
type standCall struct {
	node.Call
	s      *standing
	a      waiting.Action
	sent   time.Duration // when, on the wait's clock
	probed bool
	leased bool // it was open when the lease was issued, and belongs to that
}

// send asks a node. mu is held.
func (s *standing) send(a waiting.Action) {
	n := s.l.nodes[a.Node]
	var c *standCall
	if free := len(s.firsts); free > 0 {
		c, s.firsts = &s.firsts[free-1], s.firsts[:free-1]
	} else {
		c = new(standCall)
	}
	c.s, c.a, c.sent = s, a, s.at
	s.open[a.Node] = c
	if !s.counted {
		if s.l.begin(1) != nil {
			s.answered(c, waiting.Answer{Unsent: true}, notAsked(lock.ErrClosed))
			return
		}
		s.counted = true
	}
	if a.Kind == waiting.Stand && a.Instead == 0 {
		if err := n.Hangs(); err != nil {
			s.answered(c, waiting.Answer{Unsent: true}, notAsked(err))
			return
		}
	}
	if f := s.l.opts.OnRefresh; f != nil && a.Again {
		f(n.Name)
	}
	s.ask(c)
}

// again asks a node where the wait's request stands for its vote, for the lease that the
// wait has come to.
func (s *standing) again(n *node.Node, value string, ttl script.Millis) script.Request {
	channel := s.l.pushes.channelOf(slices.Index(s.l.nodes, n))
	return script.Stand{
		Waiter: s.id, Value: value, Waited: s.now(), Claim: ttl, Channel: channel, Cluster: n.Conn.Cluster(), Take: true,
	}.Request(s.keys, s.l.opts.retention, n.Guard())
}

// ask hands the request to the node's queue. mu is held.
func (s *standing) ask(c *standCall) {
	n, a, class := s.l.nodes[c.a.Node], c.a, node.Voting
	until := node.Now() + s.claim // a request that waited for so long is for nothing
	var req script.Request
	switch value := s.value(a.Attempt); a.Kind {
	case waiting.Stand:
		if a.Instead != 0 {
			class, until = node.Freeing, 0
		}
		req = script.Stand{
			Waiter: s.id, Value: value, Waited: a.Stamp, Claim: script.ToMillis(s.claim),
			Channel: s.l.pushes.channelOf(a.Node), Cluster: n.Conn.Cluster(), Take: a.Take, Instead: s.value(a.Instead), To: a.To,
		}.Request(s.keys, s.l.opts.retention, n.Guard())
	case waiting.Confirm:
		class = node.Renewing
		req = script.Confirm(s.keys, value, script.ToMillis(s.ttl), s.l.opts.retention, n.Guard(), a.Token)
	case waiting.Leave:
		class, until = node.Freeing, 0
		req = script.Leave(s.keys, s.id, value, s.l.opts.retention, n.Guard())
	}
	c.Call = node.Call{Request: req, Who: c, Class: class, Until: until}
	n.Ask(&c.Call)
}

// Done implements [node.Caller].
func (c *standCall) Done(_ *node.Call, a node.Answer) {
	ans, rep := c.parse(a)
	if (rep.Kind == script.Recovering || rep.Kind == script.Prolonged) && !c.probed {
		c.s.l.wg.Add(1)
		go c.probe(ans, rep) // it asks the node, and others wait behind this call
		return
	}
	c.answered(ans, rep)
}

// probe asks again if the node turns out to be durable: then it votes at once.
func (c *standCall) probe(ans waiting.Answer, rep reply) {
	defer c.s.l.wg.Done()
	c.probed = true
	if durable := c.s.l.nodes[c.a.Node].Probe(rep.Run); !durable || !c.askAgain() {
		c.answered(ans, rep)
	}
}

// askAgain asks the same again, unless nothing of the wait is wanted any more: then the vote
// would only have to be freed.
func (c *standCall) askAgain() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.over {
		return false
	}
	c.s.ask(c)
	return true
}

// answered takes in what the node said, as a node and for the wait.
func (c *standCall) answered(ans waiting.Answer, rep reply) {
	s, n := c.s, c.s.l.nodes[c.a.Node]
	noted(n, s.keys.Lock, c.a.Kind == waiting.Stand, rep)
	n.Voted(rep.Reply)
	if rep.Run != "" {
		s.l.agreement.restarted(c.a.Node, rep.Run)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = s.now()
	s.answered(c, ans, rep)
	s.follow()
}

// parse is what an answer says to the machine, and to the node and the hold.
func (c *standCall) parse(a node.Answer) (waiting.Answer, reply) {
	failed := func(err error) (waiting.Answer, reply) {
		rep := failure(err)
		rep.fate = a.Fate
		return waiting.Answer{Unsent: a.Fate == node.NeverSent}, rep
	}
	if a.Err != nil {
		return failed(a.Err)
	}
	switch c.a.Kind {
	case waiting.Leave:
		rep, err := script.ParseRelease(a.Msg)
		if err != nil {
			return failed(err)
		}
		return waiting.Answer{Result: waiting.Left}, reply{Reply: rep, fate: node.Answered}
	case waiting.Confirm:
		rep, err := script.ParseConfirm(a.Msg)
		switch {
		case err != nil:
			return failed(err)
		case rep.Kind == script.Counted:
			return waiting.Answer{Result: waiting.Confirmed, Grant: waiting.Grant{Count: rep.Count}}, reply{Reply: rep, fate: node.Answered}
		}
		return waiting.Answer{Result: waiting.Denied}, reply{Reply: rep, fate: node.Answered}
	}
	st, err := script.ParseStand(a.Msg)
	if err != nil {
		return failed(err)
	}
	rep := reply{Reply: voteOf(st), fate: node.Answered}
	if st.Granted {
		return waiting.Answer{Result: waiting.Granted, Grant: waiting.Grant{Count: st.Count, Stamp: st.Stamp, Position: int64(st.Position)}}, rep
	}
	ans := waiting.Answer{Result: waiting.Standing, Rank: st.Rank, NoVote: st.SitsOut > 0}
	if !st.Free {
		ans.Holder = waiting.Holder{Value: st.Holder, Waiter: st.HolderWaiter, Position: int64(st.HolderPosition), Left: st.Left}
		if st.Holder == "" { // another client's can be anything
			ans.Holder.Value = foreign
		}
	}
	return ans, rep
}

// voteOf is what an answer to a request that stands is as a vote.
func voteOf(st script.Standing) script.Reply {
	switch {
	case st.Granted:
		return script.Reply{Kind: script.Granted, Count: st.Count, Unguarded: st.Unguarded}
	case st.SitsOut > 0:
		return script.Reply{Kind: script.Recovering, Left: st.SitsOut, Run: st.Run}
	}
	return script.Reply{Kind: script.Held, Value: st.Holder, Left: st.Left, Run: st.Run}
}

// parseStand parses the answer to a request that stands as a vote.
func parseStand(msg rueidis.RedisMessage) (script.Reply, error) {
	st, err := script.ParseStand(msg)
	return voteOf(st), err
}

// answered gives an answer to the machine; and to the hold, if the request was open when the
// lease was issued. mu is held.
func (s *standing) answered(c *standCall, a waiting.Answer, rep reply) {
	i := c.a.Node
	s.open[i], s.errs[i] = nil, nil
	if c.a.Kind == waiting.Stand && a.Result != waiting.Granted && !a.Unsent {
		s.queued.Store(true)
	}
	switch {
	case a.Result == waiting.Failed, a.NoVote:
		s.errs[i] = rep.reason(s.l.opts.NodeTimeout, true)
	case a.Result == waiting.Standing:
		for k, v := range s.values {
			if a.Holder.Value == v {
				a.Holder.Attempt = k
			}
		}
		s.l.pushes.start() // somebody waits: only now is a connection for that worth its cost
	}
	s.m.Answered(s.at, i, a)
	if c.leased {
		s.h.late(i, s.votes, rep)
	}
}
