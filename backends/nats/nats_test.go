package nats

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/conformtest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	conformtest.Store(t, "NATS", recordtest.Stores{
		Dial:  func(t *testing.T) record.Store { return opened(t, dialed(t, c), DefaultBucket) },
		Names: names,
	})
}

func TestConformance(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	a, b := dialed(t, c), dialed(t, c)
	n := 0
	conformtest.Locks(t, "NATS", recordtest.Locks{
		Open: func(t *testing.T) func(t *testing.T) record.Store {
			return func(t *testing.T) record.Store {
				n++
				return opened(t, []jetstream.JetStream{a, b}[n%2], "conformance")
			}
		},
		Options:         &record.Options{Names: names},
		TTL:             400 * time.Millisecond,
		Late:            true,
		IgnoreGoroutine: ofClient,
		AllowSkips:      []string{"Wrap", "Skew"},
	}.Harness())
}
