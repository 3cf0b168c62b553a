// Package etcd locks by keys of an etcd cluster.
//
//	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://10.0.0.1:2379", "http://10.0.1.1:2379", "http://10.0.2.1:2379"}})
//	...
//	l, err := etcd.New(client, nil)
//	...
//	defer l.Close()
//	err = leader.Run(ctx, l, "pricing-oracle-keeper", run, nil)
//
// # What is promised
//
// What [lock.Locker] says, by the cluster's own consensus: what was acknowledged survives the
// loss of a minority of members, and a fail-over forgets nothing. Reads are linearizable. A ttl
// may be any, to the millisecond; there are no etcd leases in it, whose ttls are whole seconds.
// Waiters are notified of a release, and take the key in their order.
//
// # What is not
//
// etcd reports no ages: after a crash the next process leads a ttl after it has first seen the
// dead holder's key. A job that runs once and leaves never sees that; its refusal says so, and
// record.Options.Grace is a way out. A cluster that is restored from a snapshot forgets what came
// after it.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/internal/registry"
	"github.com/tonsurance/lockkeeper/internal/tlsfile"
	"github.com/tonsurance/lockkeeper/internal/urlparams"
	"github.com/tonsurance/lockkeeper/lock"
)

// DefaultPrefix begins each key where none is given.
const DefaultPrefix = "lockkeeper/"

// Options for [New]. nil means the defaults.
type Options struct {
	// Prefix begins each key in etcd. Up to 200 bytes. Defaults to "lockkeeper/".
	Prefix string

	// Record are the engine's. Names is ignored.
	Record record.Options
}

// Locker locks by keys of one cluster. It is safe for concurrent use.
type Locker struct {
	*record.Locker
	close func() error // of a client that it made
}

// New makes a Locker over a client, which stays the caller's to close, after Close. It asks
// nothing of the cluster.
func New(client *clientv3.Client, o *Options) (*Locker, error) { return newLocker(client, nil, o) }

func newLocker(client *clientv3.Client, c *connecting, o *Options) (*Locker, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Prefix == "" {
		opts.Prefix = DefaultPrefix
	}
	switch {
	case client == nil:
		return nil, fmt.Errorf("etcd: %w: the client is nil", lock.ErrInvalid)
	case len(opts.Prefix) > 200:
		return nil, fmt.Errorf("etcd: %w: Options.Prefix has %d bytes, want up to 200", lock.ErrInvalid, len(opts.Prefix))
	}
	opts.Record.Names = names(opts.Prefix)
	l, err := record.New(&store{client, c}, &opts.Record)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return &Locker{l, func() error { return nil }}, nil
}

// Close ends what is under way, as record.Locker's Close says.
func (l *Locker) Close() error { return errors.Join(l.Locker.Close(), l.close()) }

// names are keys as they are: etcd takes any bytes. The escape is one that keys rarely have.
func names(prefix string) record.Names {
	return record.Names{Prefix: prefix, Escape: '%', Safe: func(c byte) bool { return c > ' ' && c < 0x7f }}
}

var (
	_ record.Store     = (*store)(nil)
	_ record.Watcher   = (*store)(nil)
	_ record.Lister    = (*store)(nil)
	_ record.Deleter   = (*store)(nil)
	_ record.Describer = (*store)(nil)
)

// store keeps records as keys. A version is the key's mod revision, which is the cluster's,
// so it is never used again.
type store struct {
	client     *clientv3.Client
	connecting *connecting // nil: of a client that is not ours
}

func entry(kv *mvccpb.KeyValue) (record.Entry, error) {
	r, err := record.Decode(kv.Value)
	return record.Entry{Record: r, Version: strconv.FormatInt(kv.ModRevision, 10)}, err
}

// Get is linearizable: it asks a quorum.
func (s *store) Get(ctx context.Context, name string) (record.Entry, error) {
	reply, err := s.client.Get(ctx, name)
	switch {
	case err != nil:
		return record.Entry{}, s.judge(err)
	case len(reply.Kvs) == 0:
		return record.Entry{}, nil
	}
	return entry(reply.Kvs[0])
}

// at compares a key's version; nothing has mod revision 0.
func at(name, version string) (clientv3.Cmp, error) {
	if version == "" {
		return clientv3.Compare(clientv3.ModRevision(name), "=", 0), nil
	}
	revision, err := strconv.ParseInt(version, 10, 64)
	if err != nil || revision <= 0 {
		return clientv3.Cmp{}, fmt.Errorf("%w: version %q", lock.ErrInvalid, version)
	}
	return clientv3.Compare(clientv3.ModRevision(name), "=", revision), nil
}

// change is one transaction: do it if the version is still the same.
func (s *store) change(ctx context.Context, name, version string, do clientv3.Op) (int64, error) {
	same, err := at(name, version)
	if err != nil {
		return 0, err
	}
	reply, err := s.client.Txn(ctx).If(same).Then(do).Commit()
	switch {
	case err != nil:
		return 0, s.judge(err) // applied or not
	case !reply.Succeeded:
		return 0, record.ErrChanged
	}
	return reply.Header.Revision, nil
}

func (s *store) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	revision, err := s.change(ctx, name, version, clientv3.OpPut(name, string(r.Encode())))
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(revision, 10), nil
}

func (s *store) Delete(ctx context.Context, name, version string) error {
	_, err := s.change(ctx, name, version, clientv3.OpDelete(name))
	return err
}

