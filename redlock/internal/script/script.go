// Package script has all that Go and Lua share: the scripts that run on a node, the
// names of its keys, the arguments of each script and what its reply means. It knows
// neither connections nor what a vote is good for.
//
// Each script is one function in a file of its own, whose comment says what it is asked
// and what it answers. Alone and in a batch the same lines run.
package script

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/redis/rueidis"
)

// maxCount bounds what a count can be: above it Lua's numbers are not exact.
const maxCount = 1 << 53

// ErrorPrefix begins the errors of the scripts themselves: each is about what the lock's
// keys have.
const ErrorPrefix = "ERR lockkeeper: "

// constants stand before each script, which has the names of keys, the bound of counts
// and what concerns the queue from here.
var constants = fmt.Sprintf("local FENCE, QUEUE, TURN, WAKE = '%s', '%s', '%s', '%s'\nlocal MAX_COUNT, ERROR = %d, '%s'\n",
	FencePrefix, QueuePrefix, turnPrefix, WakePrefix, maxCount, ErrorPrefix) +
	fmt.Sprintf("local STANDING, ASKED, FRESH, KEEP = '%s', '%s', %v, %d\nlocal PUSH_NONE, PUSH_UNCOUNTED = '%s', '%s'\n",
		StandingPrefix, askedPrefix, freshness, queueKept.Milliseconds(), pushNone, pushUncounted)

var (
	//go:embed lua/server.lua
	serverLua string
	//go:embed lua/vote.lua
	voteLua string
	//go:embed lua/pass_on.lua
	passOnLua string
	//go:embed lua/turn.lua
	turnLua string
	//go:embed lua/acquire.lua
	acquireLua string
	//go:embed lua/commit.lua
	commitLua string
	//go:embed lua/confirm.lua
	confirmLua string
	//go:embed lua/stand.lua
	standLua string
	//go:embed lua/dequeue.lua
	dequeueLua string
	//go:embed lua/extend.lua
	extendLua string
	//go:embed lua/repair.lua
	repairLua string
	//go:embed lua/release.lua
	releaseLua string
	//go:embed lua/inspect.lua
	inspectLua string
	//go:embed lua/wait.lua
	waitLua string
	//go:embed lua/leave.lua
	leaveLua string
	//go:embed lua/agree.lua
	agreeLua string
	//go:embed lua/batch.lua
	batchLua string

	// What stands before the scripts, in this order.
	votes   = serverLua + voteLua
	passing = votes + passOnLua

	acquire = newScript("acquire", passing+turnLua, acquireLua)
	commit  = newScript("commit", votes, commitLua)
	extend  = newScript("extend", votes, extendLua)
	confirm = newScript("confirm", votes+commitLua+extendLua, confirmLua)
	repair  = newScript("repair", votes, repairLua)
	release = newScript("release", passing, releaseLua)
	leave   = newScript("leave", passing+releaseLua, leaveLua)
	stand   = newScript("stand", passing, standLua)
	inspect = newScript("inspect", passing, inspectLua)
	wait    = newScript("wait", "", waitLua)
	dequeue = newScript("dequeue", "", dequeueLua)
	agree   = newScript("agree", "", agreeLua)

	// What a hold asks of a node, several at a time.
	batch = named("batch", "", batchSource(acquire, commit, extend, confirm, repair, release, leave, stand, wait, dequeue, agree))
)

// Script is one function of a node's side.
type Script struct {
	Name   string
	Source string // as EVAL takes it
	SHA    string // as EVALSHA takes it
	body   string // the function alone
}

// All gives every script.
func All() []*Script {
	return []*Script{acquire, commit, extend, confirm, repair, release, leave, stand, inspect, wait, dequeue, agree, batch}
}

// newScript makes a script of a function with this name; head is what it needs
// before it.
func newScript(name, head, body string) *Script {
	return named(name, body, constants+head+body+"return "+name+"(KEYS[1], KEYS[2], unpack(ARGV))\n")
}

func named(name, body, source string) *Script {
	sum := sha1.Sum([]byte(source)) // the name that Redis gives a script, not a protection
	return &Script{name, source, hex.EncodeToString(sum[:]), body}
}

// run runs the script on one node, by its hash first: one round trip unless the node has
// not seen it since it started. build makes the command of EVALSHA or EVAL with the
// script.
func (s *Script) run(ctx context.Context, c rueidis.Client, build func(command, script string) rueidis.Completed) rueidis.RedisResult {
	res := c.Do(ctx, build("EVALSHA", s.SHA))
	if err, ok := rueidis.IsRedisErr(res.Error()); ok && err.IsNoScript() {
		res = c.Do(ctx, build("EVAL", s.Source))
	}
	return res
}

// batchSource makes one script of several. The server is asked for its run once.
func batchSource(scripts ...*Script) string {
	var b strings.Builder
	b.WriteString(constants)
	b.WriteString(passing)
	b.WriteString(turnLua)
	b.WriteString("local asked, run, uptime = false, nil, nil\nlocal once = server\n" +
		"server = function() if not asked then asked, run, uptime = true, once() end return run, uptime end\n")
	for _, s := range scripts {
		b.WriteString(s.body)
	}
	b.WriteString("local ops = {")
	for _, s := range scripts {
		fmt.Fprintf(&b, "%s = %[1]s, ", s.Name)
	}
	b.WriteString("}\n")
	b.WriteString(batchLua)
	return b.String()
}
