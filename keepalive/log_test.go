package keepalive

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/logtest"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestLogger(t *testing.T) {
	bubble(t, "GetsFailuresAndOneLoss", func(t *testing.T) {
		var buf bytes.Buffer
		k := keep(t, t.Context(), &store{onExtend: failing}, &Options{Logger: slog.New(slog.NewTextHandler(&buf, nil))})
		<-k.Context().Done()
		require.Error(t, k.Extend(t.Context(), ttl))
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost)
		synctest.Wait()
		require.Equal(t, 1, bytes.Count(buf.Bytes(), []byte(`msg="lease lost"`)))
		require.Contains(t, buf.String(), "renewal failed")
		require.Contains(t, buf.String(), key)
	})

	bubble(t, "IsSilentWhileAllIsWell", func(t *testing.T) {
		var buf bytes.Buffer
		log := slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug}))
		k := keep(t, t.Context(), &store{}, &Options{Logger: log})
		time.Sleep(100 * ttl)
		require.NoError(t, k.Context().Err())
		require.NoError(t, k.Release(t.Context()))
		synctest.Wait()
		require.Empty(t, buf.String())
	})

	bubble(t, "HasALevelForEach", func(t *testing.T) {
		var log logtest.Recorder
		s := &store{onExtend: failing}
		k := keep(t, t.Context(), s, &Options{Logger: log.Logger()})
		time.Sleep(k.opts.interval + ttl/100)
		require.Equal(t, []string{"WARN renewal failed"}, slices.Compact(log.All()))
		s.answer(nil)
		time.Sleep(ttl)
		require.Equal(t, []string{"WARN renewal failed", "INFO renewed again"}, slices.Compact(log.All()))
		s.answer(failing)
		<-k.Context().Done()
		synctest.Wait()
		require.Equal(t, []string{"WARN renewal failed", "INFO renewed again", "WARN renewal failed", "ERROR lease lost"}, slices.Compact(log.All()))
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost)
	})

	bubble(t, "ThatHangsIsNotInTheWayOfWhoeverSeesTheLoss", func(t *testing.T) {
		stuck := make(chan struct{})
		defer close(stuck)
		for name, look := range map[string]func(k *Keeper){
			"Err":     func(k *Keeper) { require.Error(t, k.Context().Err()) },
			"Done":    func(k *Keeper) { <-k.Context().Done() },
			"Lost":    func(k *Keeper) { <-k.Lost() },
			"Expiry":  func(k *Keeper) { require.Zero(t, k.Expiry()) },
			"Extend":  func(k *Keeper) { require.ErrorIs(t, k.Extend(t.Context(), ttl), lock.ErrLost) },
			"Release": func(k *Keeper) { require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost) },
		} {
			k := keep(t, t.Context(), &store{}, &Options{Logger: slog.New(hanging{slog.DiscardHandler, stuck})})
			k.timer.Stop() // as if the process had been stopped
			time.Sleep(ttl)
			seen := make(chan struct{})
			go func() {
				defer close(seen)
				look(k)
			}()
			select {
			case <-seen:
			case <-time.After(time.Second):
				require.Fail(t, "waits for the logger", name)
			}
		}
	})
}

func TestOnLost(t *testing.T) {
	lose := func(t *testing.T, onExtend func(context.Context, int) error) []error {
		var mu sync.Mutex
		var reported []error
		k := keep(t, t.Context(), &store{onExtend: onExtend}, &Options{OnLost: func(k *Keeper, err error) {
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, key, k.Key())
			reported = append(reported, err)
		}})
		<-k.Lost()
		cause := context.Cause(k.Context())
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []error{cause}, reported)
		return reported
	}
	bubble(t, "IsToldOnceWhyNothingWasRenewed", func(t *testing.T) {
		require.ErrorIs(t, lose(t, failing)[0], ErrNotRenewed)
	})
	bubble(t, "IsToldOnceThatTheStoreTookTheLease", func(t *testing.T) {
		err := lose(t, func(context.Context, int) error { return lock.ErrLost })[0]
		require.ErrorIs(t, err, lock.ErrLost)
		require.NotErrorIs(t, err, ErrNotRenewed)
	})
	bubble(t, "IsNotCalledWithoutALoss", func(t *testing.T) {
		k := keep(t, t.Context(), &store{}, &Options{OnLost: func(*Keeper, error) { require.Fail(t, "not lost") }})
		time.Sleep(3 * ttl)
		require.NoError(t, k.Release(t.Context()))
		time.Sleep(3 * ttl)
	})
}

// hanging is a log that nobody reads.
type hanging struct {
	slog.Handler
	stuck chan struct{}
}

func (hanging) Enabled(context.Context, slog.Level) bool    { return true }
func (h hanging) WithAttrs([]slog.Attr) slog.Handler        { return h }
func (h hanging) Handle(context.Context, slog.Record) error { <-h.stuck; return nil }
