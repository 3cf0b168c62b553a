package record

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/doctables"
)

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	o, err := (*Options)(nil).withDefaults(true)
	require.NoError(t, err)
	fields := doctables.Fields(o)
	fields["Names"] = doctables.Words("the zero Names") // in which functions stand
	checked, errs := doctables.Check("record.Options", fields)
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
