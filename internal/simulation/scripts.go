package simulation

import (
	"math"
	"slices"
	"strconv"
	"time"
)

// The scripts of redlock/internal/script, line by line, but for what concerns wake-ups.

const maxCount = 1 << 53

func slicesSorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// eval runs a script: args are the number of keys, the keys and the arguments.
func (n *node) eval(name string, args []string) any {
	keys, _ := strconv.Atoi(args[0])
	k, argv := args[1:1+keys], args[1+keys:]
	if name != "batch" {
		return n.call(name, k[0], k[1], argv)
	}
	out := make([]any, 0, keys/2)
	for i := 0; i < keys; i += 2 {
		count, _ := strconv.Atoi(argv[1])
		out = append(out, n.call(argv[0], k[i], k[i+1], argv[2:2+count]))
		argv = argv[2+count:]
	}
	return out
}

func (n *node) call(name, lock, fence string, a []string) any {
	switch name {
	case "acquire":
		return n.acquire(lock, fence, a[0], a[1], a[2], a[3], a[4])
	case "commit":
		return n.commit(lock, fence, a[0], a[1], a[2])
	case "confirm":
		return n.confirm(lock, fence, a[0], a[1], a[2], a[3], a[4], a[5])
	case "extend":
		return n.extend(lock, fence, a[0], a[1], a[2], a[3], a[4], len(a) > 5)
	case "repair":
		return n.repair(lock, fence, a[0], a[1], a[2], a[3], a[4])
	case "release":
		return n.release(lock, fence, a[0], a[1], a[2], a[3], a[4], a[5], len(a) > 6 && a[6] == "1")
	case "leave":
		n.queue(fence).withdraw(a[4])
		return n.release(lock, fence, a[0], a[1], a[2], a[3], "", "", false)
	case "stand":
		return n.stand(lock, fence, standing{
			value: a[0], claim: a[1], retention: a[2], least: a[3], durable: a[4], waiter: a[5], waited: a[6],
			push: a[7], channel: a[8], take: a[9] == "1", instead: a[10], to: a[11],
		})
	case "agree":
		return n.agree(lock, a[0], a[1], a[2])
	}
	return redisError("ERR unknown script (simulated): " + name)
}

// server is run and uptime; known is false where INFO is not to be had. A function gives
// what it knows from before if that is an uptime of least.
func (n *node) server(least int64) (run string, uptime int64, known bool) {
	if n.calling && n.known != "" && n.reached >= least {
		return n.known, n.reached, true
	}
	if n.noInfo {
		return "-", 0, false
	}
	if n.calling {
		n.known, n.reached = n.run, n.uptime()
	}
	return n.run, n.uptime(), true
}

