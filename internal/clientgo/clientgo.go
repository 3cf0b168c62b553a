// Package clientgo runs the leader election of client-go (tools/leaderelection) beside
// backends/kubernetes, on the same Leases. It is a module of its own, so that nobody else
// needs client-go.
package clientgo

import (
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// Namespace has the Leases.
const Namespace = "locks"

// Quiet ends what client-go logs of each elector's bad luck.
func Quiet() {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	_ = flags.Set("stderrthreshold", "FATAL")
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
}

// Times are those of an elector.
type Times struct{ Lease, Deadline, Retry time.Duration }

// Defaults are what client-go's documentation advises.
var Defaults = Times{15 * time.Second, 10 * time.Second, 2 * time.Second}

// Elector is one candidate.
type Elector struct {
	// Started has the time of each OnStartedLeading.
	Started chan time.Time
	dead    atomic.Bool
	resign  context.CancelFunc
	ended   chan struct{}
}

var errDead = errors.New("this process has died")

// Campaign makes a candidate stand for the Lease name until Resign or Die. While it leads,
// lead runs, if it is not nil, with the context that ends with the leadership.
func Campaign(config *rest.Config, name, identity string, times Times, lead func(ctx context.Context)) (*Elector, error) {
	e := &Elector{Started: make(chan time.Time, 100), ended: make(chan struct{})}
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return mortal{e, next} })
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: name, Namespace: Namespace},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		LeaseDuration: times.Lease, RenewDeadline: times.Deadline, RetryPeriod: times.Retry,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				e.Started <- time.Now()
				if lead != nil {
					lead(ctx)
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.resign = cancel
	go func() { // ends with Resign or Die, which wait for it
		defer close(e.ended)
		elector.Run(ctx)
	}()
	return e, nil
}

// Resign ends the candidate with a release, and returns when it has ended.
func (e *Elector) Resign() {
	e.resign()
	<-e.ended
}

// Die ends it without one: from now on, nothing that it sends arrives.
func (e *Elector) Die() {
	e.dead.Store(true)
	e.Resign()
}

// mortal is the way of an elector to the server.
type mortal struct {
	e    *Elector
	next http.RoundTripper
}

func (m mortal) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.e.dead.Load() {
		return nil, errDead
	}
	return m.next.RoundTrip(r)
}
