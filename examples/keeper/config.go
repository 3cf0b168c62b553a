package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

type config struct {
	nodes      []string // URLs of Redis nodes; none: the file backend
	dir        string   // of the file backend
	key        string
	ttl        time.Duration
	interval   time.Duration
	exitIfHeld bool
	retryCount int
	retryDelay time.Duration
}

// parse reads flags, and the environment for those that are not given.
func parse(args []string, getenv func(string) string) (cfg config, err error) {
	fs := flag.NewFlagSet("keeper", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // the caller prints the error, once
	value := func(name, env, def, usage string) *string {
		if v := getenv(env); v != "" {
			def = v
		}
		return fs.String(name, def, fmt.Sprintf("%s (environment: %s)", usage, env))
	}
	nodes := value("nodes", "REDIS_NODES", "", "Redis `nodes`, host:port or URL, separated by commas; empty: lock through files")
	key := value("key", "LOCK_KEY", "pricing-oracle-keeper", "the `name` of the lock")
	ttl := value("ttl-ms", "REDIS_LOCK_TTL_MS", "30000", "ttl of the lease in `ms`: how long the others wait when a keeper is cut off")
	count := value("retry-count", "REDIS_RETRY_COUNT", "3", "with -exit-if-held: how often to try again (`n`) before leaving")
	delay := value("retry-delay-ms", "REDIS_RETRY_DELAY_MS", "200", "with -exit-if-held: `ms` between these attempts; who stands by polls every 50 ms")
	fs.StringVar(&cfg.dir, "dir", "", "`directory` of the lock files, without -nodes; empty: one of this user's own, on this machine")
	fs.DurationVar(&cfg.interval, "interval", time.Second, "`time` between price updates")
	fs.BoolVar(&cfg.exitIfHeld, "exit-if-held", false, "leave if another keeper is running, instead of standing by")
	if err := fs.Parse(args); err != nil {
		if err == flag.ErrHelp {
			fs.SetOutput(os.Stdout)
			fs.Usage()
		}
		return cfg, err
	}
	if fs.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if cfg.interval <= 0 {
		return cfg, fmt.Errorf("-interval is %v, want more than 0", cfg.interval)
	}
	cfg.key = *key
	if cfg.ttl, err = millis("REDIS_LOCK_TTL_MS (-ttl-ms)", *ttl, 1); err != nil {
		return cfg, err
	}
	if cfg.retryDelay, err = millis("REDIS_RETRY_DELAY_MS (-retry-delay-ms)", *delay, 1); err != nil {
		return cfg, err
	}
	if cfg.retryCount, err = strconv.Atoi(*count); err != nil || cfg.retryCount < 0 || cfg.retryCount > maxRetryCount {
		return cfg, fmt.Errorf("REDIS_RETRY_COUNT (-retry-count) is %q, want a whole number, 0 to %d", *count, maxRetryCount)
	}
	if cfg.nodes, err = parseNodes(*nodes); err != nil {
		return cfg, err
	}
	if len(cfg.nodes) > 0 && cfg.ttl > maxRedisTTL {
		return cfg, fmt.Errorf("REDIS_LOCK_TTL_MS (-ttl-ms) is %q, want at most %d with Redis: a node that restarted keeps out of votes for %v, and no lease may outlive that",
			*ttl, maxRedisTTL.Milliseconds(), maxRedisTTL)
	}
	return cfg, lock.Check(cfg.key, cfg.ttl)
}

const (
	maxRetryCount = 1_000_000
	maxRedisTTL   = time.Minute // what redlock.Options.RestartGuard defaults to
)

func millis(name, s string, least int64) (time.Duration, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < least || n > int64(365*24*time.Hour/time.Millisecond) {
		return 0, fmt.Errorf("%s is %q, want milliseconds, %d or more", name, s, least)
	}
	return time.Duration(n) * time.Millisecond, nil
}

// parseNodes turns the list into URLs. What a URL has in it is checked by
// redlock.Dial, whose errors show no password.
func parseNodes(list string) ([]string, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	var urls []string
	for i, node := range strings.Split(list, ",") {
		node = strings.TrimSpace(node)
		if strings.Contains(node, "://") {
			urls = append(urls, node)
			continue
		}
		host, port, err := net.SplitHostPort(node)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, "@/ ") {
			if at := strings.LastIndex(node, "@"); at >= 0 {
				node = "..." + node[at:] // what stands before it may be a password
			}
			return nil, fmt.Errorf("REDIS_NODES (-nodes): node %d is %q, want host:port or a redis:// URL", i+1, node)
		}
		urls = append(urls, "redis://"+net.JoinHostPort(host, port))
	}
	return urls, nil
}
