package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/backends/memory"
)

// guardedMap is the least that a lock in memory can do: a map behind a mutex.
type guardedMap struct {
	mu    sync.Mutex
	terms map[string]time.Time
}

// cycle does one insert, one delete and one time.Now.
func (m *guardedMap) cycle(key string) {
	m.mu.Lock()
	m.terms[key] = time.Now()
	m.mu.Unlock()
	m.mu.Lock()
	delete(m.terms, key)
	m.mu.Unlock()
}

// inMemory: the memory backend beside a map, by one caller and by more.
func inMemory(ctx context.Context, b *bench) error {
	b.printf("\n### Memory backend: acquire + release\n\n")
	b.printf("| goroutines | lockkeeper ns | mutex-guarded map ns | relative time | allocs | lockkeeper pairs/s | map pairs/s |\n|---|---|---|---|---|---|---|\n")
	for workers := 1; workers <= runtime.GOMAXPROCS(0); workers *= 2 {
		l, m := memory.New(), &guardedMap{terms: map[string]time.Time{}}
		contenders := []contender{
			// A context that can end, as programs have: Background would be cheaper.
			{"lockkeeper", func(_ context.Context, worker int) error {
				lease, err := l.TryAcquire(ctx, keyOf(worker, 0), ttl)
				if err != nil {
					return err
				}
				return lease.Release(ctx)
			}},
			{"mutex-guarded map", func(_ context.Context, worker int) error {
				m.cycle(keyOf(worker, 0))
				return nil
			}},
		}
		p := plan{rounds: b.scale(60, 3), block: b.scale(20_000, 200), workers: workers}
		r, err := alternate(ctx, p, 1, contenders)
		if err != nil {
			return err
		}
		w := float64(workers) // one op of each worker at a time
		b.printf("| %d | %s | %s | %s | %s | %.1f M | %.1f M |\n", workers,
			r[0].time.format("%.0f", w), r[1].time.format("%.0f", w), r[0].ratio.format("%.2f", 1),
			fmt.Sprintf("%.1f", r[0].allocs), 1e3/r[0].time.median, 1e3/r[1].time.median)
	}
	return nil
}
