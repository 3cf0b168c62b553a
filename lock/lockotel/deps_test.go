package lockotel_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program that uses this package chooses its SDK, exporter and store itself.
func TestLinksTheAPIAlone(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", ".")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	linked := strings.Fields(string(out))
	require.Contains(t, linked, "go.opentelemetry.io/otel/metric")
	for _, pkg := range linked {
		for _, no := range []string{"go.opentelemetry.io/otel/sdk", "github.com/prometheus", "github.com/redis", "github.com/stretchr", "testing"} {
			require.False(t, strings.HasPrefix(pkg, no), pkg)
		}
	}
}
