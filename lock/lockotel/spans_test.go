package lockotel_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/lockotel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestSpans(t *testing.T) {
	traced := func(t *testing.T) (*lockotel.Telemetry, *tracetest.SpanRecorder, context.Context) {
		t.Helper()
		recorder := tracetest.NewSpanRecorder()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
		tel, err := lockotel.New(&lockotel.Options{MeterProvider: metric.NewMeterProvider(), TracerProvider: provider})
		require.NoError(t, err)
		ctx, _ := provider.Tracer("test").Start(t.Context(), "request")
		return tel, recorder, ctx
	}
	names := func(r *tracetest.SpanRecorder) (all []string) {
		for _, s := range r.Ended() {
			all = append(all, s.Name())
		}
		return all
	}

	bubble(t, "TellWhatHappenedAndForHowLongBelowTheCallersSpan", func(t *testing.T) {
		tel, r, ctx := traced(t)
		l := tel.Observe(memory.New())
		start := time.Now()
		other, err := l.TryAcquire(t.Context(), key, ttl) // no span around it
		require.NoError(t, err)
		time.AfterFunc(2*time.Second, func() { _ = other.Release(context.Background()) })
		lease, err := lock.Acquire(ctx, l, key, ttl, nil)
		require.NoError(t, err)
		granted := time.Now()
		time.Sleep(3 * time.Second)
		require.NoError(t, lease.Extend(ctx, ttl))
		require.NoError(t, lease.Release(ctx))
		all := names(r)
		require.Equal(t, "lock.attempt", all[0])
		require.Equal(t, []string{"lock.attempt", "lock.wait", "lock.extend", "lock.release", "lock.hold"}, all[len(all)-5:])
		for _, s := range r.Ended() {
			require.Contains(t, s.Attributes(), attribute.String("lock.key", key))
			require.True(t, s.Parent().IsValid())
			require.NotEqual(t, codes.Error, s.Status().Code, "a conflict is no error")
		}
		spans := r.Ended()
		require.Contains(t, spans[0].Attributes(), attribute.String("lock.outcome", "held"))
		wait, hold := spans[len(spans)-4], spans[len(spans)-1]
		require.True(t, wait.StartTime().Equal(start))
		require.True(t, wait.EndTime().Equal(granted))
		require.Contains(t, wait.Attributes(), attribute.Int64("lock.token", int64(lease.Token())))
		require.Contains(t, wait.Attributes(), attribute.Int("lock.wait.attempts", len(all)-4))
		require.True(t, hold.StartTime().Equal(granted))
		require.Equal(t, 3*time.Second, hold.EndTime().Sub(hold.StartTime()))
		require.Contains(t, hold.Attributes(), attribute.String("lock.hold.end", "released"))
	})

	bubble(t, "OfAHoldEndsWhenItsReleaseBegan", func(t *testing.T) {
		tel, r, ctx := traced(t)
		time.Sleep(time.Minute)
		tel.Event(lock.Event{Kind: lock.EventRelease, Context: ctx, Key: key, Duration: 5 * time.Second, Held: 20 * time.Second})
		release, hold := r.Ended()[0], r.Ended()[1]
		require.Equal(t, 5*time.Second, release.EndTime().Sub(release.StartTime()))
		require.True(t, hold.EndTime().Equal(release.StartTime()))
		require.Equal(t, 20*time.Second, hold.EndTime().Sub(hold.StartTime()))
	})

	bubble(t, "AreNotMadeWithoutOneAround", func(t *testing.T) {
		tel, r, _ := traced(t)
		lease, err := tel.Observe(memory.New()).TryAcquire(t.Context(), key, ttl)
		require.NoError(t, err)
		require.NoError(t, lease.Extend(t.Context(), ttl))
		require.NoError(t, lease.Release(t.Context()))
		require.Empty(t, r.Ended())
	})

	bubble(t, "OfFailuresAreErrors", func(t *testing.T) {
		tel, r, ctx := traced(t)
		store := memory.New()
		l := tel.Observe(store)
		store.FailNext(1, nil)
		_, err := l.TryAcquire(ctx, key, ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		lease, err := l.TryAcquire(ctx, key, ttl)
		require.NoError(t, err)
		require.NoError(t, store.ForceRelease(ctx, key, 0))
		require.ErrorIs(t, lease.Extend(ctx, ttl), lock.ErrLost)
		require.Equal(t, []string{"lock.attempt", "lock.attempt", "lock.hold", "lock.extend"}, names(r))
		spans := r.Ended()
		for i, want := range map[int]string{0: "unavailable", 2: "lost", 3: "lost"} {
			require.Equal(t, codes.Error, spans[i].Status().Code)
			require.NotEmpty(t, spans[i].Status().Description)
			require.Contains(t, spans[i].Attributes(), attribute.String("error.type", want))
		}
		require.Contains(t, spans[2].Attributes(), attribute.String("lock.hold.end", "taken"))
		require.Equal(t, codes.Unset, spans[1].Status().Code)
	})
}
