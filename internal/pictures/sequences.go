package main

// handoff draws a release that grants the lock to the first waiter.
func handoff() string {
	c := newCanvas(760, 410, "Direct hand-off",
		"Two waiters' requests stand in a queue in the nodes. The holder's release grants the lock to the first of them, in the same step. The next holder has it one message to the nodes and one back after the release. The second waiter receives nothing.")
	c.text(24, 32, "start", "h", "Direct hand-off: the release grants the lock to the first in the queue")
	c.text(24, 52, "start", "m", "Each arrow goes to, or comes from, every node of the quorum")
	s := newSequence(c, 392, []string{"holder", "nodes", "first waiter", "second waiter"}, 84, 290, 500, 668)
	s.active(0, 112, 262, "g")
	s.message(2, 1, 134, "t", "", "stand in the queue")
	s.message(3, 1, 176, "t", "", "stand in the queue")
	s.box(s.x[1]-78, 190, 156, 28, "ns", "nl")
	s.text(s.x[1], 209, "middle", "", "queue: first, second")
	s.message(0, 1, 262, "a", "", "release")
	s.box(s.x[1]-100, 276, 200, 46, "as", "al")
	s.text(s.x[1], 295, "middle", "", "frees the lock and grants it,")
	s.text(s.x[1], 312, "middle", "", "in one step; token 42 → 43")
	s.message(1, 2, 346, "a", "", "granted, token 43")
	s.active(2, 346, 392, "g")
	s.message(1, 0, 372, "t", "dash", "released")
	s.text(s.x[2]+14, 372, "start", "m", "holds the lock")
	s.label(s.x[3], 300, "receives nothing:")
	s.label(s.x[3], 318, "it is the first now")
	return c.String()
}

// fenced draws a holder that was paused, and whose late write the resource refuses.
func fenced() string {
	c := newCanvas(760, 470, "A paused holder is fenced off",
		"A holds the lock with token 7 and writes to the database. Then A is paused, longer than its lease. B gets the lock with token 8 and writes. A wakes and sends its write with token 7: the database has seen 8 and refuses it.")
	c.text(24, 32, "start", "h", "A paused holder is fenced off by its token")
	c.text(24, 52, "start", "m", "No lock can stop a process that was paused. The resource can, if each write carries the token")
	s := newSequence(c, 452, []string{"A", "lock", "B", "database"}, 110, 280, 450, 650)
	s.active(0, 124, 206, "g")
	s.message(1, 0, 124, "t", "", "granted, token 7")
	s.message(0, 3, 168, "g", "", "write, token 7")
	s.text(s.x[3]+14, 172, "start", "", "has 7")
	s.active(0, 206, 386, "y")
	s.text(s.x[0]-14, 290, "end", "m", "paused")
	s.box(s.x[1]-62, 222, 124, 28, "ns", "nl")
	s.text(s.x[1], 241, "middle", "", "A's lease ends")
	s.message(1, 2, 272, "t", "", "granted, token 8")
	s.active(2, 272, 452, "g")
	s.message(2, 3, 316, "g", "", "write, token 8")
	s.text(s.x[3]+14, 320, "start", "", "has 8")
	s.text(s.x[0]-14, 391, "end", "m", "wakes")
	s.arrow(s.x[0]+7, 388, s.x[3]-7, 388, "r", "")
	s.label((s.x[0]+s.x[1])/2, 381, "write, token 7")
	s.label((s.x[0]+s.x[1])/2, 408, "still believes it leads")
	s.box(s.x[3]-58, 404, 116, 28, "rs", "rl")
	s.text(s.x[3], 423, "middle", "", "7 < 8: refused")
	return c.String()
}
