package leader

import (
	"sync"
	"time"
)

// changeTimeout is how long Run's end waits for an OnChange that does not return.
const changeTimeout = 5 * time.Second

// changes calls OnChange on a goroutine of its own, so that no callback, however
// slow, is in the way of a campaign, a renewal or a release. Only the latest
// status waits: a queue would grow behind a callback that hangs.
type changes struct {
	onChange func(Status)
	wake     chan struct{} // holds one
	done     chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex // guards all below; not held while onChange runs
	latest Status
	fresh  bool // latest has not been reported
	closed bool // nothing comes after latest
}

func newChanges(onChange func(Status)) *changes {
	c := &changes{onChange: onChange, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go c.run()
	return c
}

func (c *changes) run() {
	defer close(c.done)
	for range c.wake {
		c.mu.Lock()
		s, fresh, closed := c.latest, c.fresh, c.closed
		c.fresh = false
		c.mu.Unlock()
		if fresh {
			c.onChange(s)
		}
		if closed {
			return
		}
	}
}

func (c *changes) put(s Status) {
	c.mu.Lock()
	c.latest, c.fresh = s, true
	c.mu.Unlock()
	c.signal()
}

func (c *changes) signal() {
	select {
	case c.wake <- struct{}{}:
	default: // run has not received the last wake yet, so it will see this change, too
	}
}

// close ends the goroutine once the latest status is reported, and waits for that. It returns
// false where that takes longer than changeTimeout.
func (c *changes) close() bool {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.signal()
	timeout := time.NewTimer(changeTimeout)
	defer timeout.Stop()
	select {
	case <-c.done:
		return true
	case <-timeout.C:
		return false
	}
}
