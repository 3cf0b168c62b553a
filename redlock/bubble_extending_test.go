package redlock

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// extension is the outcome of an extend that was started.
type extension struct {
	expiry time.Time
	err    error
}

type extensionDone chan extension

func (d extensionDone) Extended(expiry time.Time, err error) { d <- extension{expiry, err} }

func startExtend(t *testing.T, lease lock.Lease) extensionDone {
	t.Helper()
	done := make(extensionDone, 2)
	require.True(t, lease.(lock.ExtendStarter).StartExtend(ttl, 0, done))
	return done
}

// What an extend that is started comes to is what one comes to that is waited for.
func TestAStartedExtendComesToWhatOneThatWaitsDoes(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(q *quorum, nets []*network)
		want  error
		after time.Duration // that it takes
	}{
		"AllConfirm":         {func(*quorum, []*network) {}, nil, 0},
		"AQuorumConfirms":    {func(_ *quorum, nets []*network) { nets[0].set(func(w *network) { w.hang = true }) }, nil, 0},
		"NodesHang":          {func(_ *quorum, nets []*network) { hangAll(nets[:2]) }, lock.ErrUnavailable, 200 * time.Millisecond},
		"AllHang":            {func(_ *quorum, nets []*network) { hangAll(nets) }, lock.ErrUnavailable, 200 * time.Millisecond},
		"AQuorumLostTheLock": {func(q *quorum, _ []*network) { q.nodes[0].redis.FlushAll(); q.nodes[1].redis.FlushAll() }, lock.ErrLost, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, started := range []bool{false, true} {
				bubble(t, func(t *testing.T) {
					q := newQuorum(t, 3)
					l, nets := q.client(&Options{RestartGuard: -1, NodeTimeout: 200 * time.Millisecond})
					lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
					synctest.Wait()
					time.Sleep(time.Second)
					old := lease.Expiry()
					c.fault(q, nets)
					began := time.Now()
					var err error
					if started {
						e := <-startExtend(t, lease)
						if err = e.err; err == nil {
							require.Equal(t, lease.Expiry(), e.expiry)
						}
					} else {
						err = lease.Extend(t.Context(), ttl)
					}
					require.Equal(t, c.after, time.Since(began))
					require.ErrorIs(t, err, c.want)
					switch {
					case c.want == nil:
						require.Equal(t, time.Second, lease.Expiry().Sub(old))
					case c.want == lock.ErrLost:
						require.Zero(t, lease.Expiry())
					default:
						require.Equal(t, old, lease.Expiry())
					}
					for _, w := range nets {
						w.set(func(w *network) { w.hang = false })
					}
					_ = lease.Release(t.Context())
				})
			}
		})
	}
}

func hangAll(nets []*network) {
	for _, w := range nets {
		w.set(func(w *network) { w.hang = true })
	}
}

func TestAStartedExtendOfManyLeasesNeedsNoGoroutineOfEach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(&Options{RestartGuard: -1, NodeTimeout: time.Second})
		var leases []lock.Lease
		for i := range 50 {
			leases = append(leases, must(t)(l.TryAcquire(t.Context(), "k"+string(rune('A'+i)), ttl)))
		}
		synctest.Wait()
		hangAll(nets)
		began := time.Now()
		done := make(extensionDone, len(leases))
		for _, lease := range leases {
			time.Sleep(time.Millisecond)
			require.True(t, lease.(lock.ExtendStarter).StartExtend(ttl, 0, done))
		}
		for i := range leases {
			e := <-done
			require.ErrorIs(t, e.err, lock.ErrUnavailable)
			require.GreaterOrEqual(t, time.Since(began), time.Second+time.Duration(i+1)*time.Millisecond, "each has the node timeout")
		}
		require.Less(t, time.Since(began), 1200*time.Millisecond)
		for _, w := range nets {
			w.set(func(w *network) { w.hang = false })
		}
		for _, lease := range leases {
			_ = lease.Release(t.Context())
		}
	})
}

func TestAStartedExtendIsStoppedByAReleaseAndByStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		l, nets := q.client(&Options{RestartGuard: -1, NodeTimeout: 10 * time.Second})
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		nets[0].set(func(w *network) { w.delay = time.Second })
		began := time.Now()
		done := startExtend(t, lease)
		lease.(lock.ExtendStarter).StopExtend()
		e := <-done
		require.ErrorIs(t, e.err, lock.ErrUnavailable)
		require.Zero(t, time.Since(began))
		require.NotZero(t, lease.Expiry())

		done = startExtend(t, lease)
		require.NoError(t, lease.Release(t.Context()))
		require.ErrorIs(t, (<-done).err, lock.ErrLost)
		require.Empty(t, q.nodes[0].value("k"), "an extend that came after the release would not bring it back, either")
		require.Empty(t, done)
	})
}

func TestAStartedExtendOfAClosedLockerFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, l.Close())
		require.ErrorIs(t, (<-startExtend(t, lease)).err, lock.ErrClosed)
	})
}

// An extend can be over before the call that started it has returned: Close waits for both,
// or what the call asks beside it would begin after Close.
func TestCloseWaitsForTheCallThatStartsAnExtend(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(&Options{RestartGuard: -1})
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		goOn := make(chan struct{})
		l.agreement.locked(func() {
			l.agreement.asleep = func() time.Duration { <-goOn; return 0 }
			l.agreement.keptTTL.Store(0)
		})
		done, started, closed := make(extensionDone, 1), make(chan struct{}), make(chan struct{})
		go func() {
			lease.(lock.ExtendStarter).StartExtend(ttl, 0, done)
			close(started)
		}()
		require.NoError(t, (<-done).err)
		go func() {
			_ = l.Close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close has returned, and the call goes on")
		case <-started:
			t.Error("the call was not held up: the test shows nothing")
		default:
		}
		close(goOn)
		<-started
		<-closed
	})
}
