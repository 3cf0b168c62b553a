package file

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/doctables"
)

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	o, err := (*Options)(nil).withDefaults()
	require.NoError(t, err)
	checked, errs := doctables.Check("file.Options", doctables.Fields(o))
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
