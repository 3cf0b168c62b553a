package etcd_test

import (
	"context"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tonsurance/lockkeeper/backends/etcd"
	"github.com/tonsurance/lockkeeper/keepalive"
)

// It needs a cluster, so it is compiled and not run.
func ExampleNew() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://etcd-1:2379", "https://etcd-2:2379", "https://etcd-3:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close() // after the locker
	l, err := etcd.New(client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	report := func(ctx context.Context) error { return nil } // ctx ends before another can have the key
	if err := keepalive.Do(context.Background(), l, "nightly-report", 30*time.Second, report, nil); err != nil {
		log.Print(err)
	}
}
