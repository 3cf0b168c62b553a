package redlock

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"

	"github.com/redis/rueidis"
)

var (
	//go:embed scripts/server.lua
	serverLua string
	//go:embed scripts/turn.lua
	turnLua string
	//go:embed scripts/acquire.lua
	acquireLua string
	//go:embed scripts/commit.lua
	commitLua string
	//go:embed scripts/extend.lua
	extendLua string
	//go:embed scripts/repair.lua
	repairLua string
	//go:embed scripts/release.lua
	releaseLua string
	//go:embed scripts/inspect.lua
	inspectLua string
	//go:embed scripts/wait.lua
	waitLua string
	//go:embed scripts/leave.lua
	leaveLua string
	//go:embed scripts/agree.lua
	agreeLua string
	//go:embed scripts/batch.lua
	batchLua string

	acquireScript = newScript("acquire", serverLua+turnLua, acquireLua)
	commitScript  = newScript("commit", serverLua, commitLua)
	extendScript  = newScript("extend", serverLua, extendLua)
	repairScript  = newScript("repair", serverLua, repairLua)
	releaseScript = newScript("release", "", releaseLua)
	inspectScript = newScript("inspect", "", inspectLua)
	waitScript    = newScript("wait", "", waitLua)
	leaveScript   = newScript("leave", "", leaveLua)
	agreeScript   = newScript("agree", "", agreeLua)

	// What a hold asks of a node, several at a time.
	batchScript = named("batch", "", batchSource(acquireScript, commitScript, extendScript, repairScript, releaseScript, waitScript, leaveScript, agreeScript))
)

// script is one function of a node's side. Its file says what it is asked and what
// it answers.
type script struct{ name, body, source, sha string }

// newScript makes a script of a function with this name; head is what it needs
// before it.
func newScript(name, head, body string) *script {
	return named(name, body, head+body+"return "+name+"(KEYS[1], KEYS[2], unpack(ARGV))\n")
}

func named(name, body, source string) *script {
	sum := sha1.Sum([]byte(source)) // the name that Redis gives a script, not a protection
	return &script{name, body, source, hex.EncodeToString(sum[:])}
}

// eval runs the script on one node, by its hash first: one round trip unless the
// node has not seen it since it started.
func (s *script) eval(ctx context.Context, c rueidis.Client, k keys, args ...string) rueidis.RedisResult {
	res := c.Do(ctx, c.B().Arbitrary("EVALSHA", s.sha, "2").Keys(k.lock, k.fence).Args(args...).Build())
	if err, ok := rueidis.IsRedisErr(res.Error()); ok && err.IsNoScript() {
		res = c.Do(ctx, c.B().Arbitrary("EVAL", s.source, "2").Keys(k.lock, k.fence).Args(args...).Build())
	}
	return res
}
