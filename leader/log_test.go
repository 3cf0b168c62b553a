package leader_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/internal/logtest"
	"github.com/tonsurance/lockkeeper/leader"
)

// lines are those that were logged.
type lines struct{ logtest.Recorder }

// since gives what was logged since the last call.
func (l *lines) since() []string {
	synctest.Wait()
	return l.Take()
}

func logging() (*leader.Options, *lines) {
	log := &lines{}
	opts := options()
	opts.Logger = log.Logger()
	return opts, log
}

func TestLog(t *testing.T) {
	bubble(t, "TellsEachChangeOfACampaignOnceAndStandsBySilently", func(t *testing.T) {
		store := memory.New()
		other, err := store.Client("a").TryAcquire(t.Context(), key, 24*time.Hour)
		require.NoError(t, err)
		opts, log := logging()
		b := store.Client("b")
		ctx, cancel := context.WithCancel(t.Context())
		r := run(ctx, b, opts, untilDone)
		require.Equal(t, []string{"INFO standing by: another leads"}, log.since())
		time.Sleep(3 * time.Hour)
		require.Empty(t, log.since())

		b.FailNext(-1, nil)
		time.Sleep(3 * time.Hour)
		require.Equal(t, []string{"WARN no attempt to be elected succeeds"}, log.since())
		b.FailNext(0, nil)
		time.Sleep(3 * time.Hour)
		require.Equal(t, []string{"INFO standing by: another leads"}, log.since())

		require.NoError(t, other.Release(t.Context()))
		time.Sleep(3 * time.Hour)
		require.Equal(t, []string{"INFO leading"}, log.since())
		cancel()
		require.NoError(t, r.wait())
		require.Equal(t, []string{"INFO term ended"}, log.since())
	})

	bubble(t, "TellsThatACampaignWasEnded", func(t *testing.T) {
		store := memory.New()
		_, err := store.Client("a").TryAcquire(t.Context(), key, 24*time.Hour)
		require.NoError(t, err)
		opts, log := logging()
		ctx, cancel := context.WithCancel(t.Context())
		r := run(ctx, store.Client("b"), opts, untilDone)
		cancel()
		require.ErrorIs(t, r.wait(), context.Canceled)
		require.Equal(t, []string{"INFO standing by: another leads", "INFO campaign ended"}, log.since())
	})

	bubble(t, "TellsOfALossAndOfAnFnThatStays", func(t *testing.T) {
		store := memory.New()
		a := store.Client("a")
		opts, log := logging()
		opts.Once = true
		stuck := make(chan struct{})
		r := run(t.Context(), a, opts, func(context.Context) error { <-stuck; return nil })
		require.Equal(t, []string{"INFO leading"}, log.since())
		a.FailNext(-1, nil)
		time.Sleep(2 * ttl)
		a.FailNext(0, nil)
		close(stuck)
		require.Error(t, r.wait())
		all := log.since()
		require.Equal(t, "WARN renewal failed", all[0])
		require.Equal(t, "INFO term ended", all[len(all)-1])
		slices.Sort(all) // keeper and elector report side by side
		require.Equal(t, []string{
			"ERROR fn still runs although its term is lost; no other is started beside it",
			"ERROR lease lost", "INFO term ended", "WARN renewal failed", "WARN term lost",
		}, slices.Compact(all))
	})
}
