package nats_test

import (
	"context"
	"log"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tonsurance/lockkeeper/backends/nats"
	"github.com/tonsurance/lockkeeper/keepalive"
)

// It needs a server, so it is compiled and not run.
func ExampleNew() {
	conn, err := natsgo.Connect("nats://nats-1,nats://nats-2,nats://nats-3",
		natsgo.PingInterval(2*time.Second), natsgo.MaxPingsOutstanding(2), natsgo.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close() // after the locker
	js, err := jetstream.New(conn)
	if err != nil {
		log.Fatal(err)
	}
	l, err := nats.New(js, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	report := func(ctx context.Context) error { return nil } // ctx ends before another can have the key
	if err := keepalive.Do(context.Background(), l, "nightly-report", 30*time.Second, report, nil); err != nil {
		log.Print(err)
	}
}
