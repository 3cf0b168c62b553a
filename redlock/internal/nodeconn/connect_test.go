package nodeconn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

func TestAConnectionThatNobodyWaitsForIsKeptForTheNextAndThenClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened, closed atomic.Int32
		r := newConnector(func(ctx context.Context, _ string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
			opened.Add(1)
			select {
			case <-time.After(2500 * time.Millisecond):
				return &countedConn{closed: &closed}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}, time.Second, 15*time.Second)
		defer r.close()
		d := &net.Dialer{}
		for range 2 {
			_, err := r.dial(t.Context(), "node", d, nil)
			require.True(t, StillConnecting(err), err)
		}
		start := time.Now()
		c, err := r.dial(t.Context(), "node", d, nil)
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(start), time.Second, "it was begun before")
		require.NoError(t, c.Close())
		others := opened.Load()
		require.LessOrEqual(t, others, int32(mostTries), "of tries beside each other one is used")
		closed.Store(0)

		_, err = r.dial(t.Context(), "node", d, nil)
		require.True(t, StillConnecting(err))
		time.Sleep(3*time.Second + keepConn)
		synctest.Wait()
		require.Empty(t, r.left)
		require.Positive(t, closed.Load())

		_, err = r.dial(t.Context(), "node", d, nil)
		require.True(t, StillConnecting(err))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Len(t, r.left, 1)
		r.close()
		synctest.Wait()
		require.Empty(t, r.left)
		_, err = r.dial(t.Context(), "node", d, nil)
		require.ErrorIs(t, err, nodeerr.ErrClosed)
	})
}

var errRefused = errors.New("connection refused")

type countedConn struct {
	net.Conn
	closed *atomic.Int32
}

func (c *countedConn) Close() error {
	c.closed.Add(1)
	return nil
}

func TestAConnectThatBeganInABlackoutIsOvertakenByOneThatDidNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, black := range []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second, 7 * time.Second, 13 * time.Second} {
			var running, most atomic.Int32
			until := time.Now().Add(black)
			r := newConnector(func(ctx context.Context, _ string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
				defer running.Add(-1)
				if n := running.Add(1); n > most.Load() {
					most.Store(n)
				}
				if !time.Now().Before(until) {
					return &countedConn{closed: new(atomic.Int32)}, nil
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}, time.Minute, 15*time.Second)
			_, err := r.dial(t.Context(), "node", &net.Dialer{}, nil)
			require.NoError(t, err)
			require.LessOrEqual(t, time.Since(until), slowHedge)
			require.LessOrEqual(t, most.Load(), int32(mostTries+1), "one of them is ending")
			r.close()
		}
	})
}

func TestAConnectEndsWithItsLimitAndARefusalAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newConnector(func(ctx context.Context, _ string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, time.Minute, 15*time.Second)
		defer r.close()
		start := time.Now()
		_, err := r.dial(t.Context(), "node", &net.Dialer{}, nil)
		require.EqualError(t, err, "not connected after 15s: still connecting (TCP)")
		require.False(t, StillConnecting(err))
		require.Equal(t, 15*time.Second, time.Since(start))

		opened := 0
		r = newConnector(func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
			opened++
			return nil, errRefused
		}, time.Minute, 15*time.Second)
		defer r.close()
		_, err = r.dial(t.Context(), "node", &net.Dialer{}, nil)
		require.ErrorIs(t, err, errRefused)
		require.Equal(t, 1, opened)
	})
}

// A name server may take its time. A server that has accepted the connection is given as long
// for its handshake as for its first answer: then it hangs, or speaks no TLS on that port.
func TestAServerThatDoesNotAnswerTheHandshakeIsNotWaitedForAsANameServerIs(t *testing.T) {
	const nodeTimeout, limit = time.Second, 15 * time.Second
	for name, c := range map[string]struct {
		dns, tls time.Duration
		want     time.Duration // until it is given up; 0: it connects
	}{
		"TLSIsNeverAnswered":              {0, time.Hour, 4 * nodeTimeout},
		"TLSTakesLongAfterTheName":        {5 * time.Second, 900 * time.Millisecond, 0},
		"TLSIsNotAnsweredAfterTheName":    {5 * time.Second, time.Hour, 9 * nodeTimeout},
		"TheNameTakesAlmostAllOfTheLimit": {14 * time.Second, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newConnector(func(ctx context.Context, _ string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
					for _, s := range []struct {
						at    step
						takes time.Duration
					}{{stepDNS, c.dns}, {stepTCP, 0}, {stepTLS, c.tls}} {
						stageOf(ctx).enter(s.at, "node")
						select {
						case <-time.After(s.takes):
						case <-ctx.Done():
							return nil, ctx.Err()
						}
					}
					return &countedConn{closed: new(atomic.Int32)}, nil
				}, nodeTimeout*9/10, limit)
				defer r.close()
				start := time.Now()
				conn, err := r.dial(t.Context(), "node", &net.Dialer{}, nil)
				for Slow(err, nodeTimeout) {
					time.Sleep(nodeTimeout / 10)
					conn, err = r.dial(t.Context(), "node", &net.Dialer{}, nil)
				}
				if c.want == 0 {
					require.NoError(t, err)
					require.NoError(t, conn.Close())
					return
				}
				require.ErrorContains(t, err, "it accepted the connection but did not answer the TLS handshake")
				require.LessOrEqual(t, time.Since(start), c.want)
				require.Greater(t, time.Since(start), c.dns+2*nodeTimeout)
			})
		})
	}
}
