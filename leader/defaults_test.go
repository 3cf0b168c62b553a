package leader

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/internal/doctables"
)

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	s, err := New(memory.New(), "k", nil).settings(func(context.Context) error { return nil })
	require.NoError(t, err)
	values := doctables.Fields(Options{Acquire: s.acquire, Once: s.once})
	values["TTL"] = s.ttl
	checked, errs := doctables.Check("leader.Options", values)
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
