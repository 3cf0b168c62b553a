package keepalive_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/doctables"
	"github.com/tonsurance/lockkeeper/keepalive"
)

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	o, err := (*keepalive.Options)(nil).WithDefaults(doctables.TTL)
	require.NoError(t, err)
	checked, errs := doctables.Check("keepalive.Options", doctables.Fields(o))
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
