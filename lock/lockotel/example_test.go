package lockotel_test

import (
	"context"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock/lockotel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Everything that there is to connect; with redlock.Dial, give its Options
// OnRequest: tel.Request and OnRefresh: tel.Refresh too.
func Example() {
	ctx := context.Background()
	reader := metric.NewManualReader() // or an exporter's
	tel, err := lockotel.New(&lockotel.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))})
	if err != nil {
		panic(err)
	}
	locker := tel.Observe(memory.New())
	stop, err := tel.Health(locker, time.Minute)
	if err != nil {
		panic(err)
	}
	defer stop()
	elector := leader.New(locker, "prices", &leader.Options{Keepalive: &keepalive.Options{OnLost: tel.Lost}})
	unregister, err := tel.Elector(elector)
	if err != nil {
		panic(err)
	}
	defer unregister()

	_ = elector.Run(ctx, func(context.Context) error {
		var now metricdata.ResourceMetrics
		_ = reader.Collect(ctx, &now)
		for _, m := range now.ScopeMetrics[0].Metrics {
			if terms, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "lock.leader.terms" {
				fmt.Println(m.Name, terms.DataPoints[0].Value)
			}
		}
		return nil
	})
	// Output: lock.leader.terms 1
}
