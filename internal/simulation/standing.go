package simulation

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A lock's queue, as redlock/internal/script/lua/pass_on.lua keeps it.

const (
	freshness     = 1.3
	queueKept     = time.Minute
	pushNone      = "0"
	pushUncounted = "2"

	refusedPublish = -1 // what a node says that may not PUBLISH: the grant stands, and is found by asking
)

// request is what a waiter asked for.
type request struct {
	position      float64
	stamp, fresh  float64
	claim         string
	push, channel string
	value         string
}

// queued is the queue of one lock.
type queued struct {
	requests map[string]request
	until    time.Duration // on the node's clock
}

// queue is the one that goes with a fence counter.
func (n *node) queue(fence string) *queued {
	q := n.data.queues[fence]
	if q == nil || n.clock() >= q.until {
		q = &queued{requests: map[string]request{}}
		n.data.queues[fence] = q
	}
	return q
}

func (q *queued) clone() *queued { return &queued{maps.Clone(q.requests), q.until} }

func (q *queued) asked(waiter string) (request, bool) {
	r, ok := q.requests[waiter]
	return r, ok
}

func (q *queued) withdraw(waiter string) { delete(q.requests, waiter) }

// order is that of a sorted set: by position, then by name.
func (q *queued) order() []string {
	return slices.SortedFunc(maps.Keys(q.requests), func(a, b string) int {
		return cmp.Or(cmp.Compare(q.requests[a].position, q.requests[b].position), strings.Compare(a, b))
	})
}

// listens reports whether anybody does for the waiter's grants.
func (n *node) listens(r request) bool {
	return r.push == pushUncounted || n.publish != nil && n.publish(r.channel, "") != 0
}

// grant gives the free lock to a waiter.
func (n *node) grant(lock, fence string, count float64, run, retention, waiter string, r request, silent bool) {
	f, _ := n.fence(fence)
	f.count, f.run, f.until = whole(count), run, n.clock()+millis(retention)
	f.granted = whole(r.stamp) + " " + whole(r.position) + " " + waiter + " " + r.value
	n.data.fences[fence] = f
	n.data.locks[lock] = lockEntry{r.value, n.clock() + millis(r.claim)}
	if !silent && n.publish != nil {
		n.publish(r.channel, waiter+" "+whole(count)+" "+whole(r.stamp)+" "+whole(r.position))
	}
}

func (n *node) passOn(lock, fence, run, retention, me, only string) (waiter string, leftTo *request) {
	f, _ := n.fence(fence)
	if f.standing != "1" {
		return "", nil
	}
	count, ok := number(f.count)
	if !ok {
		return "", nil
	}
	if count = n.following(count, f, run); count >= maxCount {
		return "", nil
	}
	q := n.queue(fence)
	now := float64(n.micros())
	for range 100 {
		waiter := only
		if waiter == "" {
			order := q.order()
			if len(order) == 0 {
				f, _ := n.fence(fence)
				f.standing = "0"
				n.data.fences[fence] = f
				break
			}
			waiter = order[0]
		}
		r, alive := q.asked(waiter)
		alive = alive && (waiter == me || r.fresh >= now)
		if alive && r.push == pushNone && waiter != me {
			leftTo = &r
			break
		}
		q.withdraw(waiter)
		if alive && (waiter == me || n.listens(r)) {
			n.grant(lock, fence, count, run, retention, waiter, r, waiter == me)
			return waiter, nil
		}
		if only != "" {
			break
		}
	}
	return "", leftTo
}

// standing is what stand is asked.
type standing struct {
	value, claim, retention, least, durable string
	waiter, waited, push, channel           string
	take                                    bool
	instead, to                             string
}

// granted is what is known of the grant of a value.
func (f fenceEntry) grantOf(value string) (stamp, position int64, waiter string) {
	part := strings.SplitN(f.granted, " ", 4)
	if len(part) != 4 || part[3] != value {
		return 0, 0, ""
	}
	stamp, _ = strconv.ParseInt(part[0], 10, 64)
	position, _ = strconv.ParseInt(part[1], 10, 64)
	return stamp, position, part[2]
}

func (n *node) stand(lock, fence string, s standing) any {
	holder, isHeld := n.lock(lock)
	run, sign, short := n.vote(s.least, s.durable)
	f, _ := n.fence(fence)
	if _, ok := number(f.count); !ok {
		return errCount
	}
	mine := func() any {
		f, _ := n.fence(fence)
		count, ok := number(f.count)
		if !ok || f.count == "" {
			return errGone
		}
		stamp, position, _ := f.grantOf(s.value)
		return []any{int64(1), sign * int64(count), stamp, position}
	}
	if isHeld && holder.value == s.value {
		return mine()
	}
	if !isHeld && short == 0 && s.take && f.standing != "1" {
		count, _ := number(f.count)
		if count = n.following(count, f, run); count < maxCount {
			waited, _ := strconv.ParseFloat(s.waited, 64)
			r := request{position: float64(n.micros()) - waited, stamp: waited, claim: s.claim, value: s.value}
			n.grant(lock, fence, count, run, s.retention, s.waiter, r, true)
			return mine()
		}
	}
	had := int64(0)
	if isHeld && holder.value == s.instead {
		_, had, _ = f.grantOf(holder.value)
		delete(n.data.locks, lock)
		if s.to != "" && s.to != s.waiter && short == 0 {
			n.passOn(lock, fence, run, s.retention, "", s.to)
		}
	}

	q := n.queue(fence)
	now := float64(n.micros())
	waited, _ := strconv.ParseFloat(s.waited, 64)
	before, stood := q.asked(s.waiter)
	position := now - waited
	if stood {
		position = math.Min(position, before.position)
	}
	if had > 0 {
		position = math.Min(position, float64(had))
	}
	late := stood && waited < before.stamp
	if !late {
		claim, _ := strconv.ParseFloat(s.claim, 64)
		fresh := math.Ceil(claim * 1000 * freshness)
		q.requests[s.waiter] = request{position, waited, now + fresh, s.claim, s.push, s.channel, s.value}
		q.until = n.clock() + max(queueKept, time.Duration(math.Ceil(fresh/1000))*time.Millisecond)
		if f, _ := n.fence(fence); f.standing != "1" {
			if f.standing = "1"; f.count == "" {
				f.until = n.clock() + millis(s.retention)
			}
			n.data.fences[fence] = f
		}
	}
	if _, isHeld = n.lock(lock); !isHeld && s.take && short == 0 {
		me := s.waiter
		if late {
			me = ""
		}
		n.passOn(lock, fence, run, s.retention, me, "")
		if holder, isHeld = n.lock(lock); isHeld && holder.value == s.value {
			return mine()
		}
	}
	holder, isHeld = n.lock(lock)
	whose, since := "", int64(0)
	if isHeld {
		f, _ := n.fence(fence)
		_, since, whose = f.grantOf(holder.value)
	}
	rank := max(0, slices.Index(q.order(), s.waiter))
	return []any{int64(0), int64(rank), holder.value, n.pttl(lock), whose, since, short, run}
}
