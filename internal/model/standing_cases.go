package model

import "fmt"

func (m Standing) holds(slow bool) Case {
	size := fmt.Sprintf("%d nodes, %d attempts, claim %d", m.Nodes, m.Attempts, m.Claim)
	if m.TTL != m.Claim {
		size += fmt.Sprintf(", ttl %d", m.TTL)
	}
	for _, more := range []struct {
		is   bool
		what string
	}{
		{m.Stamps, "queues with stamps"},
		{m.Asks != 0, "one that does not stand"},
		{m.Extends && !m.Twice, "extends"},
		{m.Twice, "extends, two at a time"},
		{m.Confirms, "confirms"},
		{m.Breaks, "an operator"},
		{m.Whole, "FLUSHALL under a lease that stands on all"},
	} {
		if more.is {
			size += ", " + more.what
		}
	}
	if m.Counts > 0 {
		size += fmt.Sprintf(", counts to %d", m.Counts)
	}
	size += more(m.Restarts, "restart") + more(m.Fast, "tick gained a node")
	return Case{"standing", size, "", Holds, slow, false, func() Result { return Search[StandingState](m, most) }}
}

// big is a case that takes minutes.
func (c Case) big() Case {
	c.Big = true
	return c
}

// slow is a case that takes seconds.
func (c Case) slow() Case {
	c.Slow = true
	return c
}

func (m Standing) breaks(name, says string) Case {
	return Case{"standing", name, says, Breaks, false, false, func() Result { return Search[StandingState](m, most) }}
}

func standingCases() []Case {
	two := Standing{Nodes: 3, Attempts: 2, Quorum: 2, Claim: 2, TTL: 2, Guard: 3}
	three := two
	three.Attempts = 3
	with := func(m Standing, change func(m *Standing)) Standing {
		change(&m)
		return m
	}
	off := func(m Standing, rules StandingRules) Standing {
		m.Off = rules
		return m
	}
	queues := with(two, func(m *Standing) { m.Stamps, m.Asks = true, 2 })
	ticks := with(two, func(m *Standing) { m.Claim, m.TTL, m.Drift, m.Fast, m.Guard = 3, 4, 1, 1, 5 })
	extends := func(m Standing) Standing { m.Extends = true; return m }
	twice := func(m Standing) Standing { m.Extends, m.Twice = true, true; return m }
	asks := func(m Standing, which uint8) Standing { m.Asks = which; return m }
	confirms := func(m Standing) Standing { m.Confirms = true; return m }
	restarts := func(m Standing) Standing { m.Restarts = 1; return m }
	operator := func(m Standing) Standing { m.Breaks = true; return m }
	counts := func(m Standing, to int) Standing { m.Counts = to; return m }
	longer := func(m Standing) Standing { m.TTL, m.Guard = 3, 4; return m }
	whole := with(extends(three), func(m *Standing) { m.Whole = true })
	return []Case{
		queues.holds(false),
		asks(queues, 0).holds(true),
		extends(queues).holds(true),
		counts(queues, 3).holds(true),
		restarts(queues).holds(true),
		extends(restarts(queues)).holds(true).big(),
		extends(three).holds(true),
		extends(asks(three, 4)).holds(true),
		extends(ticks).holds(true),
		twice(two).holds(true),
		twice(longer(two)).holds(true).big(),
		extends(restarts(two)).holds(true),
		extends(restarts(asks(two, 2))).holds(true).big(),
		confirms(extends(longer(two))).holds(true),
		extends(operator(two)).holds(false),
		operator(three).holds(false),
		whole.holds(true),
		counts(asks(two, 2), 4).holds(false),
		counts(three, 3).holds(true),
		counts(extends(two), 3).holds(false),
		counts(confirms(two), 3).holds(true),
		counts(restarts(asks(two, 2)), 3).holds(true),
		counts(restarts(two), 3).holds(true).big(),

		off(queues, StandingRules{PushStamp: true}).breaks("PushStamp", "a push has no stamp: validity counts from the latest request that was answered \"standing\"").slow(),
		off(queues, StandingRules{AnswerStamp: true}).breaks("AnswerStamp", "an answer has no stamp: validity counts from the request that it answers"),
		off(two, StandingRules{FromStamp: true}).breaks("FromStamp", "validity counts from the report of the grant"),
		off(counts(asks(two, 2), 4), StandingRules{AmongEqual: true}).breaks("AmongEqual", "the Q-th latest stamp is that of all nodes that granted, whatever they counted"),
		off(counts(asks(two, 2), 4), StandingRules{Frozen: true}).breaks("Frozen", "grants that are received during phase 2 count"),
		off(two, StandingRules{OnlyFree: true}).breaks("OnlyFree", "a node passes the lock on though another holds it"),
		off(restarts(two), StandingRules{PassOnVote: true}).breaks("PassOnVote", "a node that may not vote passes the lock on"),
		off(three, StandingRules{InsteadMine: true}).breaks("InsteadMine", "a hand-back does not ask whose the lock is"),
		off(two, StandingRules{NewValue: true}).breaks("NewValue", "a waiter that has handed back goes on with the same value"),
		off(counts(confirms(asks(two, 2)), 4), StandingRules{ConfirmCommit: true}).breaks("ConfirmCommit", "a lease is confirmed by an extend alone").slow(),
		off(confirms(two), StandingRules{ConfirmStart: true}).breaks("ConfirmStart", "a confirmed lease counts from the answers"),
		off(operator(three), StandingRules{BreakValue: true}).breaks("BreakValue", "an operator's release deletes whatever lock is there"),
	}
}

