package nats

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

// leastPermissions are those of the page.
const leastPermissions = `{
  publish: ["$KV.lockkeeper.>", "$JS.API.STREAM.INFO.KV_lockkeeper", "$JS.API.STREAM.MSG.GET.KV_lockkeeper", "$JS.API.CONSUMER.CREATE.KV_lockkeeper.>"]
  subscribe: ["_INBOX.>"]
}`

// everything is what this package does with a lock.
func everything(ctx context.Context, t *testing.T, l *Locker, key string) {
	t.Helper()
	lease, err := lock.Acquire(ctx, l, key, time.Minute, nil)
	require.NoError(t, err)
	require.NoError(t, lease.Extend(ctx, time.Minute))
	info, err := l.Inspect(ctx, key)
	require.NoError(t, err)
	require.Equal(t, lease.Token(), info.Token)
	n := 0
	for info, err := range l.List(ctx, key) {
		require.NoError(t, err)
		require.Equal(t, key, info.Key)
		n++
	}
	require.Equal(t, 1, n)
	got := make(chan error, 1)
	go func() {
		next, err := lock.Acquire(ctx, l, key, time.Minute, nil)
		if err == nil {
			err = next.Release(ctx)
		}
		got <- err
	}()
	require.Eventually(t, func() bool {
		e, err := l.store.Get(ctx, key)
		return err == nil && len(e.Record.Queue) > 0
	}, 30*time.Second, 10*time.Millisecond, "a waiter waits in the record's queue: it has a watch")
	require.NoError(t, lease.Release(ctx))
	require.NoError(t, <-got)
	h, err := l.Health(ctx)
	require.NoError(t, err)
	require.NoError(t, h.Nodes[0].Err)
}

func TestAUserWithTheLeastPermissionsCanDoEverything(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{Extra: fmt.Sprintf(`
authorization { users: [
  { user: admin, password: %[1]s }
  { user: clerk, password: %[1]s, permissions: %[2]s }
  { user: stranger, password: %[1]s, permissions: { publish: ["$JS.API.STREAM.INFO.KV_lockkeeper"], subscribe: ["_INBOX.>"] } }
  { user: deaf, password: %[1]s, permissions: { subscribe: ["_INBOX_deaf.>"] } }
] }
`, storetest.Password, leastPermissions)})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	addr := c.Members[0].Addr()
	rest := func(user string) string { return "//" + user + ":" + storetest.Password + "@" + addr }

	// The bucket is not there yet.
	clerk := atURL(t, "nats", rest("clerk"))
	_, err := clerk.TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "may not publish to $JS.API.STREAM.CREATE.KV_lockkeeper")
	require.ErrorContains(t, err, "there is no bucket lockkeeper, and it can't be made")
	admin := atURL(t, "nats", rest("admin"))
	_, err = admin.TryAcquire(ctx, "other", time.Minute)
	require.NoError(t, err)
	everything(ctx, t, clerk, "k")

	// Denials are noticed at once, not after the timeout.
	options := []natsgo.Option{natsgo.UserInfo("stranger", storetest.Password), natsgo.RetryOnFailedConnect(true)}
	stranger, err := newLocker(dialing("nats://"+addr, options, ""), &Options{Record: record.Options{Timeout: time.Hour}})
	require.NoError(t, err)
	defer stranger.Close()
	_, err = stranger.TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "may not publish to $JS.API.STREAM.MSG.GET.KV_lockkeeper")

	// On a connection that is the caller's, after the timeout.
	theirs := locker(t, dialed(t, c, natsgo.UserInfo("stranger", storetest.Password)), &Options{Record: record.Options{Timeout: 5 * time.Second}})
	_, err = theirs.TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)

	_, err = atURL(t, "nats", rest("deaf")).TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "may not subscribe to _INBOX")
	everything(ctx, t, atURL(t, "nats", rest("deaf")+"?inbox=_INBOX_deaf"), "l")

	_, err = atURL(t, "nats", "//clerk:wrong@"+addr).TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "check user and password")
	require.NotContains(t, err.Error(), "wrong")
}

func TestAPasswordThatIsMendedInTheServerWorks(t *testing.T) {
	t.Parallel()
	user := func(password string) string {
		return fmt.Sprintf("authorization { user: clerk, password: %s }\n", password)
	}
	c := storetest.StartNats(t, 1, storetest.NatsConfig{Extra: user("another")})
	way := redistest.NewProxy(t, c.Members[0].Addr())
	l := atURL(t, "nats", "//clerk:"+storetest.Password+"@"+way.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := l.TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.Eventually(t, func() bool { return way.Carried() > 4 }, 50*time.Second, 10*time.Millisecond, "it is refused again and again")
	_, err = l.TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	c.Members[0].Configure(user(storetest.Password))
	c.Members[0].Restart()
	for {
		_, err := l.TryAcquire(ctx, "k", time.Minute)
		if err == nil {
			return
		}
		require.NoError(t, ctx.Err(), "the last error: %v", err)
	}
}

func TestAccountsDoNotShareLocks(t *testing.T) {
	t.Parallel()
	user, err := nkeys.CreateUser()
	require.NoError(t, err)
	public, err := user.PublicKey()
	require.NoError(t, err)
	seed, err := user.Seed()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "user.nk")
	require.NoError(t, os.WriteFile(file, seed, 0o600))
	c := storetest.StartNats(t, 1, storetest.NatsConfig{Extra: fmt.Sprintf(`
accounts {
  A: { jetstream: enabled, users: [ { user: a, password: %[1]s } ] }
  B: { jetstream: enabled, users: [ { nkey: %[2]s } ] }
  C: { users: [ { user: c, password: %[1]s } ] }
}
`, storetest.Password, public)})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	addr := c.Members[0].Addr()
	for _, rest := range []string{"//a:" + storetest.Password + "@" + addr, "//" + addr + "?nkey=" + file} {
		lease, err := atURL(t, "nats", rest).TryAcquire(ctx, "k", time.Minute)
		require.NoError(t, err, "each account has a bucket of its own")
		require.NoError(t, lease.Extend(ctx, time.Minute))
	}
	_, err = atURL(t, "nats", "//a:"+storetest.Password+"@"+addr).TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrHeld, "within an account it is one")
	_, err = atURL(t, "nats", "//c:"+storetest.Password+"@"+addr).TryAcquire(ctx, "k", time.Minute)
	require.ErrorContains(t, err, "JetStream")
	require.ErrorContains(t, err, "account")
	require.NotErrorIs(t, err, lock.ErrHeld)
}

