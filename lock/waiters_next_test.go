package lock_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// pushed is queueStore with notifications, and slots: a key of two has two leases.
type pushed struct {
	queueStore
	calls []string // under mu
	wake  chan<- struct{}
}

func (p *pushed) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	p.note("try")
	if base, ok := strings.CutPrefix(key, "slots:"); ok {
		lease, err := p.queueStore.TryAcquire(ctx, base+"/1", ttl)
		if err != nil {
			lease, err = p.queueStore.TryAcquire(ctx, base+"/2", ttl)
		}
		return lease, err
	}
	return p.queueStore.TryAcquire(ctx, key, ttl)
}

func (p *pushed) Watch(_ context.Context, _ string, wake chan<- struct{}) (func(), error) {
	p.note("watch")
	p.wake = wake
	return func() { p.note("stop") }, nil
}

func (p *pushed) note(call string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, call)
}

func (p *pushed) noted() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.calls = nil }()
	return strings.Join(p.calls, " ")
}

func TestTheNextInTheQueue(t *testing.T) {
	bubble("WatchesBeforeItAsksForWhatTheOneBeforeGot", t, func(t *testing.T) {
		p := &pushed{}
		p.hold("k")
		a, b, c := stand(t, p, "k", nil), stand(t, p, "k", nil), stand(t, p, "k", nil)
		require.Equal(t, "try watch try", p.noted())
		p.free("k")
		p.wake <- struct{}{}
		<-a.done
		require.Equal(t, "try stop watch try", p.noted(), "the watch ends before the next one begins")
		require.NoError(t, a.lease.Release(t.Context()))
		p.wake <- struct{}{}
		<-b.done
		require.Equal(t, a.ended, b.ended)
		require.Equal(t, "try stop watch try", p.noted())
		c.cancel(nil)
		<-c.done
		require.Equal(t, "stop", p.noted())
	})
	bubble("AsksAtOnceWhereTheOneBeforeLeftWithoutALease", t, func(t *testing.T) {
		p := &pushed{}
		p.hold("k")
		a, b := stand(t, p, "k", nil), stand(t, p, "k", nil)
		p.noted()
		a.cancel(nil)
		<-a.done
		require.Equal(t, "stop try watch try", p.noted())
		b.cancel(nil)
		<-b.done
	})
	bubble("AsksAtOnceWhereTheOneBeforeGotOneOfSeveral", t, func(t *testing.T) {
		p := &pushed{}
		p.hold("k/1")
		p.hold("k/2")
		a, b, c := stand(t, p, "slots:k", nil), stand(t, p, "slots:k", nil), stand(t, p, "slots:k", nil)
		p.noted()
		p.free("k/1")
		p.free("k/2")
		p.wake <- struct{}{}
		<-a.done
		<-b.done
		require.Equal(t, a.ended, b.ended)
		require.Equal(t, "try stop try try watch try", p.noted())
		c.cancel(nil)
		<-c.done
	})
}
