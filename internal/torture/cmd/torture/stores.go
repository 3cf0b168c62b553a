package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tonsurance/lockkeeper/backends"
	_ "github.com/tonsurance/lockkeeper/backends/etcd"
	_ "github.com/tonsurance/lockkeeper/backends/mysql"
	_ "github.com/tonsurance/lockkeeper/backends/nats"
	_ "github.com/tonsurance/lockkeeper/backends/postgres"
	_ "github.com/tonsurance/lockkeeper/backends/s3"
	_ "github.com/tonsurance/lockkeeper/backends/sqlite"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/registry"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

// store is one that can be tortured. The clients, the checks and the report are the same
// for all; what can happen to the servers differs.
type store struct {
	name string
	// leftOut says what does not happen to it here, and why.
	leftOut string
	nodes   int  // servers, where -nodes does not say
	some    bool // -nodes may say
	start   func(*torture) ([]*node, place, error)
	kinds   func() []kind
	// frees: the death of a process frees its keys at once.
	frees   bool
	require func(testing.TB) // skips or fails a test that lacks the server
}

// place is where a store is.
type place struct {
	urls func(*process) []string // through the process's proxies
	// The parent's own way to the database, without a proxy: see database/sql.
	driver, dsn string
}

var stores = []store{
	{name: "redlock", nodes: 3, some: true, start: startRedis, kinds: redisKinds, require: redistest.Require},
	{name: "file", frees: true, start: startFile, kinds: clientKinds, require: func(testing.TB) {},
		leftOut: "servers and networks, which it does not have; a reboot, which ends every lease; deleted files, which its page forbids"},
	{name: "sqlite", start: startSQLite, kinds: sqliteKinds, require: func(testing.TB) {},
		leftOut: "servers and networks, which it does not have; a reboot; a disk that loses what was synced"},
	{name: "postgres", nodes: 1, start: startPostgres, kinds: postgresKinds, require: func(t testing.TB) { storetest.PostgresVersion(t) },
		leftOut: "a fail-over, which the tests of the package try; a server's clock that is set; a disk that loses what was synced"},
	{name: "mysql", nodes: 1, start: startMySQL, kinds: mysqlKinds, require: func(t testing.TB) { storetest.MySQLVersion(t) },
		leftOut: "a fail-over; a server's clock that is set; a disk that loses what was synced"},
	{name: "etcd", nodes: 3, some: true, start: startEtcd, kinds: etcdKinds, require: func(t testing.TB) { storetest.EtcdVersion(t) },
		leftOut: "members that come back without their data, which etcd does not survive: they must be removed and added"},
	{name: "nats", nodes: 3, some: true, start: startNats, kinds: natsKinds, require: func(t testing.TB) { storetest.NatsVersion(t) },
		leftOut: "a disk that loses what was acknowledged; a deleted bucket, which its page forbids and whose tests the package has; a backup that is restored"},
	{name: "s3", nodes: 1, start: startS3, kinds: s3Kinds, require: func(t testing.TB) { storetest.S3Version(t) },
		leftOut: "servers that share a bucket; a server's clock that is set; a disk that loses what was synced"},
	{name: "kubernetes", nodes: 1, start: startKubernetes, kinds: kubernetesKinds, require: func(testing.TB) {},
		leftOut: "an etcd below it that fails, which the torture of etcd tries; a second API server; a server's clock that is set"},
}

// storeNamed is nil if there is none.
func storeNamed(name string) *store {
	if i := slices.IndexFunc(stores, func(s store) bool { return s.name == name }); i >= 0 {
		return &stores[i]
	}
	return nil
}

func storeNames() (names []string) {
	for _, s := range stores {
		names = append(names, s.name)
	}
	return names
}

