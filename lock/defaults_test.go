package lock

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/doctables"
)

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	o, err := (*AcquireOptions)(nil).withDefaults()
	require.NoError(t, err)
	values := doctables.Fields(o)
	values["MaxDelay"] = o.pauses().outage // that of a store that is away: without a Watcher there is no other
	checked, errs := doctables.Check("lock.AcquireOptions", values)
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
