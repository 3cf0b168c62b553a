package kubernetes_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/kubernetes"
	"github.com/tonsurance/lockkeeper/internal/doctables"
)

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	checked, errs := doctables.Check("kubernetes.Options", doctables.Fields(kubernetes.Options{}))
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