// digits reads a number without a sign.
func digits(s string) (float64, bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// number reads a count as F has it: 0 if there is none; ok is false if it is no count.
func number(s string) (count float64, ok bool) {
	if s == "" {
		return 0, true
	}
	f, ok := digits(s)
	return f, ok && f >= 1 && f < maxCount
}

func whole(f float64) string { return strconv.FormatFloat(f, 'f', 0, 64) }

// vote is the run, the sign of counts, and for how many seconds the node does not vote.
func (n *node) vote(least, durable string) (run string, sign, short int64) {
	min, _ := strconv.ParseInt(least, 10, 64)
	run, uptime, known := n.server(min)
	if sign = 1; !known {
		sign = -1
	}
	if min > 0 && known && uptime < min && run != durable {
		short = min - uptime
	}
	return run, sign, short
}

// following is the count of the next grant.
func (n *node) following(count float64, f fenceEntry, run string) float64 {
	if f.count != "" && f.run == run {
		return count + 1
	}
	return math.Max(count+1, float64(n.micros()))
}

var (
	errCount   = redisError("ERR lockkeeper: the fence count is not a number from 1 to 2^53")
	errGone    = redisError("ERR lockkeeper: the fence count is gone")
	errReached = redisError("ERR lockkeeper: the fence count has reached 2^53")
)

func millis(s string) time.Duration {
	f, _ := strconv.ParseFloat(s, 64)
	return time.Duration(f) * time.Millisecond
}

func (n *node) acquire(lock, fence, value, ttl, retention, least, durable string) any {
	held := func() any {
		holder, _ := n.lock(lock)
		return []any{int64(0), holder.value, n.pttl(lock)}
	}
	holder, isHeld := n.lock(lock)
	if isHeld && holder.value != value {
		return held()
	}
	run, sign, short := n.vote(least, durable)
	counted, _ := n.fence(fence)
	count, ok := number(counted.count)
	switch {
	case !ok:
		return errCount
	case isHeld && counted.count == "":
		return errGone
	case isHeld:
		return sign * int64(count)
	case short > 0:
		return []any{int64(1), short, run}
	}
	first, leftTo := n.passOn(lock, fence, run, retention, "", "")
	if first != "" {
		return held()
	}
	if leftTo != nil {
		return []any{int64(0), leftTo.value, int64(math.Ceil((leftTo.fresh - float64(n.micros())) / 1000))}
	}
	if count = n.following(count, counted, run); count >= maxCount {
		return errReached
	}
	f, _ := n.fence(fence)
	f.count, f.run, f.until = whole(count), run, n.clock()+millis(retention)
	n.data.fences[fence] = f
	n.data.locks[lock] = lockEntry{value, n.clock() + millis(ttl)}
	return sign * int64(count)
}

func (n *node) commit(lock, fence, value, token, retention string) any {
	if holder, ok := n.lock(lock); !ok || holder.value != value {
		return int64(0)
	}
	run, _, _ := n.server(0)
	counted, _ := n.fence(fence)
	if counted.run != run {
		return int64(0)
	}
	count, ok := number(counted.count)
	if counted.count == "" || !ok {
		return errCount
	}
	if t, _ := strconv.ParseFloat(token, 64); count < t {
		count = t
		counted.count, counted.until = whole(count), n.clock()+millis(retention)
		n.data.fences[fence] = counted
	}
	return int64(count)
}

func (n *node) confirm(lock, fence, value, ttl, retention, least, durable, token string) any {
	count := n.commit(lock, fence, value, token, retention)
	if n, ok := count.(int64); !ok || n == 0 {
		return count
	}
	if confirmed := n.extend(lock, fence, value, ttl, retention, least, durable, false); confirmed != any(int64(1)) {
		return confirmed
	}
	return count
}

func (n *node) extend(lock, fence, value, ttl, retention, least, durable string, exact bool) any {
	holder, isHeld := n.lock(lock)
	if isHeld && holder.value != value {
		return []any{int64(3)}
	}
	run, _, short := n.vote(least, durable)
	if !isHeld {
		return []any{int64(2), run}
	}
	if exact || float64(n.pttl(lock)) < float64(millis(ttl)/time.Millisecond) {
		n.data.locks[lock] = lockEntry{value, n.clock() + millis(ttl)}
	}
	if f, ok := n.fence(fence); ok {
		f.until = n.clock() + millis(retention)
		n.data.fences[fence] = f
	}
	if short > 0 {
		return []any{int64(1), short, run}
	}
	return int64(1)
}

func (n *node) repair(lock, fence, value, ttl, retention, token, seen string) any {
	if _, held := n.lock(lock); held {
		return int64(0)
	}
	run, _, _ := n.server(0)
	if run != seen {
		return int64(0)
	}
	f, _ := n.fence(fence)
	if f.count != "" {
		count, ok := digits(f.count)
		if !ok {
			return int64(0)
		}
		if t, _ := strconv.ParseFloat(token, 64); count > t {
			token = f.count // a count never falls
		}
	}
	f.count, f.until = token, n.clock()+millis(retention)
	n.data.fences[fence] = f
	n.data.locks[lock] = lockEntry{value, n.clock() + millis(ttl)}
	return int64(1)
}

func (n *node) agree(key, mine, known, ttl string) any {
	info, _ := n.do([]string{"INFO", "server"}).(string)
	there, is := n.text(n.data.agreed, key)
	if mine != "" && (!is || there.value == known || there.value == mine) {
		left := max(millis(ttl), time.Duration(n.pttlOf(n.data.agreed, key))*time.Millisecond)
		n.data.agreed[key] = lockEntry{mine, n.clock() + left}
		there.value = mine
	}
	return []any{there.value, n.pttlOf(n.data.agreed, key), info}
}

// bringUp brings the count of a node that lags up to the token of a holder that leaves.
func (n *node) bringUp(fence, token, retention string) {
	counted, _ := n.fence(fence)
	count, ok := number(counted.count)
	want, _ := digits(token)
	if run, _, _ := n.server(0); !ok || counted.count == "" || count >= want || counted.run != run {
		return
	}
	counted.count, counted.until = token, n.clock()+millis(retention)
	n.data.fences[fence] = counted
}

func (n *node) release(lock, fence, value, retention, least, durable, waiter, token string, anybody bool) any {
	holder, isHeld := n.lock(lock)
	if r, ok := n.queue(fence).asked(waiter); ok && r.value == value {
		n.queue(fence).withdraw(waiter)
	}
	if isHeld && holder.value != value && !anybody {
		return int64(2)
	}
	delete(n.data.locks, lock)
	if isHeld && holder.value == value && token != "" {
		n.bringUp(fence, token, retention)
	}
	passed := ""
	if run, _, short := n.vote(least, durable); short == 0 {
		passed, _ = n.passOn(lock, fence, run, retention, "", "")
	}
	switch {
	case !isHeld:
		return int64(0)
	case passed != "":
		return int64(3)
	}
	return int64(1)
}