// openStore opens any store but redlock as programs do, by its URL.
func openStore(ctx context.Context, b brief) (lock.Locker, func(), error) {
	u, separator := b.URLs[0], "?"
	if strings.Contains(u, "?") {
		separator = "&"
	}
	u += separator + "owner=" + url.QueryEscape(fmt.Sprintf("client-%d.%d", b.Client, b.Run))
	scheme, rest, _ := strings.Cut(u, ":")
	open, ok := registry.Lookup(scheme)
	if !ok { // one of backends' own
		open, rest = backends.Open, u
	}
	l, err := open(ctx, rest)
	if err != nil {
		return nil, nil, err
	}
	return l, func() {
		if c, ok := lock.As[interface{ Close() error }](l); ok {
			_ = c.Close()
		}
	}, nil
}

// nowhere is a place without servers.
func nowhere(u string) place {
	return place{urls: func(*process) []string { return []string{u} }}
}

func startFile(t *torture) ([]*node, place, error) {
	return nil, nowhere("file://" + filepath.Join(t.dir, "locks")), nil
}

func startSQLite(t *torture) ([]*node, place, error) {
	file := filepath.Join(t.dir, "locks.db")
	at := nowhere("sqlite:" + file)
	at.driver, at.dsn = "sqlite", "file:"+file+"?_pragma=busy_timeout(30000)"
	return nil, at, nil
}

func startPostgres(t *torture) ([]*node, place, error) {
	s := storetest.StartPostgres(t.h)
	return []*node{{server: s, restart: s.Restart, program: storetest.PostgresVersion(t.h)}}, place{
		urls: func(p *process) []string {
			return []string{storetest.PostgresURL(p.proxies[0].Addr(), "admin", "app")}
		},
		driver: "pgx", dsn: s.URL("admin", "app"),
	}, nil
}

func startMySQL(t *torture) ([]*node, place, error) {
	s := storetest.StartMySQL(t.h)
	return []*node{{server: s, restart: s.Restart, program: storetest.MySQLVersion(t.h)}}, place{
		urls: func(p *process) []string {
			return []string{"mysql://root:" + storetest.Password + "@" + p.proxies[0].Addr() + "/app"}
		},
		driver: "mysql", dsn: s.DSN("app"),
	}, nil
}

func startEtcd(t *torture) (nodes []*node, _ place, err error) {
	for _, m := range storetest.StartEtcd(t.h, t.config.nodes).Members {
		nodes = append(nodes, &node{server: m, member: m, restart: m.Restart, program: storetest.EtcdVersion(t.h)})
	}
	return nodes, place{urls: func(p *process) []string {
		var hosts []string
		for _, x := range p.proxies {
			hosts = append(hosts, x.Addr())
		}
		return []string{"etcd://" + strings.Join(hosts, ",")}
	}}, nil
}

func startNats(t *torture) (nodes []*node, _ place, err error) {
	for _, m := range storetest.StartNats(t.h, t.config.nodes, storetest.NatsConfig{SyncInterval: "always"}).Members {
		nodes = append(nodes, &node{server: m, nats: m, restart: m.Restart, program: storetest.NatsVersion(t.h)})
	}
	return nodes, place{urls: func(p *process) []string {
		var hosts []string
		for _, x := range p.proxies {
			hosts = append(hosts, x.Addr())
		}
		return []string{"nats://" + strings.Join(hosts, ",")}
	}}, nil
}

// startS3 has the clients ask more often than is worth paying for elsewhere, and rely on the
// server's clock, which is this machine's.
func startS3(t *torture) ([]*node, place, error) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": storetest.RootUser, "AWS_SECRET_ACCESS_KEY": storetest.Password,
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull} {
		if err := os.Setenv(name, value); err != nil {
			return nil, place{}, err
		}
	}
	s := storetest.StartS3(t.h)
	return []*node{{server: s, restart: s.Restart, program: storetest.S3Version(t.h)}}, place{urls: func(p *process) []string {
		return []string{"s3://" + storetest.Bucket + "?poll=100ms&skew=1ms&endpoint=http://" + p.proxies[0].Addr()}
	}}, nil
}
