// Keeper is a program of which one copy works at a time: start it twice. With
// nothing set it locks through files, for the processes of one machine; with
// REDIS_NODES through a quorum of Redis nodes, for as many machines as there are.
//
//	go run ./examples/keeper
//	REDIS_NODES=localhost:6379,localhost:6380,localhost:6381 go run ./examples/keeper
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tonsurance/lockkeeper/backends/file"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

func main() {
	cfg, err := parse(os.Args[1:], os.Getenv)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", oneLine(err))
		os.Exit(1)
	}
}

func run(cfg config) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once

	out := log.New(os.Stdout, "", log.Ltime|log.Lmicroseconds)
	locker, err := open(ctx, cfg, out)
	if err != nil {
		if ctx.Err() != nil {
			out.Print("stopped")
			return nil
		}
		return err
	}
	defer locker.Close()

	opts := &leader.Options{TTL: cfg.ttl, Keepalive: &keepalive.Options{
		Logger: slog.New(slog.NewTextHandler(os.Stdout, nil)), // an outage while it leads
	}}
	if cfg.exitIfHeld {
		opts.Acquire = &lock.AcquireOptions{Attempts: cfg.retryCount + 1, Delay: cfg.retryDelay}
	}
	elector := leader.New(locker, cfg.key, opts)

	watching, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	if !cfg.exitIfHeld {
		wg.Go(func() { reportStandby(watching, elector, out) })
	}
	err = elector.Run(ctx, func(ctx context.Context) error {
		out.Printf("leading with fencing token %d", lock.Token(ctx))
		err := work(ctx, cfg.interval, out)
		if errors.Is(context.Cause(ctx), lock.ErrLost) {
			out.Printf("lost the lease with token %d", lock.Token(ctx))
		}
		return err
	})
	cancel()
	wg.Wait()

	switch {
	case errors.Is(err, leader.ErrNotElected) && errors.Is(err, lock.ErrHeld):
		out.Print(leaving(err))
		return nil
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		err = nil // stopped while standing by
	}
	if err == nil {
		out.Print("stopped")
	}
	return err
}

// leaving says why this copy leaves. A store that shows a dead holder only to a process that
// has observed it for some time says that it may be one.
func leaving(err error) string {
	if held, ok := errors.AsType[*lock.HeldError](err); ok && held.Unconfirmed {
		return fmt.Sprintf("another keeper held the lock, and may be dead: exiting; one that stands by (without -exit-if-held) knows in %v",
			held.RetryAfter.Round(time.Second))
	}
	return "another keeper is running, exiting"
}

type locker interface {
	lock.Locker
	io.Closer
}

// open waits for Redis, which may start later than its keepers, unless -exit-if-held
// asks for an answer now.
func open(ctx context.Context, cfg config, out *log.Logger) (locker, error) {
	if len(cfg.nodes) == 0 {
		dir := cfg.dir
		if dir == "" {
			var err error
			if dir, err = file.DefaultDir(); err != nil {
				return nil, fmt.Errorf("%w; or name one with -dir", err)
			}
		}
		l, err := file.New(dir, nil)
		if err != nil {
			return nil, err // not l: a nil *file.Locker is no nil locker
		}
		return l, nil
	}
	for waiting := false; ; {
		l, err := dial(ctx, cfg.nodes)
		switch {
		case err == nil && waiting:
			out.Print("the store answers")
			fallthrough
		case err == nil:
			return l, nil
		case !errors.Is(err, lock.ErrUnavailable) || cfg.exitIfHeld || ctx.Err() != nil:
			return nil, err
		case !waiting:
			waiting = true
			out.Print("waiting for the store: ", oneLine(err))
		}
		select {
		case <-time.After(time.Second): // refused connections are no time at all
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func dial(ctx context.Context, nodes []string) (*redlock.Locker, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return redlock.Dial(ctx, nodes, nil)
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// work updates the price until ctx ends. It looks at ctx before each update and
// never stops in the middle of one: the lease is kept until it has returned.
func work(ctx context.Context, interval time.Duration, out *log.Logger) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for n := 1; ctx.Err() == nil; n++ {
		time.Sleep(10 * time.Millisecond) // stands for a write that carries the token
		out.Printf("token %d: price update %d done", lock.Token(ctx), n)
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// reportStandby prints whom this copy stands by for when that changes, and an outage
// of the store when it begins and when it ends.
func reportStandby(ctx context.Context, e *leader.Elector, out *log.Logger) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var seen string // the holder who refused the last attempt
	var last lock.Info
	away := false
	for {
		s := e.Status()
		held, ok := errors.AsType[*lock.HeldError](s.LastAttempt)
		switch {
		case s.State != leader.StandingBy:
			away = false // it was elected, which says that the store answers
		case s.LastAttempt == nil:
		case ok && away:
			seen, last, away = "", lock.Info{}, false
			out.Print("the store answers again")
			continue
		case ok && held.Holder != seen:
			seen = held.Holder
			info, err := e.Leader(ctx) // it may be another copy that is just trying, too
			if err == nil && info.Holder != "" && (info.Holder != last.Holder || info.Token != last.Token) {
				last = info
				out.Printf("standing by: %s leads with token %d", info.Holder, info.Token)
			}
		case !ok && !away:
			away = true
			out.Print("standing by: ", oneLine(s.LastAttempt))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
