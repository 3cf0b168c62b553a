//go:build linux || darwin || freebsd

package file

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// The tests in this file use processes: this test binary again, as a child.
const childEnv = "LOCKKEEPER_FILE_TEST_CHILD"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		if err := child(strings.Split(args, "\n")); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(args []string) error {
	mode, dir := args[0], args[1]
	if userChild(mode, dir, args[2:]) {
		return nil
	}
	l, err := New(dir, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	switch mode {
	case "hold":
		ttl, err := time.ParseDuration(args[2])
		if err != nil {
			return err
		}
		return hold(l, ttl)
	case "stick":
		return stick(l)
	case "contend":
		pause, err := time.ParseDuration(args[3])
		if err != nil {
			return err
		}
		return contend(l, args[2], pause)
	case "share":
		return share(l)
	case "wait":
		return wait(l)
	}
	return fmt.Errorf("no mode %q", mode)
}

// hold acquires k and obeys the lines that it reads.
func hold(l *Locker, ttl time.Duration) error {
	lease, err := lock.Acquire(context.Background(), l, "k", ttl, nil)
	if err != nil {
		return err
	}
	fmt.Println("token", lease.Token())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "extend":
			fmt.Println(errors.Is(lease.Extend(context.Background(), long), lock.ErrLost))
		case "keep":
			fmt.Println(lock.ReleaseAfter(context.Background(), lease, time.Hour))
		case "release":
			fmt.Println(lease.Release(context.Background()))
		case "hand over": // says when it began
			fmt.Println(time.Now().UnixNano())
			if err := lease.Release(context.Background()); err != nil {
				return err
			}
			if lease, err = lock.Acquire(context.Background(), l, "k", ttl, nil); err != nil {
				return err
			}
			fmt.Println("token", lease.Token())
		case "fork":
			cmd := exec.Command("sleep", "1000")
			if err := cmd.Start(); err != nil {
				return err
			}
			fmt.Println(cmd.Process.Pid)
		}
	}
	return nil
}

// stick takes the short lock of k and keeps it.
func stick(l *Locker) error {
	f, err := l.openOrCreate("k")
	if err != nil {
		return err
	}
	if err := f.lock(context.Background()); err != nil {
		return err
	}
	fmt.Println("stuck")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
	}
	return nil
}

// contend acquires and releases k again and again, and writes its history.
func contend(l *Locker, history string, pause time.Duration) error {
	out, err := os.OpenFile(history, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	pid := os.Getpid()
	fmt.Println("ready")
	for {
		lease, err := lock.Acquire(context.Background(), l, "k", long, &lock.AcquireOptions{Delay: time.Millisecond})
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "enter", pid, lease.Token())
		for range rand.N(4) {
			fmt.Fprintln(out, "work", pid, lease.Token())
		}
		if rand.N(3) == 0 {
			if err := lease.Extend(context.Background(), long); err != nil {
				return err
			}
		}
		fmt.Fprintln(out, "leave", pid, lease.Token())
		if err := lease.Release(context.Background()); err != nil {
			return err
		}
		time.Sleep(rand.N(pause + 1))
	}
}

type process struct {
	t   testing.TB
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Scanner
}

func start(t testing.TB, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command(os.Args[0]), args...)
}

func startCommand(t testing.TB, cmd *exec.Cmd, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd}
	p.cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(args, "\n"))
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stdin, p.in = r, w
	p.cmd.Stderr = os.Stderr
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.out = bufio.NewScanner(stdout)
	require.NoError(t, p.cmd.Start())
	r.Close()
	t.Cleanup(func() {
		p.kill()
		p.in.Close()
	})
	return p
}

func (p *process) line() string {
	p.t.Helper()
	require.True(p.t, p.out.Scan(), "the child has ended: %v", p.out.Err())
	return p.out.Text()
}

func (p *process) ask(what string) string {
	p.t.Helper()
	_, err := fmt.Fprintln(p.in, what)
	require.NoError(p.t, err)
	return p.line()
}

// token reads the line that a holder begins with.
func (p *process) token() uint64 {
	p.t.Helper()
	token, err := strconv.ParseUint(strings.TrimPrefix(p.line(), "token "), 10, 64)
	require.NoError(p.t, err)
	return token
}

// signal sends s, and returns once a process that it stops has stopped.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
	if s == syscall.SIGSTOP {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		require.NoError(p.t, err)
		require.True(p.t, status.Stopped())
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func TestAKilledProcessFreesItsKeysAtOnce(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, nil)
	p := start(t, "hold", dir, "1h")
	token := p.token()
	held := refused(t, l, "k")
	require.True(t, strings.HasSuffix(held.Holder, ":"+strconv.Itoa(p.cmd.Process.Pid)), held.Holder)
	require.Greater(t, held.RetryAfter, 50*time.Minute)
	p.kill() // and it has been waited for
	require.Greater(t, acquire(t, l, "k", long).Token(), token)
}

func TestAChildOfTheKilledProcessKeepsNothing(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, nil)
	p := start(t, "hold", dir, "1h")
	p.token()
	grandchild, err := strconv.Atoi(p.ask("fork"))
	require.NoError(t, err)
	defer syscall.Kill(grandchild, syscall.SIGKILL)
	refused(t, l, "k")
	p.kill()
	require.NoError(t, syscall.Kill(grandchild, 0), "it lives")
	acquire(t, l, "k", long)
}

func TestAProcessThatExitsWithoutReleaseFreesItsKeys(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "hold", dir, "1h")
	p.token()
	p.in.Close()
	require.NoError(t, p.cmd.Wait())
	acquire(t, newLocker(t, dir, nil), "k", long)
}

func TestAStoppedProcessLosesItsKeysAtExpiryAndSeesItOnWaking(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, nil)
	const ttl = 2 * time.Second
	before := time.Now()
	p := start(t, "hold", dir, ttl.String())
	token := p.token()
	p.signal(syscall.SIGSTOP)
	lease, err := lock.Acquire(t.Context(), l, "k", long, nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(before), ttl, "the next one leads before the first one's lease has ended")
	require.Greater(t, lease.Token(), token)
	p.signal(syscall.SIGCONT)
	require.Equal(t, "true", p.ask("extend"), "on waking it gets ErrLost")
	require.Contains(t, p.ask("release"), "lease lost")
	require.NoError(t, lease.Extend(t.Context(), long), "what the late one did harmed nobody")
	release(t, lease)
}

func TestAProcessStoppedInTheMiddleOfAChangeBlocksNobodyForEver(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, &Options{LockTimeout: 50 * time.Millisecond})
	other := acquire(t, l, "other", long)
	p := start(t, "stick", dir)
	require.Equal(t, "stuck", p.line())
	p.signal(syscall.SIGSTOP)

	_, err := l.TryAcquire(t.Context(), "k", long)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, l.keyPath("k"))
	if _, missing := os.Stat("/proc/locks"); missing == nil {
		require.ErrorContains(t, err, fmt.Sprintf("pid %d", p.cmd.Process.Pid))
	}
	require.NoError(t, other.Extend(t.Context(), long), "other keys are not concerned")

	slow := newLocker(t, dir, &Options{LockTimeout: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = slow.TryAcquire(ctx, "k", long)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, lock.ErrUnavailable)

	p.kill()
	acquire(t, l, "k", long)
}
