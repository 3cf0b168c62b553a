package browser

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

// lasts is the ttl of a lease on a picture that is kept. Nobody renews it: without pictures to keep
// it is longer, so that a busy machine is done before its end.
func lasts(ttl time.Duration) time.Duration {
	if os.Getenv("LOCKKEEPER_PICTURES") == "" {
		return min(guard, 30*ttl)
	}
	return ttl
}

// The pictures of the documents: all that a page can show of a cluster, from one. They
// are written with LOCKKEEPER_PICTURES, see make browser-pictures.
func TestPictures(t *testing.T) {
	browser := chromium(t)
	nodes := redistest.StartN(t, 3, durable...)
	at, _ := serve(t, nodesFlag(nodes))
	p := open(t, browser, at)
	p.like(1360, 860, "light")
	p.shows(".figures", "3 of 3")
	p.shows("main", "No lock is held.")
	p.picture("empty")

	l := clients(t, nodes, "web-1:4121", "web-2:3310", "web-3:2207", "reports (batch-3:881)", "crawler-1:911")
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	first := take(t, l[1], "pricing-oracle-keeper", lasts(time.Minute))
	for i, waits := range []lock.Locker{l[0], l[2]} {
		go func() { _, _ = lock.Acquire(ctx, waits, "pricing-oracle-keeper", lasts(time.Minute), nil) }()
		p.shows("#lock-pricing-oracle-keeper td:last-child", fmt.Sprint(i+1))
	}
	require.NoError(t, first.Release(t.Context()))
	take(t, l[3], "nightly-report", lasts(2*time.Minute))
	for range 3 {
		take(t, lock.Semaphore(l[4], 3), "crawl", lasts(90*time.Second))
	}
	rw, err := rwlock.New(l[0], 4)
	require.NoError(t, err)
	take(t, rw.Readers(), "catalogue", lasts(80*time.Second))
	other, err := rwlock.New(l[1], 4)
	require.NoError(t, err)
	take(t, other.Readers(), "catalogue", lasts(100*time.Second))
	take(t, l[2], "tenant:47:import", 10*time.Minute)
	for _, n := range nodes[:1] { // left over of an attempt
		n.Do("SET", "redlock:tenant:52:import", "web-9:77/ABCDEFGHIJKLMNOPQRSTUVWXYZ", "PX", "600000")
	}
	p.shows("#lock-pricing-oracle-keeper", "web-1:4121")
	p.shows("#lock-catalogue", "2 readers")
	p.shows("main", "orphaned")
	nodes[2].Kill()
	p.shows(".figures", "2 of 3")
	p.shows(".events", "node down")
	p.waitFor(`!document.querySelector(".trouble.bad:not([hidden])")`)
	p.like(1360, 1180, "light")
	p.picture("light")
	p.like(1360, 1180, "dark")
	p.picture("dark")
	p.like(390, 1500, "light")
	p.picture("phone")

	key := open(t, browser, at+"/lock?key=pricing-oracle-keeper")
	key.like(1000, 860, "light")
	key.shows(".waiters", "web-3:2207")
	key.picture("key")
	key.run(chromedp.Navigate(at + "/lock?key=catalogue"))
	key.shows(".card", "reader, place")
	key.picture("readers")

	nodes[1].Kill()
	p.like(1360, 860, "light")
	p.shows(".trouble", "The store does not say")
	p.shows(".figures", "1 of 3")
	p.picture("outage")
	require.Empty(t, p.complaints())
}
