package nats

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/storetest"
)

// TestMain lets more tests wait at the same time than there are processors: all that they do
// is wait, for elections and timeouts.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = flag.Set("test.parallel", "6")
	}
	os.Exit(m.Run())
}

// dialed opens a client of all servers, as the page says.
func dialed(t testing.TB, c *storetest.Nats, options ...natsgo.Option) jetstream.JetStream {
	t.Helper()
	options = append([]natsgo.Option{
		natsgo.PingInterval(time.Second), natsgo.MaxPingsOutstanding(2), natsgo.MaxReconnects(-1),
		natsgo.ReconnectWait(100 * time.Millisecond), natsgo.ErrorHandler(func(*natsgo.Conn, *natsgo.Subscription, error) {}),
	}, options...)
	conn, err := natsgo.Connect(strings.Join(c.Addrs(), ","), options...)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return js
}

// opened is a store as a Locker has it.
func opened(t testing.TB, js jetstream.JetStream, bucket string) *store {
	t.Helper()
	s := newStore(existing(js), bucket, 0)
	t.Cleanup(s.conn.close)
	return s
}

func locker(t testing.TB, js jetstream.JetStream, o *Options) *Locker {
	t.Helper()
	l, err := New(js, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// atURL is a locker that was opened by its URL.
func atURL(t testing.TB, scheme, rest string) *Locker {
	t.Helper()
	l, err := openURL(scheme, rest)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.(*Locker).Close()) })
	return l.(*Locker)
}

// ofClient reports the goroutines of NATS' client, which is closed after its lockers.
func ofClient(stack string) bool {
	return strings.Contains(stack, "github.com/nats-io/nats.go")
}
