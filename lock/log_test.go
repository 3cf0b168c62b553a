package lock_test

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

func TestEventsLogWhatThereIsToSay(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	log.Info("lock", "event", lock.Event{Kind: lock.EventExtend, Key: "k", Token: 7, Duration: time.Millisecond, Err: errors.New("no answer")})
	log.Info("lock", "event", lock.Event{Kind: lock.EventWait, Key: "k"})
	require.Equal(t, `level=INFO msg=lock event.kind=extend event.key=k event.token=7 event.duration=1ms event.err="no answer"`+"\n"+
		"level=INFO msg=lock event.kind=wait event.key=k\n", out.String())
}
