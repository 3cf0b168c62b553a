//go:build unix

package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResignLetsAnotherCopyLead(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		first := start(t, url, nil, "run", "k", "--ttl=6s", "--restart", "--holder=first", "--", "sleep", "1000")
		first.Sees(t, "holding k")
		second := start(t, url, nil, "run", "k", "--ttl=6s", "--holder=second", "--", "sleep", "1000")
		second.Sees(t, "standing by")
		token := shown(t, url, "k").Token

		out, code := do(t, url, nil, "resign", "k", "--wait=20s")
		require.Zero(t, code, out)
		require.Contains(t, out, ", token "+token+", to resign from k")
		require.Contains(t, out, " is over; second (")
		first.Sees(t, "to resign: ending the command")
		first.Sees(t, "campaigning again")
		second.Sees(t, "holding k")
		require.NotEqual(t, token, shown(t, url, "k").Token)

		// Without --restart a copy that resigns ends; the first one leads again.
		out, code = do(t, url, nil, "resign", "k")
		require.Zero(t, code, out)
		require.Equal(t, exitSignal+15, second.Exits(t))
	})
}

func TestResignOfAKeyThatNobodyHolds(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		out, code := do(t, url, nil, "resign", "k")
		require.Zero(t, code)
		require.Contains(t, out, "nobody holds k\n")
	})
}

func TestResignOfAHolderThatTakesItsTimeIsToldSo(t *testing.T) {
	url := fileURL(t)
	p := start(t, url, nil, "run", "k", "--ttl=6s", "--holder=stubborn", "--", "sh", "-c", "trap '' TERM; echo ready >&2; sleep 1000 & wait; wait; sleep 1000")
	p.Sees(t, "ready")
	out, code := do(t, url, nil, "resign", "k", "--wait=2s")
	require.Equal(t, exitHeld, code, out)
	require.Contains(t, out, "still holds k after 2s")
	out, code = do(t, url, nil, "resign", "k", "--wait=0.5")
	require.Equal(t, exitUsage, code, out)
}
