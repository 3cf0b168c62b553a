package main

import "github.com/tonsurance/lockkeeper/internal/overlay"

const (
	machine = "redlock/internal/waiting/machine.go"
	reports = "redlock/internal/waiting/reports.go"
	rules   = "redlock/internal/waiting/rules.go"
	standIO = "redlock/standing.go"
	lua     = "redlock/internal/script/lua/"
	port    = "internal/simulation/standing.go"
)

var (
	inMachine = []string{"./redlock/internal/waiting"}
	inScripts = []string{"./redlock/internal/script"}
)

// waitingMutants are mistakes in how requests stand and are granted, one for each rule.
var waitingMutants = []mutant{
	{name: "wait-from-report", tests: true, in: inMachine, what: "a lease counts from the report of the grant",
		changes: one(rules, "start := sent[len(sent)-m.cfg.Quorum] - m.ahead", "start := now")},
	{name: "wait-push-unstamped", tests: true, in: inMachine, what: "a push counts from the latest request that was answered",
		changes: one(reports, "\tn.granted, n.grant = true, g\n", "\tn.granted, n.grant = true, Grant{g.Count, m.last, g.Position}\n")},
	{name: "wait-answer-unstamped", tests: true, in: inScripts, what: "an answer counts from the request that it answers",
		changes: one(lua+"stand.lua", "    return {1, sign * n, stamp, position}", "    return {1, sign * n, tonumber(waited), position}")},
	{name: "wait-any-count", tests: true, in: inMachine, what: "nodes that counted differently agree on a token",
		changes: one(rules, "if m.nodes[j].granted && m.nodes[j].grant.Count == n.grant.Count {", "if m.nodes[j].granted {")},
	{name: "wait-same-value", waits: true, what: "a waiter that has handed back goes on with the same value",
		changes: one(standIO, "\tif attempt == 0 {\n\t\treturn \"\"\n\t}\n", "\tif attempt == 0 {\n\t\treturn \"\"\n\t}\n\tattempt = 1\n")},
	{name: "wait-confirmed-late", tests: true, in: inMachine, what: "a confirmed lease counts from the answers",
		changes: one(rules, "expiry := m.confirmed + m.cfg.TTL - m.cfg.TTLDrift", "expiry := now + m.cfg.TTL - m.cfg.TTLDrift")},
	{name: "wait-confirmed-otherwise", tests: true, in: inMachine, what: "an answer above the token confirms it",
		changes: []overlay.Change{
			{File: rules, Old: "\tcase a.Result == Confirmed && a.Count > m.token:\n", New: "\tcase false:\n"},
			{File: rules, Old: "\tcase a.Result == Confirmed && a.Count == m.token:\n", New: "\tcase a.Result == Confirmed:\n"},
		}},
	{name: "wait-guard", waits: true, what: "a node that may have forgotten passes the lock on",
		changes: []overlay.Change{
			{File: lua + "pass_on.lua", Old: "    return not short and pass_on(", New: "    return pass_on("},
			{File: lua + "stand.lua", Old: "take == '1' and not short then", New: "take == '1' then"},
			{File: port, Old: "s.take && short == 0 {", New: "s.take {"},
			{File: "internal/simulation/scripts.go", Old: "\tif run, _, short := n.vote(least, durable); short == 0 {\n\t\tpassed,", New: "\tif run, _, _ := n.vote(least, durable); true {\n\t\tpassed,"},
		}},
	{name: "wait-hand-back-blind", waits: true, what: "a hand-back does not ask whose the lock is",
		changes: []overlay.Change{
			{File: lua + "stand.lua", Old: "  if holder and holder == instead then", New: "  if holder and instead ~= '' then"},
			{File: port, Old: "\tif isHeld && holder.value == s.instead {", New: "\tif isHeld && s.instead != \"\" {"},
		}},
	{name: "wait-passed-on-held", waits: true, what: "a process that looks passes the lock on, though another holds it",
		changes: []overlay.Change{
			{File: lua + "stand.lua", Old: "  if not holder and take == '1'", New: "  if take == '1'"},
			{File: port, Old: "; !isHeld && s.take", New: "; s.take"},
		}},
	{name: "wait-takes-back", tests: true, in: inMachine, what: "who hands back takes what is free in the same step",
		changes: one(rules, "\tm.begin(now)\n\tm.standAll(false)\n", "\tm.begin(now)\n\tm.standAll(true)\n")},
	{name: "wait-out-of-reach", tests: true, in: inMachine, what: "who has handed back takes again though others hold too many nodes",
		changes: one(rules, "\t\t\tb++\n", "\t\t\tb += 0\n")},
	{name: "wait-other-last", tests: true, in: inMachine, what: "a waiter is preferred to a holder with as many votes that is no waiter",
		changes: one(rules, "c := contender{n.holder.Value, \"\", 1, math.MinInt64}", "c := contender{n.holder.Value, \"\", 1, math.MaxInt64}")},
	{name: "wait-no-order", tests: true, in: inMachine, what: "at a tie each prefers the other",
		changes: one(rules, "c.votes == best.votes && (c.position < best.position || c.position == best.position && c.name < best.name)", "c.votes == best.votes")},
	{name: "wait-for-silent", tests: true, in: inMachine, what: "a node that does not answer is waited for",
		changes: one(machine, "\t\tm.lateAt, m.late = 0, true\n", "\t\tm.lateAt = 0\n")},
	{name: "wait-old-answers", tests: true, in: inMachine, what: "answers from before the first grant count against it",
		changes: one(rules, "fresh := n.seen >= m.since && (n.known || n.failed)", "fresh := n.known || n.failed")},
	{name: "wait-no-refresh", tests: true, in: inMachine, what: "waiters do not refresh",
		changes: one(machine, "\tif now >= m.refreshAt || expired {\n", "\tif false {\n")},
	{name: "wait-unwanted", tests: true, in: inMachine, what: "a grant that nobody wants is left to its end",
		changes: one(reports, "\tcase attempt < m.attempt, m.phase == over, m.released:\n\t\tm.unwanted(now, n, attempt)\n", "\tcase attempt < m.attempt, m.phase == over, m.released:\n")},
	{name: "wait-no-leave", tests: true, in: inMachine, what: "who gives up leaves nothing",
		changes: one(machine, "if n := &m.nodes[i]; n.asked {\n\t\t\t\tm.owe(n, m.attempt, \"\")", "if n := &m.nodes[i]; n.asked && false {\n\t\t\t\tm.owe(n, m.attempt, \"\")")},
	{name: "wait-by-arrival", tests: true, in: inScripts, what: "the queue is in the order in which requests arrive",
		changes: one(lua+"stand.lua", "  local position = now - waited\n", "  local position = now\n")},
	{name: "wait-barging", tests: true, in: inScripts, what: "an attempt takes a free lock that has a queue",
		changes: one(lua+"acquire.lua", "  if counted[3] == '1' then\n", "  if counted[3] == '9' then\n")},
	{name: "wait-release-alone", tests: true, in: inScripts, what: "a release passes nothing on",
		changes: one(lua+"pass_on.lua", "    if counted[3] ~= '1' then return nil end\n", "    if true then return nil end\n")},
	{name: "wait-dead", tests: true, in: inScripts, what: "a waiter that nobody listens for is granted the lock",
		changes: one(lua+"pass_on.lua", "  return redis.pcall('PUBSUB', 'NUMSUB', request.channel)[2] ~= 0\n", "  return true\n")},
	{name: "wait-not-fresh", tests: true, in: inScripts, what: "a request is granted that nobody has refreshed",
		changes: one(lua+"pass_on.lua", "(waiter == me or request.fresh >= now)", "true")},
	{name: "wait-late", tests: true, in: inScripts, what: "a late request takes the place of a later one",
		changes: one(lua+"stand.lua", "  local late = before and tonumber(waited) < tonumber(before.stamp)\n", "  local late = false\n")},
	{name: "wait-handed-to-head", tests: true, in: inScripts, what: "what is handed back goes to the head of the queue",
		changes: one(lua+"stand.lua", "pass_on(lock, fence, counted, run, retention, nil, to)", "pass_on(lock, fence, counted, run, retention)")},
}
