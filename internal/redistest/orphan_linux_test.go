package redistest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const orphanEnv = "REDISTEST_ORPHAN"

// The test process is killed here, so no cleanup of its own runs.
func TestServerDiesWithTheTestProcess(t *testing.T) {
	Require(t)
	if os.Getenv(orphanEnv) != "" {
		s := Start(t)
		fmt.Println("server", s.Addr(), s.base)
		select {} // until killed
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), orphanEnv+"=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var addr, base string
	for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "server ") {
			_, err := fmt.Sscanf(lines.Text(), "server %s %s", &addr, &base)
			require.NoError(t, err)
		}
	}
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.Contains(t, filepath.Base(base), "redistest-")
	t.Cleanup(func() { os.RemoveAll(base) })

	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, 30*time.Second, time.Millisecond, "the server at %s outlived its test", addr)
}
