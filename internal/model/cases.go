package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Case is one thing that a search shows.
type Case struct {
	Model string // "tokens" or "exclusion"
	Name  string // of the rule that is broken or the limit that is crossed, or the size
	Says  string // what that is
	Wants Outcome
	Slow  bool // takes more than a few seconds
	Big   bool // takes minutes, and gigabytes

	Search func() Result
}

// Outcome is what a search must end with.
type Outcome string

// Outcomes.
const (
	Holds   Outcome = "holds"                             // every state was seen, none is wrong
	Breaks  Outcome = "counterexample, the rule is off"   // else the rule were of no use
	Crosses Outcome = "counterexample, beyond the limits" // else the limit were not one
)

// Check says what is wrong with the result; "" for nothing.
func (c Case) Check(r Result) string {
	switch found := r.Wrong != ""; {
	case c.Wants == Holds && found:
		return "want no wrong state: " + r.Wrong
	case c.Wants == Holds && !r.Whole:
		return fmt.Sprintf("want every state seen: stopped at %d", r.States)
	case c.Wants != Holds && !found:
		return fmt.Sprintf("want a counterexample: none in %d states", r.States)
	}
	return ""
}

// most is where a search gives up: no case comes near it.
const most = 50_000_000

func (m Tokens) holds(slow bool) Case {
	size := fmt.Sprintf("%d nodes, %d attempts, counts to %d", m.Nodes, m.Attempts, m.Counts)
	if m.Repairs {
		size += ", repairs"
	}
	size += more(m.Refreshes, "refresh") + more(m.Restarts, "restart") + more(m.Forgets, "forgetting")
	if m.Raises > 0 {
		size += ", raised tokens"
	}
	return Case{"tokens", size, "", Holds, slow, false, func() Result { return Search[TokenState](m, most) }}
}

func (m Tokens) breaks(name, says string, wants Outcome) Case {
	return Case{"tokens", name, says, wants, false, false, func() Result { return Search[TokenState](m, most) }}
}

func (m Exclusion) holds(name, says string, slow bool) Case {
	size := fmt.Sprintf("%d nodes, %d attempts, ttl %d", m.Nodes, m.Attempts, m.TTL)
	if m.Extends {
		size += ", extends"
	}
	if m.Short > 0 {
		size += " and others"
	}
	if m.Keeps {
		size += ", keys kept after their leases"
	}
	size += more(m.Restarts, "restart") + more(m.Fast, "tick gained a node") + more(m.Switches, "switch to durable")
	if name != "" {
		size = name
	}
	return Case{"exclusion", size, says, Holds, slow, false, func() Result { return Search[ExclusionState](m, most) }}
}

func (m Exclusion) breaks(name, says string, wants Outcome) Case {
	return Case{"exclusion", name, says, wants, false, false, func() Result { return Search[ExclusionState](m, most) }}
}

func more(n int, what string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d %s", n, what)
}

// Cases are all that the searches show.
func Cases() []Case {
	return slices.Concat(tokenCases(), exclusionCases(), standingCases(), livenessCases())
}

