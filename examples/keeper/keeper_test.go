//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

func TestMain(m *testing.M) { os.Exit(programtest.Main(m)) }

// process is one running keeper. Its standard error is apart.
type process struct {
	*programtest.Program
	stderr programtest.Output
}

func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p, cmd := &process{}, exec.Command(programtest.Build(t, "."), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	cmd.Stderr = &p.stderr
	p.Program = programtest.Start(t, cmd)
	return p
}

// sees waits for a line with re, behind that of the last call, and returns re's first group.
func (p *process) sees(t *testing.T, re string) string {
	t.Helper()
	return p.Next(t, re+"()")[1]
}

const leads = `leading with fencing token (\d+)`

// handOff shows that the second keeper takes over, and how.
func handOff(t *testing.T, env []string, killed func(t *testing.T, first *process) (notBefore time.Time), args ...string) {
	first := start(t, env, args...)
	first.sees(t, leads)
	first.sees(t, "price update 1 done")
	second := start(t, env, args...)
	second.sees(t, `standing by: .*leads with token \d+`)

	// Ctrl-C: it finishes, releases, and ends well; the second goes on.
	first.Signal(t, os.Interrupt)
	first.sees(t, "stopped")
	require.Equal(t, 0, first.Exits(t))
	require.Empty(t, first.stderr.String())
	second.sees(t, leads)
	second.sees(t, "price update 1 done")

	// kill -9
	third := start(t, env, args...)
	third.sees(t, "standing by")
	notBefore := killed(t, second)
	third.sees(t, leads)
	require.False(t, time.Now().Before(notBefore), "it led before the killed one's lease had ended")
	third.Signal(t, syscall.SIGTERM)
	require.Equal(t, 0, third.Exits(t))
}

func TestACopyThatLeavesSaysIfTheHolderMayBeDead(t *testing.T) {
	held := &lock.HeldError{Key: "k", Holder: "vm:1", RetryAfter: 30*time.Second + time.Millisecond}
	require.Equal(t, "another keeper is running, exiting", leaving(fmt.Errorf("%w: %w", leader.ErrNotElected, held)))
	held.Unconfirmed = true
	require.Equal(t, "another keeper held the lock, and may be dead: exiting; one that stands by (without -exit-if-held) knows in 30s",
		leaving(fmt.Errorf("%w: %w", leader.ErrNotElected, held)))
}

func TestFileBackend(t *testing.T) {
	dir := "-dir=" + t.TempDir()
	t.Run("TheNextLeadsWhenTheFirstEndsOrIsKilled", func(t *testing.T) {
		// The ttl is far above what this test waits: it is the kernel that frees.
		handOff(t, []string{"REDIS_LOCK_TTL_MS=3600000"}, func(t *testing.T, p *process) time.Time {
			require.NoError(t, p.Process.Kill())
			return time.Time{}
		}, dir)
	})

	t.Run("ExitIfHeldLeavesWithStatus0", func(t *testing.T) {
		first := start(t, nil, dir)
		first.sees(t, leads)
		second := start(t, []string{"REDIS_RETRY_COUNT=1", "REDIS_RETRY_DELAY_MS=1"}, dir, "-exit-if-held")
		second.sees(t, "another keeper is running, exiting")
		require.Equal(t, 0, second.Exits(t))
		require.Empty(t, second.stderr.String())
	})

	t.Run("OneThatWasPausedSaysThatItLostAndStandsBy", func(t *testing.T) {
		env := []string{"REDIS_LOCK_TTL_MS=4000"} // a busy machine must not lose it before
		first := start(t, env, dir)
		first.sees(t, leads)
		second := start(t, env, dir)
		second.sees(t, "standing by")
		first.Signal(t, syscall.SIGSTOP)
		second.sees(t, leads)
		first.Signal(t, syscall.SIGCONT)
		first.sees(t, "lost the lease with token")
		first.sees(t, "standing by")
		second.Signal(t, os.Interrupt)
		require.Equal(t, 0, second.Exits(t))
		first.sees(t, leads)
	})

	t.Run("CtrlCWhileStandingByIsAGoodEnd", func(t *testing.T) {
		first := start(t, nil, dir)
		first.sees(t, leads)
		second := start(t, nil, dir)
		second.sees(t, "standing by")
		second.Signal(t, os.Interrupt)
		require.Equal(t, 0, second.Exits(t))
		require.Empty(t, second.stderr.String())
	})
}

