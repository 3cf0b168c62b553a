package main

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
)

// late is a schedule by a clock that is behind.
type late struct {
	cron.Schedule
	by time.Duration
}

func (l late) Next(now time.Time) time.Time { return l.Schedule.Next(now.Add(-l.by)).Add(l.by) }

func TestAJobRunsOnceAPeriodThoughTheClocksDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		everyMinute, err := cron.ParseStandard("* * * * *")
		require.NoError(t, err)
		var mu sync.Mutex
		runs := map[time.Duration]int{}
		var crons []*cron.Cron
		begin := time.Now()
		for i := range 4 {
			c := cron.New()
			c.Schedule(late{everyMinute, time.Duration(i) * 5 * time.Second}, cron.FuncJob(Locked(t.Context(), store.Client(""), "report", func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				runs[time.Since(begin).Truncate(time.Minute)]++
				return nil
			})))
			c.Start()
			crons = append(crons, c)
		}
		time.Sleep(time.Hour + 30*time.Second)
		for _, c := range crons {
			<-c.Stop().Done()
		}
		for minute := time.Minute; minute <= time.Hour; minute += time.Minute {
			require.Equal(t, 1, runs[minute], "at %v", minute)
		}
		time.Sleep(time.Minute) // the last key's hold
	})
}
