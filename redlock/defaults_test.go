package redlock

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/doctables"
)

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	o, err := (*Options)(nil).withDefaults(doctables.Nodes)
	require.NoError(t, err)
	checked, errs := doctables.Check("redlock.Options", doctables.Fields(o.Options))
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
