package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Times of connecting, unless the DSN has connect_timeout.
const (
	connectTimeout = 5 * time.Second // to the only host, and for all that the listener sets up
	dialTimeout    = 2 * time.Second // to one address of a name: another may be alive
)

// hosts connects to the first of several hosts that can be written to, and is the
// [driver.Connector] of the pool. A host that hangs, or whose machine is gone, answers
// nothing: it gets its share of a request's time and no more, and is not asked first again.
type hosts struct {
	configs []*pgx.ConnConfig // one for each host, which comes first in it
	first   atomic.Int64      // index of the one to begin with
}

var _ driver.Connector = (*hosts)(nil)

// newHosts prepares cfg's hosts; request is how long a request takes at most.
func newHosts(cfg *pgx.ConnConfig, request time.Duration) *hosts {
	// The same host follows itself where it is tried with TLS and without.
	all := append([]*pgconn.FallbackConfig{{Host: cfg.Host, Port: cfg.Port, TLSConfig: cfg.TLSConfig}}, cfg.Fallbacks...)
	var starts []int
	for i, c := range all {
		if i == 0 || c.Host != all[i-1].Host || c.Port != all[i-1].Port {
			starts = append(starts, i)
		}
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
		if n := len(starts); n > 1 {
			cfg.ConnectTimeout = min(connectTimeout, request/time.Duration(n+1)) // the last one has two shares
		}
		cfg.DialFunc = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 5 * time.Minute}).DialContext
	}
	h := &hosts{}
	for _, start := range starts {
		c := cfg.Copy()
		order := append(append([]*pgconn.FallbackConfig{}, all[start:]...), all[:start]...)
		c.Host, c.Port, c.TLSConfig, c.Fallbacks = order[0].Host, order[0].Port, order[0].TLSConfig, order[1:]
		h.configs = append(h.configs, c)
	}
	return h
}

// Connect makes a connection of the pool.
func (h *hosts) Connect(ctx context.Context) (conn driver.Conn, err error) {
	err = h.try(ctx, func(cfg *pgx.ConnConfig) error {
		conn, err = stdlib.GetConnector(*cfg).Connect(ctx)
		return err
	})
	return conn, err
}

// Driver is that of the connections.
func (h *hosts) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// open makes a connection beside the pool.
func (h *hosts) open(ctx context.Context) (conn *pgx.Conn, err error) {
	err = h.try(ctx, func(cfg *pgx.ConnConfig) error {
		conn, err = pgx.ConnectConfig(ctx, cfg.Copy())
		return err
	})
	return conn, err
}

func (h *hosts) try(ctx context.Context, connect func(*pgx.ConnConfig) error) error {
	i := h.first.Load()
	cfg, began := h.configs[i], time.Now()
	err := connect(cfg)
	// Whether the time of ctx was too short for one host, or a later one has answered.
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) || err == nil && time.Since(began) >= cfg.ConnectTimeout {
		h.first.CompareAndSwap(i, (i+1)%int64(len(h.configs)))
	}
	return err
}
