package main

import (
	"slices"

	"github.com/tonsurance/lockkeeper/internal/overlay"
)

// mutant is a mistake that the checkers must find.
type mutant struct {
	name    string
	what    string
	changes []overlay.Change
	profile string   // of the simulation that shows it; "" is any
	seed    uint64   // of the simulation's first run, near one that shows it; 0 is -seed
	tests   bool     // the simulation is not asked: a test must fail
	records bool     // it is one of the record engine, which has a simulation of its own
	moves   bool     // the simulation is that of a fleet that changes stores
	waits   bool     // the simulation's programs wait in the nodes' queues
	in      []string // the tests that may find it; nil: those of the layers above the stores
}

// simulation is the package that simulates what the mutant is in.
func (m mutant) simulation() string {
	switch {
	case m.records:
		return "./internal/simulation/records"
	case m.moves:
		return "./internal/simulation/moves"
	}
	return "./internal/simulation"
}

// packages are those whose tests may find it.
func (m mutant) packages() []string {
	switch {
	case m.records:
		return []string{"./backends/record"}
	case m.in != nil:
		return m.in
	}
	return []string{"./lock", "./redlock", "./keepalive", "./leader"}
}

func one(file, old, new string) []overlay.Change {
	return []overlay.Change{{File: file, Old: old, New: new}}
}

var mutants = slices.Concat(quorumMutants, waitingMutants, recordMutants, moveMutants, s3Mutants, kubernetesMutants)

