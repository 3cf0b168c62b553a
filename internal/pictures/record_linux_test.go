package main

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestARealRunShowsWhatTheRecordingDoes: the same commands in real terminals, now.
func TestARealRunShowsWhatTheRecordingDoes(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	now, err := record()
	require.NoError(t, err)
	for terminal := 1; terminal <= 3; terminal++ {
		require.Equal(t, shape(recorded(t), terminal), shape(now, terminal), "terminal %d: run go run ./internal/pictures -record", terminal)
	}
}