func (m Liveness) holds(name string, slow bool) Case {
	return Case{"liveness", name, "", Holds, slow, false, func() Result { return Fair(m, most) }}
}

func (m Liveness) breaks(name, says string) Case {
	return Case{"liveness", name, says, Breaks, false, false, func() Result { return Fair(m, most) }}
}

func livenessCases() []Case {
	crossed := [liveNodes]int{0, 2, 2} // A is first at node 1, B at the others
	released := func(m Liveness) Liveness { m.Stays = false; return m }
	rest := Liveness{Waiters: 2, Stand: true, Holder: 7, Orders: crossed}
	burst := Liveness{Waiters: 2}
	stays := Liveness{Waiters: 2, Holder: 3, Stays: true}
	split := Liveness{Waiters: 3, Stand: true, Split: true}
	with := func(m Liveness, change func(m *Liveness)) Liveness {
		change(&m)
		return m
	}
	off := func(m Liveness, rules LivenessRules) Liveness {
		m.Off = rules
		return m
	}
	one := with(stays, func(m *Liveness) { m.Waiters = 1 })
	silent := func(m Liveness) Liveness { m.Silent = true; return m }
	lost := with(rest, func(m *Liveness) { m.Orders, m.Lost = [liveNodes]int{}, 2 })
	hung := with(rest, func(m *Liveness) { m.Waiters, m.Hung = 3, true })
	cut := with(silent(split), func(m *Liveness) { m.Waiters = 2 })
	return []Case{
		burst.holds("free, two come", false),
		silent(burst).holds("free, two come, a silent node", false),
		rest.holds("released, two stand in different orders", true),
		silent(rest).holds("released, two stand in different orders, a silent node", false),
		lost.holds("released, two stand, two pushes are lost", false),
		silent(released(stays)).holds("on two nodes and released, two come, the third is silent", false),
		hung.holds("released, three stand, the first hangs", false),
		split.holds("three with a vote each", false),
		cut.holds("two with a vote each, the third node is silent", false),
		one.holds("on two nodes for ever, one comes", false),
		stays.holds("on two nodes for ever, two come", false),
		silent(stays).holds("on two nodes for ever, two come, the third is silent", false),
		released(stays).holds("on two nodes and released, two come", true).big(),
		with(burst, func(m *Liveness) { m.Holder = 7 }).holds("released, two come", true).big(),

		off(one, LivenessRules{HandBackTo: true}).breaks("HandBackTo", "what is handed back goes to the head of the node's queue, and is asked for again"),
		off(one, LivenessRules{TakeOff: true}).breaks("TakeOff", "who hands back takes what is free in the same step"),
		off(one, LivenessRules{OutOfReach: true}).breaks("OutOfReach", "who has handed back takes again though others hold too many nodes"),
		off(rest, LivenessRules{OtherFirst: true}).breaks("OtherFirst", "a waiter is preferred to a holder with as many votes that is no waiter").slow(),
		off(cut, LivenessRules{FixedOrder: true}).breaks("FixedOrder", "of waiters with as many votes, each prefers the next one"),
		off(silent(burst), LivenessRules{NotAnswered: true}).breaks("NotAnswered", "a node that does not answer is waited for"),
		off(lost, LivenessRules{Refresh: true}).breaks("Refresh", "waiters do not refresh"),
	}
}
