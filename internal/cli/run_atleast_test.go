//go:build unix

package cli

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// stores are a URL of each kind that spans processes.
func stores(t *testing.T) map[string]string {
	s := redistest.StartN(t, 1, "--appendonly", "yes", "--appendfsync", "always")[0]
	return map[string]string{"file": fileURL(t), "redlock": "redlock://" + s.Addr()}
}

// Two machines whose clocks differ start the same short job.
func TestRunAtLeastKeepsTheHoldAfterAShortJob(t *testing.T) {
	for name, url := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			out, code := do(t, url, nil, "run", "job", "--once", "--at-least=8s", "-q", "--ttl=6s", "--", "echo", "ran")
			require.Zero(t, code, out)
			require.Equal(t, "ran\n", out)
			out, code = do(t, url, nil, "run", "job", "--once", "--at-least=8s", "-q", "--", "echo", "ran")
			if time.Since(began) < 8*time.Second {
				require.Equal(t, exitHeld, code, "it ran twice")
				require.Empty(t, out)
			}
			// And no longer than that, though nobody is there to free it.
			_, code = do(t, url, nil, "run", "job", "--wait=1m", "-q", "--", "true")
			require.Zero(t, code)
			require.GreaterOrEqual(t, time.Since(began), 8*time.Second*39/40) // clocks of stores
		})
	}
}

func TestRunAtLeastOnSuccessLetsAFailedJobBeTriedElsewhereAtOnce(t *testing.T) {
	for name, url := range stores(t) {
		_, code := do(t, url, nil, "run", "failed", "--once", "--at-least=1m", "--at-least-on=success", "-q", "--", "false")
		require.Equal(t, 1, code)
		_, code = do(t, url, nil, "run", "failed", "--once", "--at-least=1m", "--at-least-on=success", "-q", "--", "true")
		require.Zero(t, code, name)
		_, code = do(t, url, nil, "run", "failed", "--once", "-q", "--", "true")
		require.Equal(t, exitHeld, code, name)

		_, code = do(t, url, nil, "run", "always", "--once", "--at-least=1m", "-q", "--", "false")
		require.Equal(t, 1, code)
		_, code = do(t, url, nil, "run", "always", "--once", "-q", "--", "true")
		require.Equal(t, exitHeld, code, "%s: by default whatever the status is", name)

		bad := filepath.Join(t.TempDir(), "bad")
		require.NoError(t, os.WriteFile(bad, []byte("\x00\x01"), 0o700))
		_, code = do(t, url, nil, "run", "never", "--once", "--at-least=1m", "-q", "--", bad)
		require.Equal(t, exitNoExec, code)
		_, code = do(t, url, nil, "run", "never", "--once", "-q", "--", "true")
		require.Zero(t, code, "%s: no job has run", name)
	}
}

func TestRunAtLeastIsTheLongerOfJobAndTime(t *testing.T) {
	url := fileURL(t)
	_, code := do(t, url, nil, "run", "long", "--once", "--at-least=10ms", "-q", "--", "sleep", "0.1")
	require.Zero(t, code)
	_, code = do(t, url, nil, "run", "long", "--once", "-q", "--", "true")
	require.Zero(t, code)
}

func TestRunAtLeastAboveTheStoresLimitIsRefusedBeforeTheJobStarts(t *testing.T) {
	s := redistest.StartN(t, 1, "--appendonly", "yes", "--appendfsync", "always")[0]
	ran := filepath.Join(t.TempDir(), "ran")
	out, code := do(t, "redlock://"+s.Addr()+"?restart-guard=1m", nil, "run", "k", "--once", "--at-least=61s", "--", "touch", ran)
	require.Equal(t, exitUsage, code, out)
	require.Contains(t, out, "--at-least 1m1s")
	require.Contains(t, out, "1m0s")
	require.NoFileExists(t, ran)
	for _, c := range []struct{ flags []string }{
		{[]string{"--at-least=-1s"}}, {[]string{"--at-least=1m", "--restart"}}, {[]string{"--at-least-on=success"}}, {[]string{"--at-least=1m", "--at-least-on=x"}},
	} {
		out, code := do(t, "file:///nowhere/at/all", nil, append(append([]string{"run", "k"}, c.flags...), "--", "touch", ran)...)
		require.Equal(t, exitUsage, code, out)
		require.Contains(t, out, "--at-least")
	}
	require.NoFileExists(t, ran)
}