func TestBadInputIsOneClearLine(t *testing.T) {
	for name, c := range map[string]struct {
		env, args []string
		want      string
	}{
		"no port":            {[]string{"REDIS_NODES=localhost"}, nil, `"localhost"`},
		"empty node":         {[]string{"REDIS_NODES=localhost:6379,,localhost:6381"}, nil, "node 2"},
		"bad port":           {[]string{"REDIS_NODES=localhost:99999"}, nil, "99999"},
		"bad URL":            {[]string{"REDIS_NODES=http://localhost:6379"}, nil, "http"},
		"ttl 0":              {[]string{"REDIS_LOCK_TTL_MS=0"}, nil, "REDIS_LOCK_TTL_MS"},
		"ttl negative":       {nil, []string{"-ttl-ms=-5"}, `"-5"`},
		"ttl no number":      {[]string{"REDIS_LOCK_TTL_MS=30s"}, nil, `"30s"`},
		"retry count":        {[]string{"REDIS_RETRY_COUNT=-1"}, nil, "REDIS_RETRY_COUNT"},
		"retry count huge":   {[]string{"REDIS_RETRY_COUNT=9223372036854775807"}, []string{"-exit-if-held"}, "REDIS_RETRY_COUNT"},
		"ttl for Redis":      {[]string{"REDIS_LOCK_TTL_MS=60001", "REDIS_NODES=127.0.0.1:1"}, nil, "REDIS_LOCK_TTL_MS"},
		"key before any I/O": {[]string{"REDIS_NODES=127.0.0.1:1"}, []string{"-key="}, "key is empty"},
		"retry delay":        {[]string{"REDIS_RETRY_DELAY_MS=x"}, nil, "REDIS_RETRY_DELAY_MS"},
		"key":                {nil, []string{"-key="}, "key"},
		"flag":               {nil, []string{"-nonsense"}, "nonsense"},
		"argument":           {nil, []string{"nonsense"}, "nonsense"},
		"interval":           {nil, []string{"-interval=0s"}, "interval"},
		"no quorum":          {[]string{"REDIS_NODES=127.0.0.1:1,127.0.0.1:2,127.0.0.1:3"}, []string{"-exit-if-held"}, "127.0.0.1:1"},
		"password":           {[]string{"REDIS_NODES=user:secret@localhost"}, nil, "REDIS_NODES"},
		"password in it":     {[]string{"REDIS_NODES=redis://user:secret@127.0.0.1:1"}, []string{"-exit-if-held"}, "127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, c.env, append([]string{"-dir=" + t.TempDir()}, c.args...)...)
			require.NotZero(t, p.Exits(t))
			stderr := p.stderr.String()
			require.Contains(t, stderr, c.want)
			require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
			require.NotContains(t, stderr, "secret")
		})
	}
}

func TestAKeeperThatStartsBeforeItsRedisWaitsForIt(t *testing.T) {
	server := redistest.StartN(t, 1, "--appendonly", "yes", "--appendfsync", "always")[0]
	server.Kill()
	p := start(t, []string{"REDIS_NODES=redis://user:secret@" + server.Addr()})
	require.NotContains(t, p.sees(t, `waiting for the store: (.*connection refused.*)`), "secret")
	p.Signal(t, syscall.SIGTERM)
	require.Equal(t, 0, p.Exits(t), "stopped while waiting")
	require.Equal(t, 1, strings.Count(p.Out.String(), "waiting"), "said once")
	require.Empty(t, p.stderr.String())

	p = start(t, []string{"REDIS_NODES=" + server.Addr()})
	p.sees(t, "waiting for the store: ")
	server.Restart(false)
	p.sees(t, "the store answers$")
	p.sees(t, leads)
	p.Signal(t, syscall.SIGTERM)
	require.Equal(t, 0, p.Exits(t))
}

func TestAnOutageIsOneLineWhenItBeginsAndOneWhenItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		first, err := store.Client("first").TryAcquire(t.Context(), "k", 24*time.Hour)
		require.NoError(t, err)
		second := store.Client("second")
		elector := leader.New(second, "k", nil)
		ctx, cancel := context.WithCancel(t.Context())
		var out bytes.Buffer
		var wg sync.WaitGroup
		wg.Go(func() { reportStandby(ctx, elector, log.New(&out, "", 0)) })
		wg.Go(func() { _ = elector.Run(ctx, func(ctx context.Context) error { <-ctx.Done(); return nil }) })
		for range 2 {
			time.Sleep(5 * time.Minute)
			second.FailNext(-1, nil)
			time.Sleep(5 * time.Minute) // many attempts
			second.FailNext(0, nil)
		}
		time.Sleep(5 * time.Minute)
		second.FailNext(-1, nil)
		time.Sleep(5 * time.Minute)
		require.NoError(t, first.Release(ctx))
		second.FailNext(0, nil)
		time.Sleep(5 * time.Minute)
		cancel()
		wg.Wait()
		lines := regexp.MustCompile(`standing by: .*unavailable.*`).ReplaceAllString(out.String(), "away")
		const held = "standing by: first leads with token 1\n"
		require.Equal(t, held+"away\nthe store answers again\n"+held+"away\nthe store answers again\n"+held+"away\n", lines)
	})
}

func TestHelp(t *testing.T) {
	p := start(t, nil, "-help")
	p.sees(t, "-exit-if-held")
	require.Equal(t, 0, p.Exits(t))
}

func TestRedlock(t *testing.T) {
	// Durable, or they would sit out the guard time of a restarted node first.
	var urls []string
	addrs := redistest.Addrs(redistest.StartN(t, 3, "--appendonly", "yes", "--appendfsync", "always"))
	for _, addr := range addrs {
		urls = append(urls, "redis://"+addr)
	}
	l, err := redlock.Dial(t.Context(), urls, &redlock.Options{NodeTimeout: 10 * time.Second}) // of a busy machine
	require.NoError(t, err)
	defer l.Close()
	env := []string{"REDIS_NODES=" + strings.Join(addrs, ","), "REDIS_LOCK_TTL_MS=6000"} // a busy machine must not lose it before
	handOff(t, env, func(t *testing.T, p *process) time.Time {
		require.NoError(t, p.Process.Kill())
		_ = p.Exits(t)
		before := time.Now()
		info, err := l.Inspect(context.Background(), "pricing-oracle-keeper")
		require.NoError(t, err)
		// What the nodes had left then, by their clocks: those and this one may each be off
		// by 1 %, and their milliseconds are rounded.
		return before.Add(info.TTL - info.TTL/50 - 10*time.Millisecond)
	})
}