func tokenCases() []Case {
	two := Tokens{Nodes: 3, Attempts: 2, Quorum: 2, Counts: 4, Repairs: true}
	three := Tokens{Nodes: 3, Attempts: 3, Quorum: 2, Counts: 3, Repairs: true}
	with := func(m Tokens, restarts, forgets int) Tokens {
		m.Restarts, m.Forgets = restarts, forgets
		return m
	}
	off := func(m Tokens, rules TokenRules) Tokens {
		m.Off = rules
		return m
	}
	counts := func(m Tokens, counts int) Tokens {
		m.Counts = counts
		return m
	}
	stands := func(m Tokens) Tokens { m.Refreshes = 1; return m }
	raises := func(m Tokens) Tokens { m.Raises = 1; return m }
	commits := with(two, 1, 0)
	commits.Repairs = false // it is seen without, sooner
	standing := stands(two)
	standing.Repairs = false
	limit := counts(with(two, 1, 0), 3)
	clocks, noRun, ahead := limit, limit, raises(limit)
	ahead.Cross.Ahead = true
	clocks.Cross.Clocks = true
	noRun.Cross.NoRun = true
	return []Case{
		three.holds(false),
		two.holds(false),
		with(two, 0, 1).holds(true),
		counts(with(two, 1, 0), 3).holds(true),
		with(three, 0, 1).holds(true),
		counts(three, 4).holds(true),
		with(three, 1, 0).holds(true).big(),
		stands(counts(two, 3)).holds(true),
		standing.holds(true),
		stands(two).holds(true).big(),
		stands(three).holds(true).big(),
		raises(counts(two, 3)).holds(false),
		raises(two).holds(true),
		raises(counts(with(two, 1, 0), 3)).holds(true),
		raises(three).holds(true).big(),
		off(two, TokenRules{Phase2: true}).breaks("Phase2", "who is granted by a quorum takes the highest count for his token", Breaks),
		off(two, TokenRules{CommitMine: true}).breaks("CommitMine", "a commit does not ask whose the lock is", Breaks),
		off(commits, TokenRules{CommitRun: true}).breaks("CommitRun", "a commit does not ask whether the count is of the present run", Breaks),
		off(two, TokenRules{EqualOnly: true}).breaks("EqualOnly", "any answer to a commit counts as agreement", Breaks),
		off(three, TokenRules{RepairLowers: true}).breaks("RepairLowers", "a repair sets the count to the lease's token, even if it was higher", Breaks),
		off(with(three, 0, 1), TokenRules{RepairRun: true}).breaks("RepairRun", "a repair vouches for the count: it writes the present run", Breaks),
		off(limit, TokenRules{Run: true}).breaks("Run", "a counter from an earlier run is counted on", Breaks),
		off(two, TokenRules{Outlives: true}).breaks("Outlives", "the counter goes when the lock goes", Breaks),
		off(two, TokenRules{NewValue: true}).breaks("NewValue", "all attempts have one value", Breaks),
		off(two, TokenRules{Majority: true}).breaks("Majority", "half of the nodes are enough", Breaks),
		off(standing, TokenRules{Stamp: true}).breaks("Stamp", "a grant has no stamp: it counts from the latest request", Breaks),
		off(raises(two), TokenRules{RaiseAlone: true}).breaks("RaiseAlone", "a token is raised without the agreement of a quorum", Breaks),
		off(raises(two), TokenRules{RaiseRepaired: true}).breaks("RaiseRepaired", "a token is raised although a repair may have been sent", Breaks),
		off(raises(two), TokenRules{CommitMine: true}).breaks("RaiseMine", "a commit of a raised token does not ask whose the lock is", Breaks),
		off(standing, TokenRules{AmongEqual: true}).breaks("AmongEqual", "the Q-th latest stamp is that of all nodes that granted, whatever they counted", Breaks),
		clocks.breaks("Clocks", "clocks lag by more than the time that a counter was away", Crosses),
		ahead.breaks("Ahead", "a token is raised above a node's clock, which loses its count", Crosses),
		noRun.breaks("NoRun", "a node goes back to stale data within one run", Crosses),
	}
}

