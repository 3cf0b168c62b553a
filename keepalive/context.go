package keepalive

import (
	"context"
	"time"
)

// keptContext is Keeper.Context: inner, which is a context of the standard
// library, so that context.Cause works and derived contexts cost no goroutine;
// but before it says that all is well, it looks at the clock. A timer may run
// late, above all in a process that was stopped: work that looks at its context
// must not go on then.
type keptContext Keeper

var _ context.Context = (*keptContext)(nil)

func (c *keptContext) Deadline() (time.Time, bool) {
	return c.inner.Deadline() // the parent's: the lease's moves
}

func (c *keptContext) Done() <-chan struct{} {
	c.check()
	return c.inner.Done()
}

func (c *keptContext) Err() error {
	c.check()
	return c.inner.Err()
}

func (c *keptContext) Value(key any) any { return c.inner.Value(key) }

func (c *keptContext) String() string { return "keepalive.Keeper.Context" }

func (c *keptContext) check() {
	if c.inner.Err() != nil {
		return
	}
	k := (*Keeper)(c)
	k.mu.Lock()
	k.expire(time.Now())
	k.unlock()
}
