// Command measure has leaders of client-go and of lockkeeper followed by another, side by
// side on one API server, and prints how long it took: after a clean stop, and after a crash.
//
//	make kubernetes
//
// The times are from the stop, or from the crash, to the start of the next one's work. Each
// round has two candidates, and a Lease of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"github.com/tonsurance/lockkeeper/backends/kubernetes"
	"github.com/tonsurance/lockkeeper/internal/clientgo"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/leader"
)

func main() {
	rounds := flag.Int("rounds", 20, "of each measurement, side by side")
	flag.Parse()
	clientgo.Quiet()
	h := &storetest.Host{}
	if err := h.Within(func() error { return measure(storetest.StartKubernetes(h), *rounds) }); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

// library is what leads.
type library struct {
	name string
	// round has one leader followed by another, and returns how long it took.
	round func(c *rest.Config, lease string, crash bool) (time.Duration, error)
}

func measure(k *storetest.Kubernetes, rounds int) error {
	c := &rest.Config{Host: k.Host(), BearerToken: storetest.KubeAdmin, QPS: -1}
	c.CAFile = k.CA()
	if !k.Real() {
		c.ContentType = "application/json"
	}
	fmt.Printf("%s, %d rounds: median [least, most]\n\n| | clean stop | crash |\n|---|---|---|\n", k.Version(), rounds)
	for _, l := range []library{
		{"client-go: LeaseDuration 15s, RenewDeadline 10s, RetryPeriod 2s, ReleaseOnCancel", theirs},
		{"lockkeeper: leader.Run, TTL 15s", ours(15 * time.Second)},
		{"lockkeeper: leader.Run, its defaults (TTL 30s)", ours(0)},
	} {
		fmt.Printf("| %s |", l.name)
		for _, crash := range []bool{false, true} {
			times, err := l.rounds(c, rounds, crash)
			if err != nil {
				return err
			}
			fmt.Printf(" %v [%v, %v] |", short(times[len(times)/2]), short(times[0]), short(times[len(times)-1]))
		}
		fmt.Println()
	}
	return nil
}

func short(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(100 * time.Millisecond)
}

func (l library) rounds(c *rest.Config, rounds int, crash bool) ([]time.Duration, error) {
	times, errs := make([]time.Duration, rounds), make([]error, rounds)
	var wg sync.WaitGroup
	for i := range rounds {
		wg.Go(func() {
			times[i], errs[i] = l.round(c, fmt.Sprintf("measure-%d", rand.Uint64()), crash)
		})
	}
	wg.Wait()
	slices.Sort(times)
	return times, errors.Join(errs...)
}

// settle is how long a leader leads before it ends: at any moment between two renewals and
// two looks.
func settle() time.Duration { return 10*time.Second + rand.N(10*time.Second) }

func started(ch <-chan time.Time) (time.Time, error) {
	select {
	case at := <-ch:
		return at, nil
	case <-time.After(2 * time.Minute):
		return time.Time{}, errors.New("nobody leads after two minutes")
	}
}

func theirs(c *rest.Config, lease string, crash bool) (time.Duration, error) {
	wait := func(ctx context.Context) { <-ctx.Done() }
	first, err := clientgo.Campaign(c, lease, "first", clientgo.Defaults, wait)
	if err != nil {
		return 0, err
	}
	if _, err := started(first.Started); err != nil {
		return 0, err
	}
	second, err := clientgo.Campaign(c, lease, "second", clientgo.Defaults, wait)
	if err != nil {
		return 0, err
	}
	defer second.Resign()
	time.Sleep(settle())
	begin := time.Now()
	if crash {
		go first.Die()
	} else {
		go first.Resign()
	}
	at, err := started(second.Started)
	return at.Sub(begin), err
}

func ours(ttl time.Duration) func(*rest.Config, string, bool) (time.Duration, error) {
	return func(c *rest.Config, lease string, crash bool) (time.Duration, error) {
		first, err := candidate(c, lease, ttl)
		if err != nil {
			return 0, err
		}
		defer first.resign()
		if _, err := started(first.started); err != nil {
			return 0, err
		}
		second, err := candidate(c, lease, ttl)
		if err != nil {
			return 0, err
		}
		defer second.resign()
		time.Sleep(settle())
		begin := time.Now()
		if crash {
			first.dead.Store(true)
		} else {
			first.cancel()
		}
		at, err := started(second.started)
		return at.Sub(begin), err
	}
}

// pod is one candidate of ours.
type pod struct {
	started chan time.Time
	dead    atomic.Bool
	cancel  context.CancelFunc
	ended   chan struct{}
	locker  *kubernetes.Locker
}

func candidate(c *rest.Config, lease string, ttl time.Duration) (*pod, error) {
	p := &pod{started: make(chan time.Time, 10), ended: make(chan struct{})}
	c = rest.CopyConfig(c)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return mortal{p, next} })
	client, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, err
	}
	if p.locker, err = kubernetes.New(client, c.Host, &kubernetes.Options{Namespace: clientgo.Namespace}); err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	go func() { // ends with resign, which waits for it
		defer close(p.ended)
		_ = leader.Run(ctx, p.locker, lease, func(ctx context.Context) error {
			p.started <- time.Now()
			<-ctx.Done()
			return nil
		}, &leader.Options{TTL: ttl})
	}()
	return p, nil
}

func (p *pod) resign() {
	p.cancel()
	<-p.ended
	_ = p.locker.Close()
}

// mortal is the way of a candidate to the server: from its death on nothing arrives.
type mortal struct {
	p    *pod
	next http.RoundTripper
}

func (m mortal) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.p.dead.Load() {
		return nil, errors.New("this process has died")
	}
	return m.next.RoundTrip(r)
}
