// Package script has all that Go and Lua share: the scripts that run on a node, the
// names of its keys, the arguments of each script and what its reply means. It knows
// neither connections nor what a vote is good for.
//
// Each script is one function in a file of its own, whose comment says what it is asked
// and what it answers. Alone and in a batch the same lines run.
package script

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// maxCount bounds what a count can be: above it Lua's numbers are not exact.
const maxCount = 1 << 53

// ErrorPrefix begins the errors of the scripts themselves: each is about what the lock's
// keys have.
const ErrorPrefix = "ERR lockkeeper: "

// constants stand before each script: the names of keys, the bound of counts, and the
// numbers of the queue.
var constants = fmt.Sprintf("local FENCE, MAX_COUNT, ERROR = '%s', %d, '%s'\n", FencePrefix, maxCount, ErrorPrefix) +
	fmt.Sprintf("local STANDING, ASKED, FRESH, KEEP = '%s', '%s', %v, %d\nlocal PUSH_NONE, PUSH_UNCOUNTED = '%s', '%s'\n",
		StandingPrefix, askedPrefix, freshness, queueKept.Milliseconds(), pushNone, pushUncounted)

var (
	//go:embed lua/server.lua
	serverLua string
	//go:embed lua/vote.lua
	voteLua string
	//go:embed lua/pass_on.lua
	passOnLua string
	//go:embed lua/acquire.lua
	acquireLua string
	//go:embed lua/commit.lua
	commitLua string
	//go:embed lua/confirm.lua
	confirmLua string
	//go:embed lua/stand.lua
	standLua string
	//go:embed lua/extend.lua
	extendLua string
	//go:embed lua/repair.lua
	repairLua string
	//go:embed lua/release.lua
	releaseLua string
	//go:embed lua/inspect.lua
	inspectLua string
	//go:embed lua/leave.lua
	leaveLua string
	//go:embed lua/agree.lua
	agreeLua string
	//go:embed lua/batch.lua
	batchLua string

	// What stands before the scripts, in this order.
	votes   = serverLua + voteLua
	passing = votes + passOnLua

	acquire = newScript("acquire", takes, passing, acquireLua)
	commit  = newScript("commit", keeps, votes, commitLua)
	extend  = newScript("extend", keeps, votes, extendLua)
	confirm = newScript("confirm", keeps, votes+commitLua+extendLua, confirmLua)
	repair  = newScript("repair", takes, votes, repairLua)
	release = newScript("release", keeps, passing, releaseLua)
	leave   = newScript("leave", keeps, passing+releaseLua, leaveLua)
	stand   = newScript("stand", takes, passing, standLua)
	inspect = newScript("inspect", asScript, passing, inspectLua)
	agree   = newScript("agree", asScript, "", agreeLua)

	// What leases and waits ask of a node: several of these can go in one call.
	batched = []*Script{acquire, commit, extend, confirm, repair, release, leave, stand, agree}
	batch   = named("batch", asScript, "", batchSource())
)

// Script is one function of a node's side.
type Script struct {
	Name     string
	Source   string // as EVAL takes it
	SHA      string // as EVALSHA takes it
	way      way    // where the server has functions
	function string // its name there
	body     string // the function alone
}

// All gives every script.
func All() []*Script { return append(slices.Clone(batched), inspect, batch) }

// newScript makes a script of a function with this name; head is what it needs
// before it.
func newScript(name string, way way, head, body string) *Script {
	return named(name, way, body, constants+head+body+"return "+name+"(KEYS[1], KEYS[2], unpack(ARGV))\n")
}

func named(name string, way way, body, source string) *Script {
	sum := sha1.Sum([]byte(source)) // the name that Redis gives a script, not a protection
	return &Script{name, source, hex.EncodeToString(sum[:]), way, "", body}
}

// batchSource makes one script of several. The server is asked for its run once.
func batchSource() string {
	var b strings.Builder
	b.WriteString(constants)
	b.WriteString(passing)
	b.WriteString("local asked, run, uptime = false, nil, nil\nlocal once = server\n" +
		"server = function() if not asked then asked, run, uptime = true, once() end return run, uptime end\n")
	for _, s := range batched {
		b.WriteString(s.body)
	}
	b.WriteString("local ops = {")
	for _, s := range batched {
		fmt.Fprintf(&b, "%s = %[1]s, ", s.Name)
	}
	b.WriteString("}\n")
	b.WriteString(batchLua)
	return b.String()
}
