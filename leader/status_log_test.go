package leader_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/leader"
)

func TestStatusLogsWhatThereIsToSay(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "since" {
			return slog.Attr{}
		}
		return a
	}}))
	elector := leader.New(memory.New(), "feed", nil)
	log.Info("now", "leader", elector.Status())
	require.NoError(t, elector.Run(t.Context(), func(context.Context) error {
		log.Info("now", "leader", elector.Status())
		return nil
	}))
	require.Equal(t, "level=INFO msg=now leader.key=feed leader.state=stopped\n"+
		`level=INFO msg=now leader.key=feed leader.state=leading leader.token=1 leader.terms=1`+"\n", out.String())
}