func exclusionCases() []Case {
	two := Exclusion{Nodes: 3, Attempts: 2, Quorum: 2, TTL: 3, Drift: 1, Guard: 4, Extends: true}
	with := func(m Exclusion, attempts, restarts, fast int) Exclusion {
		m.Attempts, m.Restarts, m.Fast = attempts, restarts, fast
		return m
	}
	fine := func(m Exclusion) Exclusion { // ticks that are finer against the ttl
		m.TTL, m.Guard = 4, 5
		return m
	}
	short := func(m Exclusion) Exclusion { // leases that are extended by other ttls than they were taken for
		m.Short = 2
		return m
	}
	off := func(m Exclusion, rules ExclusionRules) Exclusion {
		m.Off = rules
		return m
	}
	cross := func(m Exclusion, limits ExclusionLimits) Exclusion {
		m.Cross = limits
		return m
	}
	restart := with(two, 2, 1, 0)
	switches := func(m Exclusion, restarts int) Exclusion { // durability is switched on within a run
		m.Restarts, m.Switches = restarts, 1
		return m
	}
	once := with(two, 3, 1, 1)
	once.Extends = false
	twice := switches(two, 2)
	twice.Extends = false
	// The shortest way to two holders is a long one: it takes seconds.
	extend := off(fine(restart), ExclusionRules{GuardExtend: true}).
		breaks("GuardExtend", "a confirmation by a node that may not vote counts", Breaks)
	extend.Slow = true
	keeps := func(m Exclusion) Exclusion { // leases that are given up by ReleaseAfter
		m.Keeps, m.Extends = true, m.Restarts+m.Fast == 0 // all of it at once is too much
		return m
	}
	return []Case{
		keeps(two).holds("", "", false),
		keeps(with(two, 2, 0, 1)).holds("", "", true),
		keeps(restart).holds("", "", true),
		with(two, 3, 0, 0).holds("", "", false),
		with(two, 2, 0, 1).holds("", "", false),
		fine(two).holds("", "", false),
		short(fine(two)).holds("", "", true),
		restart.holds("", "", true),
		once.holds("", "", true),
		switches(two, 1).holds("", "", true),
		twice.holds("", "", false),
		cross(with(two, 3, 0, 0), ExclusionLimits{FlushWhole: true}).
			holds("FlushWhole", "FLUSHALL on one node, under a lease that stands on all with nothing under way", true),
		off(restart, ExclusionRules{Guard: true}).breaks("Guard", "a node votes as soon as it has restarted", Breaks),
		off(switches(two, 1), ExclusionRules{Proof: true}).breaks("Proof", "a node that is durable votes at once, also if that was switched on in this run", Breaks),
		off(restart, ExclusionRules{GuardLength: true}).breaks("GuardLength", "the guard time is shorter than the ttl", Breaks),
		extend,
		off(two, ExclusionRules{FromStart: true}).breaks("FromStart", "validity counts from the last reply, not from before the requests", Breaks),
		off(with(two, 2, 0, 1), ExclusionRules{DriftMargin: true}).breaks("DriftMargin", "validity is the whole ttl, and a node's clock is fast", Breaks),
		off(with(two, 3, 0, 0), ExclusionRules{ReleaseMine: true}).breaks("ReleaseMine", "a release does not ask whose the lock is", Breaks),
		off(two, ExclusionRules{Majority: true}).breaks("Majority", "half of the nodes are enough", Breaks),
		off(fine(restart), ExclusionRules{ExtendBlind: true}).breaks("ExtendBlind", "an extend makes the lock anew where it is missing, and that counts", Breaks),
		off(fine(restart), ExclusionRules{RepairCounts: true}).breaks("RepairCounts", "a repair counts in the round that brought it", Breaks),
		off(with(two, 3, 0, 0), ExclusionRules{RepairAbsent: true}).breaks("RepairAbsent", "a repair does not ask whether another has the lock by now", Breaks),
		off(short(fine(two)), ExclusionRules{Lengthens: true}).breaks("Lengthens", "an extend for a shorter ttl shortens the lock", Breaks),
		off(two, ExclusionRules{Deadline: true}).breaks("Deadline", "an extend that is confirmed after the local deadline counts", Breaks),
		off(restart, ExclusionRules{FreesAtLoss: true}).breaks("FreesAtLoss", "an extend that finds the lease lost frees what is left of it", Breaks),
		off(keeps(fine(two)), ExclusionRules{KeepUnsure: true}).breaks("KeepUnsure", "a key is said to be kept when one node has confirmed it", Breaks),
		off(keeps(two), ExclusionRules{KeepShort: true}).breaks("KeepShort", "a request to keep a key does not ask for all of the time that is left", Breaks),
		cross(two, ExclusionLimits{Flush: true}).breaks("Flush", "FLUSHALL, DEL or eviction on one node of three", Crosses),
		cross(two, ExclusionLimits{Jump: true}).breaks("Jump", "one node's clock steps forward", Crosses),
		cross(two, ExclusionLimits{Older: true}).breaks("Older", "one node goes back to what it had saved, and votes", Crosses),
		cross(restart, ExclusionLimits{Uptime: true}).breaks("Uptime", "the clock of a node that has restarted steps forward by the guard time", Crosses),
		cross(switches(two, 2), ExclusionLimits{SwitchedOn: true}).breaks("SwitchedOn", "a node restarts that was made durable within the guard time", Crosses),
		cross(two, ExclusionLimits{Unguarded: true}).breaks("Unguarded", "one node restarts without its data and does not report its uptime", Crosses),
	}
}

// Walks takes random walks through more nodes and attempts than can be searched, first
// of the tokens, then of exclusion, and says what was found.
func Walks(rng *rand.Rand, walks int) (tokens, exclusion Result) {
	t, e := walked()
	return Walk[TokenState](t, rng, walks, 200), Walk[ExclusionState](e, rng, walks, 200)
}

func walked() (Tokens, Exclusion) {
	t := Tokens{Nodes: 5, Attempts: maxAttempts, Quorum: 3, Counts: 12, Restarts: 3, Forgets: 1, Repairs: true, Raises: 1}
	e := Exclusion{Nodes: 5, Attempts: maxAttempts, Quorum: 3, TTL: 4, Short: 2, Drift: 1, Guard: 5, Restarts: 3, Fast: 1, Extends: true}
	return t, e
}
