package redlock_test

import (
	"slices"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/redlock"
)

// A caller's client may speak RESP2, where a subscription is another connection.
func TestRealAHandOverReachesAClientThatSpeaksRESP2(t *testing.T) {
	servers := redistest.StartN(t, 3)
	var clients []rueidis.Client
	for _, s := range servers {
		c, err := rueidis.NewClient(rueidis.ClientOption{
			InitAddress: []string{s.Addr()}, AlwaysRESP2: true, DisableCache: true, ForceSingleClient: true,
		})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		clients = append(clients, c)
	}
	l, err := redlock.New(clients, throwaway())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	wait := waiting(t, servers, l, "k")
	listening := func() bool {
		for _, s := range servers {
			if s.Do("PUBSUB", "CHANNELS", "lockkeeper:wake:*") == "" {
				return false
			}
		}
		return true
	}
	eventually(t, "the subscriptions", listening)
	for try := 0; ; try++ {
		before := subscriptions(servers)
		time.Sleep(1500 * time.Millisecond) // a heartbeat, and its time-out
		if slices.Equal(before, subscriptions(servers)) {
			break
		}
		require.Less(t, try, 5, "a heartbeat ends them") // one may, where the machine stood still
	}
	for _, s := range servers {
		eventually(t, "a subscription to end", func() bool { return s.Do("CLIENT", "KILL", "TYPE", "pubsub") != "0" })
	}
	eventually(t, "the subscriptions after their connections were killed", listening)
	release(t, held)
	release(t, wait())
}
