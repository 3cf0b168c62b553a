package clientgo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/tonsurance/lockkeeper/backends/kubernetes"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestMain(m *testing.M) {
	Quiet()
	os.Exit(programtest.Main(m))
}

// short are times with wide margins: a busy machine must not look like an elector's mistake.
var short = Times{6 * time.Second, 2 * time.Second, 300 * time.Millisecond}

func config(k *storetest.Kubernetes) *rest.Config {
	c := &rest.Config{Host: k.Host(), BearerToken: storetest.KubeAdmin, QPS: -1}
	c.CAFile = k.CA()
	if !k.Real() {
		c.ContentType = "application/json" // kubefake reads nothing else
	}
	return c
}

// ours is a locker over the client that client-go makes of its configuration.
func ours(t *testing.T, c *rest.Config) *kubernetes.Locker {
	t.Helper()
	client, err := rest.HTTPClientFor(c)
	require.NoError(t, err)
	l, err := kubernetes.New(client, c.Host, &kubernetes.Options{Namespace: Namespace})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		client.CloseIdleConnections()
	})
	return l
}

func theirs(t *testing.T, c *rest.Config, name, identity string) *Elector {
	t.Helper()
	e, err := Campaign(c, name, identity, short, nil)
	require.NoError(t, err)
	t.Cleanup(e.Resign)
	return e
}

// leads waits for an elector's election.
func leads(t *testing.T, e *Elector) time.Time {
	t.Helper()
	select {
	case at := <-e.Started:
		return at
	case <-time.After(time.Minute):
		t.Fatal("the elector does not lead after a minute")
		return time.Time{}
	}
}

func TestAnElectorExcludesOurHoldersUntilItIsOver(t *testing.T) {
	t.Parallel()
	c := config(storetest.StartKubernetes(t))
	for how, end := range map[string]func(*Elector){"it resigns": (*Elector).Resign, "it dies": (*Elector).Die} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("theirs-%d", len(how))
			l := ours(t, c)
			e := theirs(t, c, name, "theirs")
			leads(t, e)
			_, err := l.TryAcquire(t.Context(), name, time.Minute)
			held, ok := errors.AsType[*lock.HeldError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, "theirs", held.Holder)
			require.Positive(t, held.RetryAfter)
			info, err := l.Inspect(t.Context(), name)
			require.NoError(t, err)
			require.Equal(t, "theirs", info.Holder)

			got := make(chan lock.Lease, 1)
			go func() {
				lease, err := lock.Acquire(t.Context(), l, name, time.Minute, nil)
				if err == nil {
					got <- lease
				}
			}()
			// It renews on and on behind a queue, which changes the Lease but not its hold.
			select {
			case <-got:
				t.Fatal("two holders")
			case <-time.After(short.Lease + 2*time.Second):
			}
			begin := time.Now()
			end(e)
			select {
			case lease := <-got:
				t.Logf("ours has it %v after %s", time.Since(begin).Round(time.Millisecond), how)
				require.NoError(t, lease.Release(t.Context()))
			case <-time.After(time.Minute):
				t.Fatal("ours does not get it")
			}
		})
	}
}

func TestOurHoldersExcludeAnElectorUntilTheyAreOver(t *testing.T) {
	t.Parallel()
	c := config(storetest.StartKubernetes(t))
	const ttl = 4 * time.Second
	for _, dies := range []bool{false, true} {
		t.Run(fmt.Sprint("dies: ", dies), func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("ours-%v", dies)
			l := ours(t, c)
			lease, err := l.TryAcquire(t.Context(), name, time.Minute)
			require.NoError(t, err)
			e := theirs(t, c, name, "theirs")
			require.NoError(t, lease.Extend(t.Context(), ttl)) // shorter, and at once
			k, err := keepalive.Start(t.Context(), lease, ttl, nil)
			require.NoError(t, err)
			select {
			case <-e.Started:
				require.Error(t, k.Context().Err(), "two holders")
				t.Skip("this machine is too busy to renew within 4s")
			case <-time.After(3 * ttl):
			}
			begin := time.Now()
			if dies {
				require.NoError(t, l.Close()) // nothing is extended any more, and nothing released
				expiry := lease.Expiry()
				require.False(t, leads(t, e).Before(expiry), "two holders")
			} else {
				require.NoError(t, k.Release(t.Context()))
				leads(t, e)
			}
			t.Logf("theirs leads %v later", time.Since(begin).Round(time.Millisecond))
			// And it is refused to ours again, with a token that rises when it is over.
			next := ours(t, c)
			_, err = next.TryAcquire(t.Context(), name, time.Minute)
			require.ErrorIs(t, err, lock.ErrHeld)
			e.Resign()
			after, err := lock.Acquire(t.Context(), next, name, time.Minute, nil)
			require.NoError(t, err)
			require.Greater(t, after.Token(), lease.Token())
		})
	}
}

// A rolling update: pods with one library and pods with the other stand for one Lease, and
// come and go.
func TestOursAndTheirsNeverLeadTogether(t *testing.T) {
	t.Parallel()
	c := config(storetest.StartKubernetes(t))
	const name = "rolling"
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
	defer cancel()
	var leading atomic.Int32
	var terms [2]atomic.Int32
	work := func(ctx context.Context, who int) {
		if n := leading.Add(1); n != 1 {
			t.Errorf("%d lead at once", n)
		}
		terms[who].Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(time.Second)):
		}
		leading.Add(-1)
	}
	var pods sync.WaitGroup
	for i := range 3 {
		pods.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				done := make(chan struct{})
				e, err := Campaign(c, name, fmt.Sprintf("theirs-%d-%d", i, n), short, func(ctx context.Context) { work(ctx, 0); close(done) })
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case <-done:
				case <-ctx.Done():
				}
				if rand.N(4) == 0 {
					e.Die()
				} else {
					e.Resign()
				}
			}
		})
		pods.Go(func() {
			l := ours(t, c)
			for ctx.Err() == nil {
				select { // theirs look only now and then
				case <-ctx.Done():
				case <-time.After(rand.N(3 * time.Second)):
				}
				lease, err := lock.Acquire(ctx, l, name, 3*time.Second, nil)
				if err != nil {
					continue
				}
				// Without renewal: a term that nobody releases ends by itself.
				term, end := context.WithDeadline(ctx, lease.Expiry())
				work(term, 1)
				end()
				if rand.N(4) > 0 { // else it dies
					_ = lease.Release(context.Background())
				}
			}
		})
	}
	pods.Wait()
	t.Logf("terms of theirs: %d, of ours: %d", terms[0].Load(), terms[1].Load())
	require.NotZero(t, terms[0].Load())
	require.NotZero(t, terms[1].Load())
}
