package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"github.com/tonsurance/lockkeeper/backends"
	_ "github.com/tonsurance/lockkeeper/backends/etcd"
	_ "github.com/tonsurance/lockkeeper/backends/mysql"
	_ "github.com/tonsurance/lockkeeper/backends/nats"
	_ "github.com/tonsurance/lockkeeper/backends/postgres"
	_ "github.com/tonsurance/lockkeeper/backends/s3"
	_ "github.com/tonsurance/lockkeeper/backends/sqlite"
	"github.com/tonsurance/lockkeeper/internal/registry"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

const ttl = 30 * time.Second

// startAll starts the servers of one store, or of all.
func startAll(h *storetest.Host, only string) ([]library, error) {
	dir, err := os.MkdirTemp("", "storebench-")
	if err != nil {
		return nil, err
	}
	h.Cleanup(func() { _ = os.RemoveAll(dir) })
	var all []library
	for _, s := range []struct {
		name  string
		start func() []library
	}{
		{"postgres", func() []library { return startPostgres(h) }},
		{"mysql", func() []library { return startMySQL(h) }},
		{"etcd", func() []library { return startEtcd(h) }},
		{"nats", func() []library { return startNats(h) }},
		{"s3", func() []library { return startS3(h) }},
		{"kubernetes", func() []library { return startKubernetes(h) }},
		{"sqlite", func() []library { return []library{ours("sqlite", "sqlite:"+filepath.Join(dir, "locks.db"))} }},
		{"file", func() []library { return []library{ours("file", "file://"+filepath.Join(dir, "locks"))} }},
	} {
		if only == "" || only == s.name {
			all = append(all, s.start()...)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("-store is %q, want file, sqlite, mysql, postgres, etcd, nats, s3 or kubernetes", only)
	}
	return all, nil
}

func startPostgres(h *storetest.Host) []library {
	s := storetest.StartPostgres(h, "max_connections = 1200")
	return []library{ours("postgres", s.URL("admin", "app")), {
		store: "postgres", name: "session advisory lock",
		notes: "no ttl, no fencing token; it ends with its connection, means nothing behind a pooler, and each waiter keeps a connection",
		open: func(ctx context.Context) (client, error) {
			c, err := openSession(ctx, "pgx", s.URL("admin", "app"))
			c.tryLock = "SELECT CASE WHEN pg_try_advisory_lock(hashtext($1)) THEN 1 ELSE 0 END"
			c.wait = "SELECT 1 FROM (SELECT pg_advisory_lock(hashtext($1))) AS taken"
			c.free = "SELECT CASE WHEN pg_advisory_unlock(hashtext($1)) THEN 1 ELSE 0 END"
			return c, err
		}}}
}

func startMySQL(h *storetest.Host) []library {
	s := storetest.StartMySQL(h, "--max-connections=1200")
	return []library{ours("mysql", "mysql://root:"+storetest.Password+"@"+s.Addr()+"/app"), {
		store: "mysql", name: "GET_LOCK",
		notes: "no ttl, no fencing token; it ends with its connection, is of one server only, not of a Galera cluster, and each waiter keeps a connection",
		open: func(ctx context.Context) (client, error) {
			c, err := openSession(ctx, "mysql", s.TCP("root", "app"))
			c.tryLock, c.wait, c.free = "SELECT GET_LOCK(?, 0)", "SELECT GET_LOCK(?, 300)", "SELECT RELEASE_LOCK(?)"
			return c, err
		}}}
}

func startEtcd(h *storetest.Host) []library {
	c := storetest.StartEtcd(h, 3)
	var hosts []string
	for _, m := range c.Members {
		hosts = append(hosts, m.Addr())
	}
	return []library{ours("etcd", "etcd://"+strings.Join(hosts, ",")), {
		store: "etcd", name: "concurrency.Mutex",
		notes: "on a lease of the session; its fencing token is for the caller to make of a revision",
		open: func(ctx context.Context) (client, error) {
			client, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
			if err != nil {
				return nil, err
			}
			s, err := concurrency.NewSession(client, concurrency.WithTTL(int(ttl/time.Second)), concurrency.WithContext(ctx))
			if err != nil {
				return nil, errors.Join(err, client.Close())
			}
			return mutexes{client, s}, nil
		}}}
}

// startNats starts three servers. NATS has no recipe for a lock: what its users write by hand
// is a key with a ttl.
func startNats(h *storetest.Host) []library {
	return []library{ours("nats", "nats://"+strings.Join(storetest.StartNats(h, 3, storetest.NatsConfig{SyncInterval: "always"}).Addrs(), ","))}
}

// startS3 has no recipe beside it: S3 is known for none.
func startS3(h *storetest.Host) []library {
	s := storetest.StartS3(h)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": storetest.RootUser, "AWS_SECRET_ACCESS_KEY": storetest.Password,
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull} {
		if err := os.Setenv(name, value); err != nil {
			h.Fatal(err)
		}
	}
	r := ours("s3", "s3://"+storetest.Bucket+"?endpoint="+s.Endpoint())
	r.notes = "waiters ask each second"
	return []library{r}
}

