package script

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// Request is one script with its keys and arguments: a value, so that to make one takes
// no memory but that of its texts.
type Request struct {
	Keys   Keys
	script *Script
	args   [maxArgs]string
	n      int
}

const maxArgs = 12

func request(s *Script, k Keys, args ...string) Request {
	q := Request{Keys: k, script: s}
	q.n = copy(q.args[:], args)
	return q
}

// Name is that of the script.
func (q *Request) Name() string { return q.script.Name }

// AboutLock reports whether it concerns a lock, not what the clients agree on.
func (q *Request) AboutLock() bool { return q.script != agree }

// Millis is a duration as scripts take it: whole milliseconds in decimal.
type Millis string

// ToMillis rounds d, 0 or more, up: a node never holds for less than was asked.
func ToMillis(d time.Duration) Millis {
	n := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		n++
	}
	return Millis(strconv.FormatInt(n, 10))
}

// Token is a token as scripts take it; "": none.
type Token string

// ToToken gives the text of a token; 0: none.
func ToToken(token uint64) Token {
	if token == 0 {
		return ""
	}
	return Token(strconv.FormatUint(token, 10))
}

// Guard is what a script gets, to know whether its node may vote.
type Guard struct {
	Least   string // the uptime in seconds that a vote needs; 0: no guard
	Durable string // the run in which no uptime is needed; "": none
}

// Acquire asks for a vote. See [ParseAcquire].
func Acquire(k Keys, value string, ttl, retention Millis, guard Guard) Request {
	return request(acquire, k, value, string(ttl), string(retention), guard.Least, guard.Durable)
}

// Commit raises the count to the token. See [ParseCommit].
func Commit(k Keys, value string, token uint64, retention Millis) Request {
	return request(commit, k, value, strconv.FormatUint(token, 10), string(retention))
}

// Extend makes the lock last for ttl at least. See [ParseExtend].
func Extend(k Keys, value string, ttl, retention Millis, guard Guard) Request {
	return request(extend, k, value, string(ttl), string(retention), guard.Least, guard.Durable)
}

// ExtendExactly is Extend, and the lock ends when ttl is over, also if it would have
// lasted longer.
func ExtendExactly(k Keys, value string, ttl, retention Millis, guard Guard) Request {
	return request(extend, k, value, string(ttl), string(retention), guard.Least, guard.Durable, "exact")
}

// Repair gives the lock back to a node that answered in this run that it is missing. See
// [ParseRepair].
func Repair(k Keys, value string, ttl, retention Millis, token uint64, run string) Request {
	return request(repair, k, value, string(ttl), string(retention), strconv.FormatUint(token, 10), run)
}

// Release frees the lock if it has this value, and passes it on to the first waiter of the
// queue. waiter is the wait that led to this hold, whose request with this value is taken
// out of the queue; "": there was none. A node that has the lock with this value and counts
// less than the token is brought up to it. retention and guard are for the next holder. See
// [ParseRelease].
func Release(k Keys, value, waiter string, token Token, retention Millis, guard Guard) Request {
	return request(release, k, value, string(retention), guard.Least, guard.Durable, waiter, string(token))
}

// ForceRelease frees the lock, no matter who has it, and passes it on. See [ParseRelease].
func ForceRelease(k Keys, retention Millis, guard Guard) Request {
	return request(release, k, "", string(retention), guard.Least, guard.Durable, "", "", "1")
}

// Inspect asks who holds the lock, and for up to waiters of those who wait for it. See
// [ParseInspect].
func Inspect(k Keys, waiters int) Request {
	if waiters == 0 {
		return request(inspect, k)
	}
	return request(inspect, k, strconv.Itoa(waiters))
}

// Agree asks a node to keep mine as what the clients of the prefix agree on: if it has
// nothing, or known, or mine. If mine is "", it only asks what is there. See [ParseAgree].
func Agree(prefix, mine, known string, ttl Millis) Request {
	name := AgreedPrefix + prefix
	return request(agree, Keys{name, name}, mine, known, string(ttl))
}

// Eval runs the request alone, as a script, by its hash first: one round trip unless the
// node has not seen it since it started.
func (q *Request) Eval(ctx context.Context, c rueidis.Client) rueidis.RedisResult {
	g := group{requests: []*Request{q}}
	res := c.Do(ctx, g.command(c, false))
	if err, ok := rueidis.IsRedisErr(res.Error()); ok && err.IsNoScript() {
		res = c.Do(ctx, g.command(c, true))
	}
	return res
}
