package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
)

// benched runs bench on fake time over a memory store, with two clients.
func benched(t *testing.T, number int, ttl time.Duration, prepare func(ctx context.Context, a, b *memory.Locker) context.Context) (r benchReport, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		a := &app{out: &out, err: &bytes.Buffer{}, getenv: func(string) string { return "" }, output: "json"}
		b := &bencher{a: a, number: number, ttl: ttl, key: "k"}
		store := memory.New()
		first, second := store.Client("a"), store.Client("b")
		err = b.run(prepare(t.Context(), first, second), first, second)
		require.NoError(t, json.Unmarshal(out.Bytes(), &r))
		for info, err := range store.List(t.Context(), "") {
			require.NoError(t, err)
			require.Fail(t, "left behind", info)
		}
	})
	return r, err
}

func TestBenchMeasuresWhatEachOperationTakes(t *testing.T) {
	r, err := benched(t, 20, 10*time.Second, func(ctx context.Context, a, b *memory.Locker) context.Context {
		a.Delay(3 * time.Millisecond)
		b.Delay(3 * time.Millisecond)
		return ctx
	})
	require.NoError(t, err)
	require.Len(t, r.Operations, 4)
	for i, o := range r.Operations {
		require.Equal(t, opNames[i], o.Name)
		require.Equal(t, 20, o.Count)
		require.Zero(t, o.Failed)
		require.Empty(t, o.Errors)
		want := 3000. // also of a hand-off: the release is all of it
		require.Equal(t, []float64{want, want, want, want}, []float64{o.P50, o.P90, o.P99, o.Max}, o.Name)
		sum := 0
		for _, bucket := range o.Histogram {
			sum += bucket.Count
		}
		require.Equal(t, o.Count, sum)
	}
	require.False(t, r.Interrupted)
}

func TestBenchCountsWhatFailedAndSaysWhy(t *testing.T) {
	r, err := benched(t, 20, 10*time.Second, func(ctx context.Context, a, b *memory.Locker) context.Context {
		a.FailNext(2, errors.New("out of luck"))
		return ctx
	})
	require.Equal(t, exitFailed, codeOf(err))
	require.Equal(t, 2, r.Operations[opAcquire].Failed)
	require.Len(t, r.Operations[opAcquire].Errors, 1)
	require.Equal(t, 2, r.Operations[opAcquire].Errors[0].Count)
	require.Contains(t, r.Operations[opAcquire].Errors[0].Error, "out of luck")
	require.Equal(t, 20, r.Operations[opHandoff].Count)
}

func TestBenchOfAStoreThatIsAwayEndsSoon(t *testing.T) {
	r, err := benched(t, 1_000_000, 10*time.Second, func(ctx context.Context, a, b *memory.Locker) context.Context {
		a.FailNext(-1, nil)
		b.FailNext(-1, nil)
		return ctx
	})
	require.Equal(t, exitUnavailable, codeOf(err))
	require.Equal(t, 10, r.Operations[opAcquire].Failed)
	require.Equal(t, 3, r.Operations[opHandoff].Failed)
}

func TestBenchALeaseThatRanOutIsNoHandOff(t *testing.T) {
	r, err := benched(t, 3, time.Second, func(ctx context.Context, _, b *memory.Locker) context.Context {
		b.Delay(2 * time.Second) // more than the ttl
		return ctx
	})
	require.Error(t, err)
	require.Zero(t, r.Operations[opHandoff].Count)
	require.Positive(t, r.Operations[opHandoff].Failed)
	require.Contains(t, r.Operations[opHandoff].Errors[0].Error, "want a longer --ttl")
}

func TestBenchShowsWhatItHasWhenInterruptedAndLeavesNothing(t *testing.T) {
	for _, after := range []time.Duration{10, 11, 12, 13, 1000, 1001, 1002, 1003, 1004} {
		r, err := benched(t, 100, 10*time.Second, func(ctx context.Context, a, b *memory.Locker) context.Context {
			a.Delay(time.Millisecond)
			b.Delay(time.Millisecond)
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(after*time.Millisecond+500*time.Microsecond, func() { cancel(signalled{2}) })
			return ctx
		})
		require.Equal(t, exitSignal+2, codeOf(err), after)
		require.True(t, r.Interrupted)
		require.Zero(t, r.Operations[opAcquire].Failed, "the interrupt is no failure of the store")
		require.Zero(t, r.Operations[opHandoff].Failed)
		if after >= 1000 {
			require.Equal(t, 100, r.Operations[opRelease].Count)
			require.Positive(t, r.Operations[opHandoff].Count)
		}
	}
}

func TestBenchEndsWithItsDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &app{out: &bytes.Buffer{}, err: &bytes.Buffer{}, getenv: func(string) string { return "" }, output: "json"}
		b := &bencher{a: a, number: 1_000_000, duration: 2 * time.Second, ttl: 10 * time.Second, key: "k"}
		store := memory.New()
		first, second := store.Client("a"), store.Client("b")
		first.Delay(time.Millisecond)
		second.Delay(time.Millisecond)
		began := time.Now()
		require.NoError(t, b.run(t.Context(), first, second))
		require.InDelta(t, 2, time.Since(began).Seconds(), 0.1)
	})
}

func TestPercentileIsOneOfTheTimes(t *testing.T) {
	var sorted []time.Duration
	require.Zero(t, percentile(sorted, 50))
	for i := range 100 {
		sorted = append(sorted, time.Duration(i+1))
	}
	for _, want := range []int{1, 50, 90, 99, 100} {
		require.EqualValues(t, want, percentile(sorted, float64(want)))
	}
	require.EqualValues(t, 1, percentile(sorted[:1], 99))
}

func TestBenchHistogramsHaveEveryTime(t *testing.T) {
	for range 200 {
		var b bencher
		for range 1 + rand.IntN(50) {
			b.results[rand.IntN(ops)].add(time.Duration(rand.ExpFloat64() * 1e6))
		}
		for _, o := range b.report(false).Operations {
			sum := 0
			for _, bucket := range o.Histogram {
				sum += bucket.Count
			}
			require.Equal(t, o.Count, sum)
		}
	}
}

func TestSparkShowsWhatIsNotNothing(t *testing.T) {
	require.Equal(t, "▁ █▄", spark([]bucketReport{{Count: 1}, {}, {Count: 1000}, {Count: 500}}))
	require.Empty(t, spark(nil))
}