func startKubernetes(h *storetest.Host) []library {
	k := storetest.StartKubernetes(h)
	bench := ours("kubernetes", k.URL(k.Addr(), "locks", storetest.KubeAdmin))
	bench.notes = k.Version() + "; client-go's leader election takes no lock that could be measured so: internal/clientgo/measure compares hand-offs"
	return []library{bench}
}

// ours is a store of this project, opened as programs do.
func ours(store, url string) library {
	return library{store: store, name: "lockkeeper", open: func(ctx context.Context) (client, error) {
		scheme, rest, _ := strings.Cut(url, ":")
		open, ok := registry.Lookup(scheme)
		if !ok { // one of backends' own
			open, rest = backends.Open, url
		}
		l, err := open(ctx, rest)
		return lockers{l}, err
	}}
}

type lockers struct{ l lock.Locker }

func (c lockers) try(ctx context.Context, key string) (unlock, error) {
	lease, err := c.l.TryAcquire(ctx, key, ttl)
	switch {
	case errors.Is(err, lock.ErrHeld):
		return nil, errHeld
	case err != nil:
		return nil, err
	}
	return lease.Release, nil
}

func (c lockers) lock(ctx context.Context, key string) (unlock, error) {
	lease, err := lock.Acquire(ctx, c.l, key, ttl, nil)
	if err != nil {
		return nil, err
	}
	return lease.Release, nil
}

func (c lockers) close() {
	if closer, ok := lock.As[interface{ Close() error }](c.l); ok {
		_ = closer.Close()
	}
}

// session is a lock of a database session: one connection, on which each statement gives 1
// for yes.
type session struct {
	db                  *sql.DB
	conn                *sql.Conn
	tryLock, wait, free string
}

func openSession(ctx context.Context, driver, dsn string) (*session, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return &session{}, err
	}
	c := &session{db: db}
	if c.conn, err = db.Conn(ctx); err != nil {
		return c, errors.Join(err, db.Close())
	}
	return c, nil
}

func (c *session) ask(ctx context.Context, query, key string) error {
	var yes sql.NullInt64
	switch err := c.conn.QueryRowContext(ctx, query, key).Scan(&yes); {
	case err != nil:
		return err
	case yes.Int64 != 1:
		return errHeld
	}
	return nil
}

func (c *session) take(ctx context.Context, query, key string) (unlock, error) {
	if err := c.ask(ctx, query, key); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return c.ask(ctx, c.free, key) }, nil
}

func (c *session) try(ctx context.Context, key string) (unlock, error) {
	return c.take(ctx, c.tryLock, key)
}

func (c *session) lock(ctx context.Context, key string) (unlock, error) {
	return c.take(ctx, c.wait, key)
}

func (c *session) close() {
	_ = c.conn.Close()
	_ = c.db.Close()
}

type mutexes struct {
	client *clientv3.Client
	s      *concurrency.Session
}

func (c mutexes) try(ctx context.Context, key string) (unlock, error) {
	m := concurrency.NewMutex(c.s, "bench/"+key)
	switch err := m.TryLock(ctx); {
	case errors.Is(err, concurrency.ErrLocked):
		return nil, errHeld
	case err != nil:
		return nil, err
	}
	return m.Unlock, nil
}

func (c mutexes) lock(ctx context.Context, key string) (unlock, error) {
	m := concurrency.NewMutex(c.s, "bench/"+key)
	return m.Unlock, m.Lock(ctx)
}

func (c mutexes) close() {
	_ = c.s.Close()
	_ = c.client.Close()
}
