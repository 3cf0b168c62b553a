// Command clientgo measures the graceful hand-off of client-go's leader election, with
// its recommended settings, and prints the times in ns as a JSON array.
//
// Two candidates of one process stand for a Lease of client-go's fake clientset. The
// leader is cancelled; the time is from there to the call of the other's
// OnStartedLeading. The old OnStartedLeading returns at once.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

func main() {
	elections := flag.Int("elections", 10, "how many, side by side")
	settle := flag.Duration("settle", 5*time.Second, "how long a candidate stands by at the least")
	flag.Parse()
	klog.LogToStderr(false)
	klog.SetOutput(nowhere{})

	times := make([]time.Duration, *elections)
	errs := make([]error, *elections)
	var wg sync.WaitGroup
	for i := range times {
		wg.Go(func() { times[i], errs[i] = election(*settle) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "clientgo:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(times); err != nil {
		fmt.Fprintln(os.Stderr, "clientgo:", err)
		os.Exit(1)
	}
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func election(settle time.Duration) (time.Duration, error) {
	client := fake.NewClientset()
	ctx, cancel := context.WithTimeout(context.Background(), settle+time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	first, resign, err := campaign(ctx, &wg, client, "first")
	if err != nil {
		return 0, err
	}
	defer resign()
	select {
	case <-first:
	case <-ctx.Done():
		return 0, errors.New("the first candidate was not elected")
	}
	second, leave, err := campaign(ctx, &wg, client, "second")
	if err != nil {
		return 0, err
	}
	defer leave()
	// At any moment of its pause between two looks, which is 2 s to 4.4 s.
	time.Sleep(settle + rand.N(4400*time.Millisecond))
	start := time.Now()
	resign()
	select {
	case at := <-second:
		return at.Sub(start), nil
	case <-ctx.Done():
		return 0, errors.New("the second candidate was not elected")
	}
}

// campaign reports when its candidate was elected. wg has its goroutine.
func campaign(ctx context.Context, wg *sync.WaitGroup, client kubernetes.Interface, name string) (<-chan time.Time, context.CancelFunc, error) {
	started := make(chan time.Time, 1)
	e, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: "default"},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		},
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				started <- time.Now()
				<-ctx.Done()
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	wg.Go(func() { e.Run(ctx) })
	return started, cancel, nil
}
