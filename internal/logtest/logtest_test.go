package logtest

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARecorderKeepsEveryLevelInOrder(t *testing.T) {
	var r Recorder
	log := r.Logger()
	log.Debug("one", "node", "a")
	log.With("key", "k").WithGroup("g").Error("two")
	require.Equal(t, []string{"DEBUG one", "ERROR two"}, r.Take())
	require.Empty(t, r.Take())
	log.Info("three")
	require.Equal(t, []string{"INFO three"}, r.Take())
	require.Equal(t, []string{"DEBUG one", "ERROR two", "INFO three"}, r.All())
}

func TestTheFirstAttributeBeginsTheLine(t *testing.T) {
	r := Recorder{First: "node"}
	log := r.Logger()
	log.Warn("down", slog.String("node", "a"), slog.Int("tries", 3))
	log.With("node", "b").Warn("down")
	log.Warn("none")
	require.Equal(t, []string{"a WARN down", "b WARN down", "WARN none"}, r.Take())
}
