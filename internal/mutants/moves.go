package main

import "github.com/tonsurance/lockkeeper/internal/overlay"

// moveMutants are mistakes in what a fleet changes stores by, one for each rule of
// lock.Both and of raised tokens.
var moveMutants = []mutant{
	{name: "both-not-raised", moves: true, what: "tokens are not raised: a lease has that of the old store",
		changes: one("lock/both.go", "if err := level(ctx, leases); err != nil {", "if err := ctx.Err(); err != nil {")},
	{name: "both-old-not-raised", moves: true, profile: "orderly", what: "the token is raised in the new store alone",
		changes: one("lock/both.go", "\t\t\tif err := RaiseToken(ctx, l, token); err != nil {\n\t\t\t\treturn err\n\t\t\t}\n", "\t\t\tif l == leases[0] {\n\t\t\t\tcontinue\n\t\t\t}\n\t\t\tif err := RaiseToken(ctx, l, token); err != nil {\n\t\t\t\treturn err\n\t\t\t}\n\t\t\tif l.Token() == token {\n\t\t\t\treturn nil\n\t\t\t}\n")},
	{name: "both-new-not-raised", moves: true, profile: "orderly", what: "the token is raised in the old store alone",
		changes: one("lock/both.go", "\t\t\tif err := RaiseToken(ctx, l, token); err != nil {\n\t\t\t\treturn err\n\t\t\t}\n", "\t\t\tif l == leases[1] {\n\t\t\t\tcontinue\n\t\t\t}\n\t\t\tif err := RaiseToken(ctx, l, token); err != nil {\n\t\t\t\treturn err\n\t\t\t}\n\t\t\tif l.Token() == token {\n\t\t\t\treturn nil\n\t\t\t}\n")},
	{name: "both-raise-hoped-for", moves: true, what: "a raise that failed grants all the same",
		changes: one("lock/both.go", "\tif err := level(ctx, leases); err != nil {\n\t\treturn nil, err\n\t}\n", "\t_ = level(ctx, leases)\n")},
	{name: "both-old-alone", moves: true, profile: "orderly", what: "a lease is as good as that of the old store",
		changes: []overlay.Change{
			{File: "lock/both.go", Old: "if e := leases[1].Expiry(); e.Before(expiry) {", New: "if e := leases[1].Expiry(); e.IsZero() {"},
			{File: "lock/both.go", Old: "s := &Set{members: leases,", New: "s := &Set{members: leases[:1],"},
		}},
	{name: "both-one-store", moves: true, profile: "orderly", what: "a refusal by the new store is as good as a lease",
		changes: one("lock/both.go", "\tif lost := h.stop(); lost != nil {", "\tif errors.Is(err, ErrHeld) {\n\t\tleases[1], err = leases[0], nil\n\t}\n\tif lost := h.stop(); lost != nil {")},
	{name: "both-not-given-back", tests: true, in: []string{"./lock"}, what: "an attempt that the new store refused keeps the old one",
		changes: one("lock/both.go", "\t\tif left := b.giveBack(ctx, leases); left != nil {", "\t\tif left := b.giveBack(ctx, leases[1:]); left != nil {")},
	{name: "both-old-released-first", tests: true, in: []string{"./lock"}, what: "the old store is released first",
		changes: one("lock/both.go", "start: time.Now(), inTurn: true}", "start: time.Now(), inTurn: false}")},
	{name: "both-old-left-to-expire", tests: true, in: []string{"./lock"}, what: "the old store is not extended while the new one is waited for",
		changes: one("lock/both.go", "h := holdOn(ctx, leases[0], ttl, refused != nil)", "h := holdOn(ctx, leases[0], ttl, false)")},
	{name: "both-unraisable", tests: true, in: []string{"./lock"}, what: "a store that can't raise is noticed only where the counts differ",
		changes: one("lock/both.go", "\t\t\tif err := RaiseToken(ctx, l, token); err != nil {", "\t\t\tif l.Token() == token {\n\t\t\t\tcontinue\n\t\t\t}\n\t\t\tif err := RaiseToken(ctx, l, token); err != nil {")},
	{name: "raise-late", tests: true, in: []string{"./lock"}, what: "a raise that is answered after the lease's end counts",
		changes: one("lock/raise.go", "\tcase !l.held():\n", "\tcase false:\n")},
	{name: "raise-memory-uncounted", moves: true, profile: "orderly", what: "memory shows a raised token, and does not count on from it",
		changes: one("backends/memory/memory.go", "\ts.token = max(s.token, least)\n", "")},
	{name: "raise-record-unwritten", moves: true, profile: "orderly", what: "the record engine says that a token is raised, and does not write it",
		changes: []overlay.Change{
			{File: "backends/record/term.go", Old: "\tr.Token = max(r.Token, t.least)\n", New: ""},
			{File: "backends/record/term.go", Old: "\treturn t.record.Token, err\n}\n\n// rewrite", New: "\treturn t.least, err\n}\n\n// rewrite"},
		}},
	{name: "raise-record-another-term", records: true, tests: true, what: "a term whose token is raised is another one",
		changes: one("backends/record/store.go", "func (r Record) sameTerm(o Record) bool { return r.Term == o.Term }", "func (r Record) sameTerm(o Record) bool { return r.Token == o.Token && r.Term == o.Term }")},
	{name: "raise-record-shortens", tests: true, in: []string{"./backends/record"}, what: "a raise lets the record stand for less than the lease counts on",
		changes: one("backends/record/term.go", "_, err = t.rewrite(ctx, key, lasting(max(time.Until(t.expiry), time.Microsecond)), true)", "_, err = t.rewrite(ctx, key, max(time.Until(t.expiry)/2, time.Microsecond), false)")},
	{name: "raise-file-anybody", tests: true, in: []string{"./backends/file"}, what: "a directory's record with the raised token is taken for one's own, no matter who has it",
		changes: one("backends/file/term.go", "\treturn r.Since == t.since && t.l.isMine(r.Life)\n", "\treturn r.Token == t.raised\n")},
	{name: "raise-redlock-unagreed", tests: true, in: []string{"./redlock"}, what: "redlock says that a token is raised, and asks no node",
		changes: one("redlock/raise.go", "\terr := h.agree(ctx, ttl, until, least)\n\th.mu.Lock()\n", "\tvar err error\n\t_, _ = ttl, until\n\th.mu.Lock()\n\th.token = least\n")},
	{name: "raise-redlock-repaired", tests: true, in: []string{"./redlock"}, what: "a token is raised although a repair may have been sent",
		changes: one("redlock/raise.go", "\tcase repaired:\n", "\tcase repaired && ttl == \"\":\n")},
}
