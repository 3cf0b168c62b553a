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

	acquireScript = newScript(serverLua + acquireLua)
	commitScript  = newScript(serverLua + commitLua)
	extendScript  = newScript(serverLua + extendLua)
	repairScript  = newScript(serverLua + repairLua)
	releaseScript = newScript(releaseLua)
	inspectScript = newScript(inspectLua)
)

type script struct{ source, sha string }

func newScript(source string) *script {
	sum := sha1.Sum([]byte(source)) // the name that Redis gives a script, not a protection
	return &script{source, hex.EncodeToString(sum[:])}
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