func TestAPrivateAuthorityAndClientCertificates(t *testing.T) {
	t.Parallel()
	a := storetest.NewAuthority(t)
	a.Issue(t, storetest.Certificate{Name: "server"})
	a.Issue(t, storetest.Certificate{Name: "client"})
	c := storetest.StartNats(t, 1, storetest.NatsConfig{Extra: fmt.Sprintf(
		"tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", a.File("server.crt"), a.File("server.key"), a.File("ca.crt"))})
	plain := storetest.StartNats(t, 1, storetest.NatsConfig{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	files := "&tls-cert=" + a.File("client.crt") + "&tls-key=" + a.File("client.key")
	hosts := "//" + c.Members[0].Addr()
	for _, scheme := range []string{"nats", "natss"} {
		lease, err := atURL(t, scheme, hosts+"?tls-ca="+a.File("ca.crt")+files).TryAcquire(ctx, "k", time.Minute)
		require.NoError(t, err)
		require.NoError(t, lease.Release(ctx))
	}
	for rest, want := range map[string]string{
		hosts + "?tls-ca=" + a.File("ca.crt"):                                 "certificate",
		hosts + "?tls-ca=" + storetest.NewAuthority(t).File("ca.crt") + files: "certificate",
		"//" + plain.Members[0].Addr():                                        "secure connection not available",
		"//" + plain.Members[0].Addr() + "?tls-ca=" + a.File("ca.crt"):        "secure connection not available",
	} {
		_, err := atURL(t, "natss", rest).TryAcquire(ctx, "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrUnavailable, rest)
		require.ErrorContains(t, err, want, rest)
	}
}

func TestAServerThatIsNotThereOrHasNoJetStreamIsSaidSo(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	l := atURL(t, "nats", "//"+c.Members[0].Addr())
	c.Members[0].Kill()
	_, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "connect")
	missing := atURL(t, "nats", "//"+c.Members[0].Addr())
	_, err = missing.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "connection refused", "also of one that was never there")
	h, err := l.Health(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, h.Nodes[0].Err, lock.ErrUnavailable)
	c.Members[0].Restart()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = lock.Acquire(ctx, l, "k", time.Minute, nil)
	require.NoError(t, err, "it recovers by itself")
	h, err = l.Health(ctx)
	require.NoError(t, err)
	require.Len(t, h.Nodes[0].Warnings, 1)
	require.Contains(t, h.Nodes[0].Warnings[0], "1 of 3 replicas")
}

func TestURLsThatCanNotBeUsedAreRefusedWithoutTheirPassword(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "creds")
	require.NoError(t, os.WriteFile(empty, []byte("s3cret"), 0o600))
	for _, rest := range []string{
		"", "h", "//", "//u:s3cret@", "//u:s3cret@h:x", "//h/path", "//h?tabel=x", "//h,,i", "//h?tls-ca=/missing", "//u:s3cret%zz@h",
		"//h?bucket=a.b", "//h?replicas=0", "//h?replicas=6", "//h?replicas=x", "//h?creds=/missing", "//h?nkey=/missing", "//h?nkey=/dev/null", "//h?inbox=a.*",
		"//h?domain=a.b", "//h?creds=" + t.TempDir(), "//h?creds=" + empty, "//h?nkey=" + t.TempDir(), "//h?creds=" + empty + "&nkey=" + empty,
	} {
		l, err := openURL("nats", rest)
		require.ErrorIs(t, err, lock.ErrInvalid, rest)
		require.Nil(t, l)
		require.NotContains(t, err.Error(), "s3cret")
	}
	for _, o := range []*Options{{Bucket: "a b"}, {Bucket: "é"}, {Replicas: -1}, {Record: record.Options{HeadStart: time.Hour}}} {
		_, err := newLocker(existing(nil), o)
		require.ErrorIs(t, err, lock.ErrInvalid)
	}
	_, err := New(nil, nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	unused := atURL(t, "nats", "//token@127.0.0.1:1") // and closed without a connection
	require.NotNil(t, unused)
}

func TestADomainIsReachedThroughItsPrefix(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{Domain: "hub"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	everything(ctx, t, atURL(t, "nats", "//"+c.Members[0].Addr()+"?domain=hub"), "k")
	js, err := jetstream.NewWithDomain(dialed(t, c).Conn(), "hub")
	require.NoError(t, err)
	everything(ctx, t, locker(t, js, nil), "l")
	_, err = atURL(t, "nats", "//"+c.Members[0].Addr()).TryAcquire(ctx, "m", time.Minute)
	require.NoError(t, err, "without a domain, it is the one of the server that is connected to")
}
