package cli

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// lead runs the command until it, and all that it has started in its group, has
// ended: by itself, or because the lease was lost.
func (r *runner) lead(keeper *keepalive.Keeper, lease lock.Lease, path string) (stopped bool, err error) {
	cmd := &exec.Cmd{
		Path: path, Args: r.command, Env: r.environment(lease),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	// Told before, too: this process may be paused before it can tell which it is.
	r.guard.expect(r.guardTime(lease))
	defer r.guard.watch(nil, time.Time{})
	g, err := startGroup(cmd, r.guard)
	if err != nil {
		return false, cantRun(r.command, err)
	}
	r.guard.watch(g, r.guardTime(lease))

	lost := keeper.Context().Done()
	for running := true; running; {
		select {
		case s := <-r.signals:
			// A reload is no reason to stop for good, but one that kills is.
			stopped = stopped || s != syscall.SIGHUP
			g.signal(s.(syscall.Signal))
		case <-lost:
			r.stop(g, lease)
			running = false
		case <-g.done:
			stopped = stopped || slices.Contains([]syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM}, g.sig)
			r.sweep(g, keeper, lease)
			running = false
		}
	}
	select {
	case <-g.done:
	default:
		return stopped, nil // killed, and the kernel has not let go of it: lost anyway
	}
	if g.code != 0 {
		err = &status{code: g.code}
	}
	return stopped, err
}

const (
	// takenGrace is between SIGTERM and SIGKILL where the store took the lease away.
	// It was noticed at a renewal, up to half a ttl late: so much more does not matter.
	takenGrace = 100 * time.Millisecond
	// deathTime is for a killed process to be gone.
	deathTime = 500 * time.Millisecond
)

// killTime is how long before the end of a lease SIGKILL comes, of the time left at
// SIGTERM.
func killTime(left time.Duration) time.Duration { return min(left/5, deathTime) }

// guarded is a lease whose guard knows until when it stands.
type guarded struct {
	lock.Lease
	r *runner
}

func (l guarded) Extend(ctx context.Context, ttl time.Duration) error {
	err := l.Lease.Extend(ctx, ttl)
	if err == nil {
		l.r.guard.extend(l.r.guardTime(l.Lease))
	}
	return err
}

// guardTime is when the guard kills, because this process must have been paused: after
// this one would have, and before anybody else can have the lock.
func (r *runner) guardTime(lease lock.Lease) time.Time {
	return lease.Expiry().Add(-min(r.grace/10, deathTime/2))
}

// closedWithin waits for ch. One that is closed already is, also if limit is 0.
func closedWithin(ch <-chan struct{}, limit time.Duration) bool {
	select {
	case <-ch:
		return true
	default:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ch:
		return true
	case <-timer.C:
		return false
	}
}

// stop ends the group because the lease is lost, within what is left of it.
func (r *runner) stop(g *group, lease lock.Lease) {
	left := takenGrace
	if expiry := lease.Expiry(); !expiry.IsZero() {
		left = time.Until(expiry)
		left -= killTime(left)
	}
	end := time.Now().Add(left)
	if left > 0 {
		g.terminate()
	}
	// Not before: whoever reads standard error may be slow.
	r.say("lost %s, token %d: ending the command", lease.Key(), lease.Token())
	if left = time.Until(end); left <= 0 || !g.gone(left) {
		r.kill(g)
	}
}

// kill waits until all are gone. Some may have been started meanwhile.
func (r *runner) kill(g *group) {
	for range 100 {
		g.kill()
		if g.gone(100 * time.Millisecond) {
			return
		}
	}
	fmt.Fprintf(r.a.err, "lockkeeper: process group %d was killed and is still there: only the fencing token protects now\n", g.pid)
}

// sweep ends what the command has left, before the lock is freed.
func (r *runner) sweep(g *group, keeper *keepalive.Keeper, lease lock.Lease) {
	if g.gone(0) {
		return
	}
	r.say("the command has ended and left processes: ending them")
	g.terminate()
	for end := time.Now().Add(r.grace); time.Now().Before(end); {
		if g.gone(20 * time.Millisecond) {
			return
		}
		if keeper.Context().Err() != nil {
			r.stop(g, lease)
			return
		}
	}
	r.kill(g)
}

// dir is where a file store is, "" if it is another.
func (s store) dir() string {
	u, err := url.Parse(s.url)
	if err != nil || u.Scheme != "file" {
		return ""
	}
	return filepath.FromSlash(u.Path)
}
