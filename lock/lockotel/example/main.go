// Example is a keeper, of which one copy works at a time, that shows Prometheus
// what its locks do. Without nodes it locks in its own memory, for a look at the
// metrics alone.
//
//	go run ./example -nodes localhost:6379,localhost:6380,localhost:6381
//	curl -s localhost:9464/metrics | grep ^lock_
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/lockotel"
	"github.com/tonsurance/lockkeeper/redlock"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
)

type config struct {
	nodes, listen, key string
	ttl, interval      time.Duration
}

func main() {
	var cfg config
	flag.StringVar(&cfg.nodes, "nodes", os.Getenv("REDIS_NODES"), "Redis `nodes`, host:port, separated by commas (environment: REDIS_NODES); empty: this process alone")
	flag.StringVar(&cfg.listen, "listen", "127.0.0.1:9464", "`address` of /metrics")
	flag.StringVar(&cfg.key, "key", "pricing-oracle-keeper", "the `name` of the lock")
	flag.DurationVar(&cfg.ttl, "ttl", leader.DefaultTTL, "of the leader's lease")
	flag.DurationVar(&cfg.interval, "interval", time.Second, "between two pieces of work")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(ctx, cfg, log); err != nil {
		log.Error("ended", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cfg config, log *slog.Logger) (err error) {
	// OpenTelemetry, with Prometheus as its exporter.
	registry := prometheus.NewRegistry()
	exp, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(),
		exporter.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
	if err != nil {
		return err
	}
	provider := metric.NewMeterProvider(metric.WithReader(exp))
	defer provider.Shutdown(context.WithoutCancel(ctx))
	tel, err := lockotel.New(&lockotel.Options{MeterProvider: provider})
	if err != nil {
		return err
	}

	ln, err := net.Listen("tcp", cfg.listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	defer func() { <-served }()
	defer server.Close()
	log.Info("metrics", "url", "http://"+ln.Addr().String()+"/metrics")

	// The locks.
	store, err := open(ctx, cfg, tel, log)
	if err != nil {
		return err
	}
	defer store.Close()
	locker := tel.Observe(store)
	stop, err := tel.Health(locker, 5*time.Second)
	if err != nil {
		return err
	}
	defer stop()

	elector := leader.New(locker, cfg.key, &leader.Options{
		TTL: cfg.ttl, Logger: log, Keepalive: &keepalive.Options{OnLost: tel.Lost},
	})
	unregister, err := tel.Elector(elector)
	if err != nil {
		return err
	}
	defer unregister()
	err = elector.Run(ctx, func(ctx context.Context) error { return work(ctx, cfg, locker) })
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil // stopped while standing by
	}
	return err
}

type closer interface {
	lock.Locker
	Close() error
}

func open(ctx context.Context, cfg config, tel *lockotel.Telemetry, log *slog.Logger) (closer, error) {
	if cfg.nodes == "" {
		return memory.New(), nil
	}
	var urls []string
	for _, node := range strings.Split(cfg.nodes, ",") {
		if !strings.Contains(node, "://") {
			node = "redis://" + node
		}
		urls = append(urls, node)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return redlock.Dial(ctx, urls, &redlock.Options{OnRequest: tel.Request, OnRefresh: tel.Refresh, Logger: log})
}

// work stands for the leader's: pieces that take a lock of their own.
func work(ctx context.Context, cfg config, locker lock.Locker) error {
	ticker := time.NewTicker(cfg.interval)
	defer ticker.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		lease, err := lock.Acquire(ctx, locker, fmt.Sprintf("price;%d", n%5), cfg.ttl, nil)
		if err == nil {
			_ = lease.Release(ctx) // where it fails, the ttl ends it
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	return nil
}
