package kubernetes_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/tonsurance/lockkeeper/backends/kubernetes"
	"github.com/tonsurance/lockkeeper/internal/kubetest"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// It needs a pod, so it is compiled and not run.
func ExampleInCluster() {
	l, err := kubernetes.InCluster(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	run := func(ctx context.Context) error { <-ctx.Done(); return nil } // ctx ends before another can lead
	if err := leader.Run(context.Background(), l, "pricing-oracle-keeper", run, nil); err != nil {
		log.Print(err)
	}
}

// The client and the URL stand in for rest.HTTPClientFor(config) and config.Host of client-go.
func ExampleNew() {
	client, stop := new(kubetest.Server).Client()
	defer stop()

	l, err := kubernetes.New(client, "http://kubernetes", &kubernetes.Options{Namespace: "default"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	err = keepalive.Do(context.Background(), l, "nightly-report", 30*time.Second, func(ctx context.Context) error {
		fmt.Println("alone, with a token:", lock.Token(ctx) > 0)
		return nil
	}, nil)
	fmt.Println(err)
	// Output:
	// alone, with a token: true
	// <nil>
}
