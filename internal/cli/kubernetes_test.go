//go:build unix

package cli

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/kubetest"
)

func TestEveryVerbWorksOnLeases(t *testing.T) {
	server := httptest.NewServer(&kubetest.Server{})
	defer server.Close()
	url := "kubernetes" + server.URL[len("http"):] + "/default?plain=true"
	out, code := do(t, url, nil, "health")
	require.Zero(t, code, out)
	require.Contains(t, out, "v1.37.2-kubefake")

	holder := start(t, url, nil, "run", "oracle", "--holder", "me", "--", "sleep", "1000")
	holder.Sees(t, "holding oracle in kubernetes://")
	out, code = do(t, url, nil, "list")
	require.Zero(t, code, out)
	require.Contains(t, out, "oracle")
	out, code = do(t, url, nil, "show", "oracle")
	require.Zero(t, code, out)
	require.Contains(t, out, "me (")
	out, code = do(t, url, nil, "run", "oracle", "--once", "--", "true")
	require.Equal(t, exitHeld, code, out)
	out, code = do(t, url, nil, "release", "oracle", "--force", "--yes")
	require.Zero(t, code, out)
	holder.Sees(t, "lost")
	out, code = do(t, url, nil, "run", "oracle", "--at-least", "1s", "--", "sh", "-c", "echo token $LOCKKEEPER_TOKEN")
	require.Zero(t, code, out)
	require.Contains(t, out, "token ")
	out, code = do(t, url, nil, "bench", "--duration", "100ms")
	require.Zero(t, code, out)

	out, code = do(t, "kubernetes:///default", []string{"KUBERNETES_SERVICE_HOST="}, "list")
	require.Equal(t, exitUsage, code, out)
	require.Contains(t, out, "want to run in a pod")
}
