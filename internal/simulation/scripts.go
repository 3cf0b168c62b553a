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
	case "extend":
		return n.extend(lock, fence, a[0], a[1], a[2], a[3], a[4], len(a) > 5)
	case "repair":
		return n.repair(lock, fence, a[0], a[1], a[2], a[3], a[4])
	case "release":
		return n.release(lock, a[0], len(a) > 2 && a[2] == "1")
	case "agree":
		return n.agree(lock, a[0], a[1], a[2])
	}
	return redisError("ERR unknown script (simulated): " + name)
}

// server is run and uptime; known is false where INFO is not to be had.
func (n *node) server() (run string, uptime int64, known bool) {
	if n.noInfo {
		return "-", 0, false
	}
	return n.run, n.uptime(), true
}

// number reads a count as the scripts do: digits only.
func number(s string) (float64, bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

func millis(s string) time.Duration {
	f, _ := strconv.ParseFloat(s, 64)
	return time.Duration(f) * time.Millisecond
}

func (n *node) acquire(lock, fence, value, ttl, retention, least, durable string) any {
	holder, isHeld := n.lock(lock)
	if isHeld && holder.value != value {
		return []any{int64(0), holder.value, n.pttl(lock)}
	}
	run, uptime, known := n.server()
	sign := int64(1)
	if !known {
		sign = -1
	}
	counted, _ := n.fence(fence)
	count, has := float64(0), counted.count != ""
	if has {
		f, ok := number(counted.count)
		if !ok || f < 1 || f >= maxCount {
			return redisError("ERR lockkeeper: the fence count is not a number from 1 to 2^53")
		}
		count = f
	}
	if isHeld {
		if !has {
			return redisError("ERR lockkeeper: the fence count is gone")
		}
		return sign * int64(count)
	}
	if min, _ := strconv.ParseInt(least, 10, 64); min > 0 && known && uptime < min && run != durable {
		return []any{int64(1), min - uptime, run}
	}
	if has && counted.run == run {
		count++
	} else {
		count = math.Max(count+1, float64(n.micros()))
	}
	if count >= maxCount {
		return redisError("ERR lockkeeper: the fence count has reached 2^53")
	}
	n.data.fences[fence] = fenceEntry{strconv.FormatFloat(count, 'f', 0, 64), run, n.clock() + millis(retention)}
	n.data.locks[lock] = lockEntry{value, n.clock() + millis(ttl)}
	return sign * int64(count)
}

func (n *node) commit(lock, fence, value, token, retention string) any {
	if holder, ok := n.lock(lock); !ok || holder.value != value {
		return int64(0)
	}
	run, _, _ := n.server()
	counted, _ := n.fence(fence)
	if counted.run != run {
		return int64(0)
	}
	count, ok := number(counted.count)
	if counted.count == "" || !ok || count >= maxCount {
		return redisError("ERR lockkeeper: the fence count is not a number from 1 to 2^53")
	}
	if t, _ := strconv.ParseFloat(token, 64); count < t {
		count = t
		n.data.fences[fence] = fenceEntry{strconv.FormatFloat(count, 'f', 0, 64), run, n.clock() + millis(retention)}
	}
	return int64(count)
}

func (n *node) extend(lock, fence, value, ttl, retention, least, durable string, exact bool) any {
	holder, isHeld := n.lock(lock)
	if isHeld && holder.value != value {
		return []any{int64(3)}
	}
	run, uptime, known := n.server()
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
	if min, _ := strconv.ParseInt(least, 10, 64); min > 0 && known && uptime < min && run != durable {
		return []any{int64(1), min - uptime, run}
	}
	return int64(1)
}

func (n *node) repair(lock, fence, value, ttl, retention, token, seen string) any {
	if _, held := n.lock(lock); held {
		return int64(0)
	}
	run, _, _ := n.server()
	if run != seen {
		return int64(0)
	}
	f, _ := n.fence(fence)
	if f.count != "" {
		count, ok := number(f.count)
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

func (n *node) release(lock, value string, anybody bool) any {
	holder, isHeld := n.lock(lock)
	switch {
	case !isHeld:
		return int64(0)
	case holder.value != value && !anybody:
		return int64(2)
	}
	delete(n.data.locks, lock)
	return int64(1)
}
