package main

import "github.com/tonsurance/lockkeeper/internal/overlay"

// mutant is a mistake that the checkers must find.
type mutant struct {
	name    string
	what    string
	changes []overlay.Change
	profile string // of the simulation that shows it; "" is any
}

func one(file, old, new string) []overlay.Change {
	return []overlay.Change{{File: file, Old: old, New: new}}
}

var mutants = []mutant{
	{name: "no-second-phase", what: "the highest count of a quorum's grants is taken for the token",
		changes: one("redlock/acquire.go", "\t\treturn 0, highest, nil\n", "\t\treturn highest, 0, nil\n")},
	{name: "no-drift", what: "validity is the whole ttl",
		changes: one("redlock/options.go", "return time.Duration(float64(ttl)*o.DriftFactor) + fixedDrift", "return 0 * ttl"), profile: "durable"},
	{name: "reply-time", what: "validity counts from the reply",
		changes: []overlay.Change{
			{File: "redlock/acquire.go", Old: "\tdrift := l.opts.drift(ttl)\n\tvalidity :=", New: "\tdrift := l.opts.drift(ttl)\n\tstart = time.Now()\n\tvalidity :="},
			{File: "redlock/extend.go", Old: "return start.Add(ttl - h.l.opts.drift(ttl)), nil", New: "_ = start\n\treturn time.Now().Add(ttl - h.l.opts.drift(ttl)), nil"},
		}},
	{name: "no-owner-check", what: "release deletes whatever is there",
		changes: one("redlock/release.go", "\tc.put(h.value, call)\n", "\tc.put(\"*\", call)\n")},
	{name: "no-cleanup", what: "a failed attempt leaves its votes",
		changes: []overlay.Change{
			{File: "redlock/release.go", Old: "func (h *hold) abandon() { h.sendRelease(false) }", New: "func (h *hold) abandon() {}"},
			{File: "redlock/acquire.go", Old: "\t\th.letGo(ctx, votes)\n", New: ""},
		}},
	{name: "blind-extend", what: "a node that lost the lock takes it again, and counts",
		changes: one("redlock/extend.go", "yes, no, open := r.count(confirmed), r.count(missing)+r.count(taken), r.count(silent)", "yes, no, open := r.count(confirmed)+r.count(missing), r.count(taken), r.count(silent)")},
	{name: "half-quorum", what: "N/2 nodes are a quorum",
		changes: []overlay.Change{
			{File: "redlock/options.go", Old: "\tif 2*o.Quorum <= nodes || o.Quorum > nodes {", New: "\to.Quorum = max(nodes/2, 1)\n\tif o.Quorum > nodes {"},
		}},
	{name: "no-guard", what: "a node votes at once after a restart",
		changes: one("redlock/options.go", "if o.RestartGuard == -1 || o.AssumeDurable {", "if o.RestartGuard != 0 {"), profile: "guarded"},
	{name: "no-deadline", what: "a keeper ends its context only when the store says so",
		changes: one("keepalive/renew.go", "return min(k.deadline.Sub(now), expiry.Sub(now)-k.opts.margin)", "return k.ttl")},
	{name: "early-release", what: "a leader releases when its context ends, while fn runs",
		changes: one("leader/leader.go", "\te.setEnding(k)\n\tselect {\n\tcase <-k.Lost():", "\te.setEnding(k)\n\t_ = k.Release(context.Background())\n\tselect {\n\tcase <-k.Lost():")},
	{name: "one-commit", what: "one node's answer in the second phase is enough for the token",
		changes: one("redlock/acquire.go", "case same >= h.l.opts.Quorum:\n\t\t\t\tagreed = token", "case same >= 1:\n\t\t\t\tagreed = token")},
}
