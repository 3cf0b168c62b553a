package leader_test

import (
	"context"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// rounds is how often a test repeats what depends on which goroutine is first.
const rounds = 200

func TestStatus(t *testing.T) {
	bubble(t, "SaysLostOnceTheDeadlinePassedThoughNoGoroutineRan", func(t *testing.T) {
		var over atomic.Bool
		r := run(t.Context(), aging{memory.New(), &over}, &leader.Options{TTL: ttl, Once: true}, untilDone)
		over.Store(true)
		require.Equal(t, leader.Lost, r.Status().State)
		require.ErrorIs(t, r.wait(), lock.ErrLost)
	})

	bubble(t, "SaysDrainingAtOnceWhenCtxEnds", func(t *testing.T) {
		for range rounds { // mostly before a goroutine has noticed
			ctx, cancel := context.WithCancel(t.Context())
			r := run(ctx, memory.New(), options(), func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second)
				return nil
			})
			cancel()
			require.Equal(t, leader.Draining, r.Status().State)
			synctest.Wait()
			require.Equal(t, leader.Draining, r.Status().State)
			require.NoError(t, r.wait())
		}
	})

	bubble(t, "NeverSaysDrainingOfALoss", func(t *testing.T) {
		for range rounds {
			var over atomic.Bool
			l := &counting{Locker: aging{memory.New(), &over}}
			var e atomic.Pointer[leader.Elector]
			l.onRelease = func() {
				if state := e.Load().Status().State; state != leader.Lost {
					t.Errorf("a lost term is released as %q", state)
				}
			}
			var reported atomic.Bool
			opts := &leader.Options{TTL: ttl, Once: true, OnChange: func(s leader.Status) {
				if s.State == leader.Lost {
					reported.Store(true)
				}
			}}
			returned := make(chan struct{})
			r := run(t.Context(), l, opts, func(context.Context) error { <-returned; return nil })
			e.Store(r.Elector)
			over.Store(true)
			for !reported.Load() { // beside the goroutine that notes the loss
				require.Equal(t, leader.Lost, r.Status().State)
				runtime.Gosched()
			}
			close(returned)
			require.ErrorIs(t, r.wait(), lock.ErrLost)
		}
	})

	bubble(t, "IsFinalWhenRunReturns", func(t *testing.T) {
		store := memory.New()
		log := &slowLog{Handler: slog.DiscardHandler, line: "term lost"}
		opts := options()
		opts.Once, opts.Logger = true, slog.New(log)
		r := run(t.Context(), store, opts, func(ctx context.Context) error { <-ctx.Done(); time.Sleep(time.Second / 2); return nil })
		require.NoError(t, store.ForceRelease(t.Context(), key, 0))
		require.ErrorIs(t, r.wait(), lock.ErrLost)
		require.EqualValues(t, 1, log.done.Load(), "Run returned while a goroutine of it was at work")
		before := r.Status()
		time.Sleep(2 * slowness)
		require.Equal(t, before, r.Status())
	})
}

// slowLog takes its time for one line.
type slowLog struct {
	slog.Handler
	line string
	done atomic.Int32
}

const slowness = time.Minute

func (*slowLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *slowLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == l.line {
		time.Sleep(slowness)
		l.done.Add(1)
	}
	return nil
}
