package redlock

import (
	"cmp"
	"log/slog"
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
	"github.com/tonsurance/lockkeeper/redlock/internal/server"
)

// agreeing is one round of asking nodes.
type agreeing struct {
	start   time.Time
	reading int           // nodes whose answer to what they have is still to come
	shown   int           // nodes that have shown it
	open    int           // nodes that are not done
	learned chan struct{} // closed when all, or enough, have shown it
	done    chan struct{} // closed at the end of waiting; late answers count all the same
	timers  []*time.Timer
}

// begin starts a round with the nodes that are due. mu is held, and the caller has called
// the locker's begin, so that the locker waits for it.
func (a *agreement) begin(lasting time.Duration) {
	r := &agreeing{start: time.Now(), learned: make(chan struct{}), done: make(chan struct{})}
	for i := range a.at {
		if a.due(&a.at[i], lasting) {
			a.at[i].busy, a.at[i].sent = true, r.start
			r.open++
			a.l.wg.Add(1)
			go a.ask(i, r)
		}
	}
	r.reading, r.shown, a.round = r.open, len(a.at)-r.open, r
	r.timers = append(r.timers, time.AfterFunc(a.l.opts.NodeTimeout, func() { a.locked(func() { a.end(r) }) }))
}

func (a *agreement) locked(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
}

// end ends the waiting for a round. mu is held.
func (a *agreement) end(r *agreeing) {
	if a.round != r {
		return
	}
	a.round, a.begun = nil, true
	r.learnedAll()
	close(r.done)
	for _, t := range r.timers {
		t.Stop()
	}
}

// learnedAll lets the nodes be asked to agree. mu is held.
func (r *agreeing) learnedAll() {
	select {
	case <-r.learned:
	default:
		close(r.learned)
	}
}

// step calls do once none of the round's nodes is left to come to this step or, if a quorum
// of all nodes (have) is through it, after a grace for the slower ones. mu is held.
func (a *agreement) step(r *agreeing, left, have int, do func()) {
	switch {
	case left == 0:
		do()
	case have >= a.l.opts.Quorum && a.round == r:
		grace := min(agreeGrace*time.Since(r.start), a.l.opts.NodeTimeout/4)
		r.timers = append(r.timers, time.AfterFunc(grace, func() { a.locked(do) }))
	}
}

// ask agrees with node i, if that can be.
func (a *agreement) ask(i int, r *agreeing) {
	defer a.l.wg.Done()
	a.mu.Lock()
	s := &a.at[i]
	a.mu.Unlock()
	there, left, err := a.send(i, "", "", 0)
	// What the nodes say of themselves is part of what is written, and nothing is written
	// if one has others' terms: so all are looked at before.
	a.locked(func() {
		if r.reading--; err == nil {
			s.shown, s.there, s.left = true, there, left
		}
		if err == nil || nodeerr.KeyForbidden(err) { // a node without permission counts all the same, see uncheckable
			r.shown++
		}
		a.step(r, r.reading, r.shown, r.learnedAll)
	})
	select {
	case <-r.learned:
	case <-a.l.done:
		err = cmp.Or(err, nodeerr.ErrClosed)
	}
	if err == nil && there == "" {
		// A client that finds no quorum gets no lease, so that its terms protect nothing: they
		// would only refuse those who come with the right ones.
		a.locked(func() {
			if r.shown < a.l.opts.Quorum {
				err = errNoQuorum
			}
		})
	}
	if err == nil {
		err = a.offer(i, there, left)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.busy, s.err, s.shown = false, err, false
	if nodeerr.KeyForbidden(err) {
		a.uncheckable(i, err)
	}
	close(a.changed)
	a.changed = make(chan struct{})
	r.open--
	a.step(r, r.open, a.stand(), func() { a.end(r) })
	if err == nil && a.round == nil && slices.ContainsFunc(a.at, func(s agreedNode) bool { return !s.busy && s.err == nil && s.known != a.known }) {
		a.begin(never) // the slowest has shown who it is after others agreed
	}
}

// offer writes this client's terms to node i, which has those that are there, if that can be.
func (a *agreement) offer(i int, there string, left time.Duration) error {
	for range agreeTries { // others who agree at the same moment come in between
		mine, err := a.joinAll(i, there, left)
		if err != nil {
			return err
		}
		start, known := time.Now(), there
		a.mu.Lock()
		ttl := a.remembered()
		a.mu.Unlock()
		if there, left, err = a.send(i, mine, known, ttl); err != nil {
			return err
		}
		// Where the memory is full the node keeps what was known, for as long: that was
		// compared with this client's terms, and says the same.
		if there == mine || known != "" && there == known {
			a.stands(i, start.Add(ttl))
			return nil
		}
	}
	return errNotAgreed
}

// send offers mine in place of known, or asks only, and gives what is there after it.
func (a *agreement) send(i int, mine, known string, ttl time.Duration) (there string, left time.Duration, err error) {
	ask := func() node.Answer {
		return a.l.nodes[i].Eval(script.Agree(a.l.opts.Prefix, mine, known, script.ToMillis(ttl)), node.Renewing)
	}
	got := ask()
	if nodeerr.Broken(got.Err) && !nodeerr.Silence(got.Err) {
		got = ask() // a connection that ended while nobody used it; to ask twice is no harm
	}
	agreed, err := parseAgree(got)
	if err == nil {
		a.locked(func() { a.learn(i, server.ParseInfo(agreed.Info)) })
	}
	return agreed.Text, agreed.Left, err
}

// stands notes that node i has this client's terms until that time, which is counted from
// before the request.
func (a *agreement) stands(i int, until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.at[i]
	s.refusal, s.logged = nil, ""
	s.until = node.At(until)
}

// joinAll gives what to write to node i in place of what is there, or why not: this
// node's terms, or those that another one was seen to have, are others'.
func (a *agreement) joinAll(i int, there string, left time.Duration) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at[i].there, a.at[i].left, a.at[i].known = there, left, a.known
	text, err := a.join(i, there, left)
	for j := range a.at {
		if s := &a.at[j]; j != i && s.shown {
			_, _ = a.join(j, s.there, s.left)
		}
	}
	return text, cmp.Or(err, a.refusal())
}

