package record

import "time"

// storeClock is the store's clock as this process's monotonic one sees it, to notice that
// it was set forward: that ages every record at once.
type storeClock struct {
	first, received time.Time     // what the store's clock showed first, and when by this process's
	offset          time.Duration // the least lead since then of the store's over this process's
	at              time.Time     // until when offset has its allowance
}

// credible is e.Age less what the store's clock has gained on this process's. Of gains
// before this process's first reply, or between two replies that are far apart, nothing
// shows; less age is always right. l.mu is held.
func (c *storeClock) credible(e Entry, received time.Time) time.Duration {
	if e.Time.IsZero() {
		return e.Age
	}
	// The clock is observed without an age, too: the next state may have one.
	gained := c.gained(e.Time, received)
	if e.Age <= 0 {
		return e.Age
	}
	return max(e.Age-gained, 1) // it was put, before the reply
}

// gained is by how much the store's clock leads more than it once did, beyond the 2 % of
// the time in between by which two clocks may part that are each off by 1 %. A reply that
// was long under way shows less lead than there is. As the least lead that makes the gain
// too large, which is safe. As the present lead it makes the gain too small by the way's
// time, and just so much older is the record when the reply is received.
func (c *storeClock) gained(now, received time.Time) time.Duration {
	if c.first.IsZero() {
		c.first, c.received, c.at = now, received, received
	}
	if received.After(c.at) {
		c.offset += received.Sub(c.at) / 50
		c.at = received
	}
	offset := now.Sub(c.first) - received.Sub(c.received)
	c.offset = min(c.offset, offset)
	return offset - c.offset
}
