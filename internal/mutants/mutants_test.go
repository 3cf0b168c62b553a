package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/overlay"
)

// A mutant whose lines are no longer in the source is found here, and not after an hour.
func TestEachMutantFitsTheSource(t *testing.T) {
	root, err := overlay.Root()
	require.NoError(t, err)
	names := map[string]bool{}
	for _, m := range mutants {
		_, err := overlay.Write(root, t.TempDir(), m.changes)
		require.NoError(t, err, m.name)
		require.False(t, names[m.name], "two mutants have the name %s", m.name)
		names[m.name] = true
	}
	_, err = overlay.Write(root, t.TempDir(), overlay.Seeded)
	require.NoError(t, err)
}
