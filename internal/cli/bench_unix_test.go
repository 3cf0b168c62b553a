//go:build unix

package cli

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBenchPassesTheLockBetweenTwoLockers(t *testing.T) {
	out, code := do(t, fileURL(t), nil, "bench", "--number=3", "--output=json")
	require.Zero(t, code, out)
	var r benchReport
	require.NoError(t, json.Unmarshal([]byte(out), &r), out)
	require.Equal(t, 3, r.Operations[opHandoff].Count)

	out, code = do(t, "memory:", nil, "bench", "-n3")
	require.Zero(t, code, out)
	require.Contains(t, out, "hand-off")
	require.NotContains(t, out, "\x1b")

	for _, flag := range []string{"--number=0", "--duration=-1s", "--ttl=1ms", "--output=x"} {
		out, code = do(t, "file:///nowhere/at/all", nil, "bench", flag)
		require.Equal(t, exitUsage, code, out)
	}
}