// join gives what to write to node i in place of what is there, or why not. mu is held.
func (a *agreement) join(i int, there string, left time.Duration) (string, error) {
	mine := a.mine()
	if there == "" {
		a.at[i].refusal = nil
		return mine.text(), nil
	}
	others, err := parseTerms(there)
	if err != nil {
		return "", err
	}
	if joined, ok := mine.join(others, a.l.ago(left)); ok {
		a.at[i].refusal, a.at[i].doubtful = nil, mine.doubts(others, a.l.ago(left))
		return joined.text(), nil
	}
	n, s := a.l.nodes[i], &a.at[i]
	a.lacks(s)
	s.refusal = a.l.differ(n, others, mine, a.remembered(), left)
	if left < 0 { // it never ends: somebody has set it by hand
		left = a.remembered()
	}
	s.refused = time.Now().Add(left)
	if s.logged != there {
		s.logged = there
		n.Log(slog.LevelWarn, "clients with other nodes, another quorum or restart guard use the same locks: nothing is acquired before all have the same", "err", s.refusal)
	}
	return "", s.refusal
}

// ago is how long ago terms that have this time left were written, at most. Without a guard
// it is not known: they can be another client's with longer leases.
func (l *Locker) ago(left time.Duration) time.Duration {
	if l.opts.RestartGuard == -1 {
		return lock.MaxTTL
	}
	return max(0, max(l.opts.RestartGuard, leastRemembered)-left)
}

// mine are this client's terms, as far as it knows the servers. mu is held.
func (a *agreement) mine() terms {
	members := make([]member, len(a.l.nodes))
	for i, n := range a.l.nodes {
		s, m := &a.at[i], &members[i]
		m.Name = n.Name
		if len(s.runs) > 0 {
			// Seconds, for the text to stay the same where all are asked together.
			m.Run, m.earlier, m.Port = s.runs[len(s.runs)-1], s.runs, s.port
			m.Seen, m.uptime = int64(time.Since(s.seen)/time.Second), s.up
		}
	}
	return a.l.terms(members)
}

// learn notes what the server says of itself. mu is held.
func (a *agreement) learn(i int, info server.Info) {
	s, run := &a.at[i], info["run_id"]
	if run == "" || !a.l.nodes[i].Conn.Single() {
		return
	}
	s.port, s.seen, s.up = info["tcp_port"], time.Now(), info.Uptime()
	if len(s.runs) > 0 && s.runs[len(s.runs)-1] == run {
		return
	}
	a.known++
	if s.runs = append(s.runs, run); len(s.runs) > maxRuns {
		s.runs = s.runs[1:]
	}
}

// uncheckable: the user may not use the key of the terms, since its permissions are older
// than that key. The node's votes count as they did then, and the log says so. mu is held.
func (a *agreement) uncheckable(i int, err error) {
	n, s := a.l.nodes[i], &a.at[i]
	s.until = node.Now() + a.remembered()
	s.known = a.known
	if s.logged != err.Error() {
		s.logged = err.Error()
		n.Log(slog.LevelWarn, "redis node can't show whether all clients have the same nodes, quorum and restart guard: "+allowAgreed, "err", err)
	}
}

const allowAgreed = "allow its user the keys of that (ACL ~" + AgreedPrefix + "*)"

func parseAgree(a node.Answer) (script.Agreed, error) {
	if a.Err != nil {
		return script.Agreed{}, nodeerr.Shown(a.Err)
	}
	return script.ParseAgree(a.Msg)
}