var quorumMutants = []mutant{
	{name: "no-second-phase", what: "the highest count of a quorum's grants is taken for the token",
		changes: one("redlock/acquire.go", "\t\treturn 0, highest, nil\n", "\t\treturn highest, 0, nil\n")},
	{name: "no-drift", what: "validity is the whole ttl",
		changes: one("redlock/options.go", "return time.Duration(float64(ttl)*o.DriftFactor) + fixedDrift", "return 0 * ttl"), profile: "durable"},
	{name: "reply-time", seed: 63, what: "validity counts from the reply",
		changes: []overlay.Change{
			{File: "redlock/acquire.go", Old: "\tdrift := l.opts.drift(ttl)\n\tvalidity :=", New: "\tdrift := l.opts.drift(ttl)\n\tstart = time.Now()\n\tvalidity :="},
			{File: "redlock/extending.go", Old: "return start.Add(ttl - h.l.opts.drift(ttl)), nil", New: "_ = start\n\treturn time.Now().Add(ttl - h.l.opts.drift(ttl)), nil"},
		}},
	{name: "no-owner-check", what: "release deletes whatever is there",
		changes: one("redlock/release.go", "return script.Release(h.keys, h.value, waiter, r.leaves, h.l.opts.retention, n.Guard())", "_ = waiter\n\t\treturn script.ForceRelease(h.keys, h.l.opts.retention, n.Guard())")},
	{name: "no-cleanup", what: "a failed attempt leaves its votes",
		changes: []overlay.Change{
			{File: "redlock/release.go", Old: "func (h *hold) abandon() { h.sendRelease() }", New: "func (h *hold) abandon() {}"},
			{File: "redlock/acquire.go", Old: "\t\th.rollBack(ctx, votes)\n", New: ""},
		}},
	{name: "blind-extend", what: "a node that lost the lock takes it again, and counts", tests: true,
		changes: one("redlock/extending.go", "yes, no, open := r.count(script.Confirmed), r.count(script.Missing)+r.count(script.Taken), r.count(script.Silent)", "yes, no, open := r.count(script.Confirmed)+r.count(script.Missing), r.count(script.Taken), r.count(script.Silent)")},
	{name: "half-quorum", what: "N/2 nodes are a quorum",
		changes: []overlay.Change{
			{File: "redlock/options.go", Old: "\tif 2*o.Quorum <= nodes || o.Quorum > nodes {", New: "\to.Quorum = max(nodes/2, 1)\n\tif o.Quorum > nodes {"},
		}},
	{name: "no-guard", what: "a node votes at once after a restart",
		changes: one("redlock/options.go", "if o.RestartGuard == -1 || o.AssumeDurable {", "if o.RestartGuard != 0 {"), profile: "guarded"},
	{name: "no-deadline", what: "a keeper ends its context only when the store says so",
		changes: one("keepalive/renew.go", "return min(k.deadline().Sub(now), expiry.Sub(now)-k.margin)", "return k.ttl")},
	{name: "early-release", what: "a leader releases when its context ends, while fn runs",
		changes: one("leader/leader.go", "\te.setEnding(k)\n\tselect {\n\tcase <-k.Lost():", "\te.setEnding(k)\n\t_ = k.Release(context.Background())\n\tselect {\n\tcase <-k.Lost():")},
	{name: "recreating-extend", what: "an extend makes the lock anew where it is missing", tests: true,
		changes: []overlay.Change{
			{File: "redlock/internal/script/lua/extend.lua", Old: "  if not holder then return {2, run} end\n", New: "  if not holder then redis.call('SET', lock, value, 'PX', ttl) end\n"},
			{File: "internal/simulation/scripts.go", Old: "\t\treturn []any{int64(2), run}\n", New: "\t\tn.data.locks[lock] = lockEntry{value, n.clock() + millis(ttl)}\n"},
		}},
	{name: "repair-lowers", what: "a repair sets the count to the lease's token, even if it was higher", tests: true,
		changes: []overlay.Change{
			{File: "redlock/internal/script/lua/repair.lua", Old: "    if tonumber(digits) > tonumber(token) then token = nil end\n", New: ""},
			{File: "internal/simulation/scripts.go", Old: "count > t {\n", New: "count > t && t < 0 {\n"},
		}},
	{name: "prolonged-confirms", what: "a confirmation by a node that may have forgotten counts", tests: true,
		changes: one("redlock/internal/script/reply.go", "return sitsOut(Prolonged, part)", "return Reply{Kind: Confirmed}, nil")},
	{name: "loss-frees", what: "an extend that finds a loss frees what is left at once", tests: true,
		changes: one("redlock/extending.go", "\t\th.ends(false)\n\t\tn, q :=", "\t\th.abandon()\n\t\tn, q :=")},
	{name: "durable-now", in: []string{"./redlock/internal/server"}, what: "the present configuration shows that a node is durable", tests: true,
		changes: one("redlock/internal/server/durable.go", "\tcase called(info[\"cmdstat_config|set\"]):\n", "\tcase false:\n")},
	{name: "other-nodes", what: "clients with other nodes agree", tests: true,
		changes: one("redlock/agreement.go", "if !same || t.Quorum != others.Quorum || t.Guard != others.Guard {", "if same && false {")},
	{name: "late-extend", what: "an extend that is answered after the lease's end counts", tests: true,
		changes: []overlay.Change{
			{File: "lock/lease.go", Old: "context.WithDeadline(ctx, deadline)", New: "context.WithCancel(ctx)"},
			{File: "lock/start.go", Old: "\tcase !l.heldUntil(l.deadlineAt(o.suspension)):\n\t\t// The old deadline passed", New: "\tcase false:\n\t\t// The old deadline passed"},
		}},
	{name: "one-commit", what: "one node's answer in the second phase is enough for the token", tests: true,
		changes: one("redlock/acquire.go", "case same >= h.l.opts.Quorum:\n\t\t\t\tagreed = token", "case same >= 1:\n\t\t\t\tagreed = token")},
	{name: "short-keep", seed: 77, what: "a key that is kept after its lease ends early",
		changes: one("redlock/keep.go", "min(left+l.opts.drift(left), l.MaxReleaseAfter())", "min(left/2, l.MaxReleaseAfter())")},
	{name: "votes-first", what: "votes go before renewals and releases", tests: true,
		changes: one("redlock/acquire.go", "{parse: script.ParseAcquire, sets: true, attempt: true, votes: true, class: node.Voting,\n", "{parse: script.ParseAcquire, sets: true, attempt: true, votes: true, class: node.Renewing,\n")},
	{name: "release-no-count", tests: true, in: []string{"./redlock"}, what: "a release leaves a node that lags as it is",
		changes: one("redlock/release.go", "script.ToToken(h.token)", "script.ToToken(0)")},
	{name: "release-counts-freed", tests: true, in: []string{"./redlock"}, what: "a release raises the count of a lock that is not its own",
		changes: one("redlock/internal/script/lua/release.lua", "holder == value and token or ''", "token")},
	{name: "release-counts-any-run", tests: true, in: []string{"./redlock"}, what: "a release raises a count of an earlier run",
		changes: one("redlock/internal/script/lua/pass_on.lua", " or counted[2] ~= server(0) then", " then")},
	{name: "no-completion", what: "a node that lags behind a lease is not asked again", tests: true,
		changes: one("redlock/complete.go", "completions   = 8\n", "completions   = 0\n")},
}
