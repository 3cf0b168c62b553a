package record

import "time"

// storeClock is the store's clock as this process's monotonic one sees it, to notice that
// it was set forward: that ages every record at once.
type storeClock struct {
	first, received time.Time     // what the store's clock showed first, and when by this process's
	offset          time.Duration // the store's lead over this process's since then, when last it had gained nothing
	at              time.Time     // when that was
}

// credible is e.Age less what the store's clock has gained on this process's. Nothing shows
// of gains before this process's first reply, of those below 2 % of the time between two
// replies, and of a clock that is set back and forward again between two. Less age is always
// right. l.mu is held.
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

// gained is by how much the store's clock leads more than it did when last it had gained
// nothing. It has gained nothing if the 2 % of the time since then explain the lead, by
// which two clocks may part that are each off by 1 %. Otherwise it was set, and the whole of
// it is a gain: to allow 2 % of it would age a record by 2 % of the time since before it was
// put, and let another in before its holder has stopped. A reply that was long under way
// shows less lead than there is. As the earlier lead that makes the gain too large, which is
// safe. As the present lead it makes the gain too small by the way's time, and just so much
// older is the record when the reply is received.
func (c *storeClock) gained(now, received time.Time) time.Duration {
	if c.first.IsZero() {
		c.first, c.received, c.at = now, received, received
	}
	offset := now.Sub(c.first) - received.Sub(c.received)
	if offset <= c.offset+received.Sub(c.at)/50 {
		c.offset, c.at = offset, received
	}
	return offset - c.offset
}