// Watch follows a key from its present revision on, and begins anew where the cluster ends
// the watch: after a compaction, or when the client has lost its leader.
func (s *store) Watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	reply, err := s.client.Get(ctx, name)
	if err != nil {
		return nil, s.judge(err)
	}
	watching, cancel := context.WithCancel(clientv3.WithRequireLeader(context.WithoutCancel(ctx)))
	created := make(chan struct{})
	var once sync.Once
	var done sync.WaitGroup
	done.Go(func() {
		next := reply.Header.Revision + 1
		for watching.Err() == nil {
			for r := range s.client.Watch(watching, name, clientv3.WithRev(next), clientv3.WithCreatedNotify()) {
				switch {
				case r.Created:
					once.Do(func() { close(created) })
				case r.Err() != nil:
					if r.CompactRevision >= next {
						next = r.CompactRevision + 1
					}
				default:
					next = r.Header.Revision + 1
				}
				for _, event := range r.Events {
					notify(event, changed)
				}
			}
			if watching.Err() != nil {
				return
			}
			changed(nil) // states may have been missed
			select {
			case <-watching.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	stop := sync.OnceFunc(func() { cancel(); done.Wait() })
	select {
	case <-created:
		return stop, nil
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}

func notify(event *clientv3.Event, changed func(*record.Entry)) {
	if event.Type == clientv3.EventTypeDelete {
		changed(&record.Entry{})
	} else if e, err := entry(event.Kv); err == nil {
		changed(&e)
	} else {
		changed(nil) // somebody else's writing: looking says so
	}
}

// page is how many keys one request of List reads.
const page = 500

// List reads keys page by page. What is no record is left out: it must not hide others.
func (s *store) List(ctx context.Context, prefix string) iter.Seq2[record.Entry, error] {
	return func(yield func(record.Entry, error) bool) {
		from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
		for {
			reply, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page))
			if err != nil {
				yield(record.Entry{}, s.judge(err))
				return
			}
			for _, kv := range reply.Kvs {
				e, err := entry(kv)
				if e.Name = string(kv.Key); err == nil && !yield(e, nil) {
					return
				}
				from = string(kv.Key) + "\x00"
			}
			if !reply.More {
				return
			}
		}
	}
}

func (s *store) judge(err error) error { return judge(s.connecting.explain(err)) }

// judge says what an error of etcd means.
func judge(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return fmt.Errorf("%w: %w; give the user's role readwrite on the prefix", lock.ErrRefused, err)
	case errors.Is(err, rpctypes.ErrUserEmpty): // also of a user without a password, whom the client does not name
		return fmt.Errorf("%w: %w; name a user and a password, both, or give a client certificate with the user's name", lock.ErrRefused, err)
	case errors.Is(err, rpctypes.ErrAuthFailed), errors.Is(err, rpctypes.ErrUserNotFound):
		return fmt.Errorf("%w: %w; check user and password", lock.ErrRefused, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w; compact and defragment it, or raise its quota, and disarm the alarm", err)
	}
	if s, ok := status.FromError(err); ok && s.Code() == codes.Unavailable {
		return errors.New(s.Message()) // without the transport's decoration
	}
	return err
}

// A member that hangs is noticed by pings; servers refuse more than one in 5s
// (--grpc-keepalive-min-time), and then end the connection.
const (
	keepAlive        = 5 * time.Second
	keepAliveTimeout = 2 * time.Second
)

func init() {
	registry.Register("etcd", func(ctx context.Context, rest string) (lock.Locker, error) { return openURL(ctx, "http", rest) })
	registry.Register("etcds", func(ctx context.Context, rest string) (lock.Locker, error) { return openURL(ctx, "https", rest) })
}

// openURL takes //user:password@h1:2379,h2,h3?prefix=&tls-ca=... It asks the cluster only
// where there is a password.
func openURL(ctx context.Context, scheme, rest string) (lock.Locker, error) {
	h, err := urlparams.ReadHosts(scheme, rest, "2379",
		"etcd://host:2379[,host:2379] and parameters; user:password@ before the first host, percent-encoded")
	if err != nil {
		return nil, err
	}
	p := h.Params
	cfg := clientv3.Config{
		Endpoints:   h.URLs,
		DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
		DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAliveTimeout,
	}
	if h.Named {
		name, password, _ := strings.Cut(h.Credentials, ":")
		var err1, err2 error
		cfg.Username, err1 = url.PathUnescape(name)
		cfg.Password, err2 = url.PathUnescape(password)
		if err1 != nil || err2 != nil {
			return nil, urlparams.ErrNoURL
		}
	}
	o := &Options{Prefix: p.Text("prefix"), Record: record.Options{Owner: p.Text("owner"), HeadStart: p.Duration("head-start"), Grace: p.Duration("grace")}}
	ca, cert, key := p.Text("tls-ca"), p.Text("tls-cert"), p.Text("tls-key")
	if err := p.Done(); err != nil {
		return nil, err
	}
	if cfg.TLS, err = tlsfile.Load(ca, cert, key); err != nil {
		return nil, fmt.Errorf("%w: %w", lock.ErrInvalid, err)
	}
	switch {
	case cfg.TLS != nil && scheme != "https":
		return nil, fmt.Errorf("%w: files for TLS with etcd://, want etcds://", lock.ErrInvalid)
	case cfg.TLS == nil && scheme == "https":
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c := new(connecting)
	client, err := c.dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	l, err := newLocker(client, c, o)
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	l.close = client.Close
	return l, nil
}
