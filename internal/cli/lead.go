package cli

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/tonsurance/lockkeeper/internal/procgroup"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// lead runs the command until it, and all that it has started in its group, has
// ended: by itself, or because the lease was lost.
func (r *runner) lead(keeper *keepalive.Keeper, lease lock.Lease, path string) (t ending, err error) {
	cmd := &exec.Cmd{
		Path: path, Args: r.command, Env: r.environment(lease),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	mark := "LOCKKEEPER_TOKEN=" + strconv.FormatUint(lease.Token(), 10)
	began := time.Now()
	g, err := procgroup.Start(cmd, r.guard, r.guardTime(lease), mark, r.events(lease))
	if err != nil {
		err = cantRun(r.command, err)
		t.said = err.Error()
		return t, err
	}
	defer r.guard.Forget()

	ctx, cancel := context.WithCancel(context.Background())
	asked := make(chan string, 1)
	var requests sync.WaitGroup
	requests.Go(func() { r.requests(ctx, lease, asked) })
	defer requests.Wait()
	defer cancel()

	grown := time.NewTicker(growthLook)
	defer grown.Stop()
	lost := keeper.Context().Done()
	gone := false        // the lease, while the command ran
	interrupted := false // this process, too: not by Ctrl-C while the command has the terminal
	quitToo := false     // the same of Ctrl-\
	for running := true; running; {
		select {
		case s := <-r.signals:
			t.stopped = t.stopped || r.asksForTheEnd(s)
			interrupted = interrupted || s == syscall.SIGINT
			quitToo = quitToo || s == syscall.SIGQUIT
			g.Signal(s.(syscall.Signal))
		case <-grown.C:
			r.guardUntil(lease)
			if time.Until(lease.Expiry()) >= r.ttl/2 { // nothing but its renewals moves it from now on
				grown.Stop()
			}
		case by := <-asked:
			r.say("asked by %s to resign: ending the command", by)
			t.resigned = true
			g.Terminate()
		case <-lost:
			gone = true
			r.stop(g, lease)
			running = false
		case <-g.Done():
			t.ran = time.Since(began)
			r.sweep(g, keeper, lease)
			running = false
		}
	}
	t.ran = max(t.ran, 1)
	select {
	case <-g.Done():
	default:
		return t, nil // killed, and the kernel has not let go of it: lost anyway
	}
	t.said = ended(g, time.Since(began))
	// (That SIGTERM which a loss or a request to resign made was this process's.)
	ours := gone || t.resigned
	t.stopped = t.stopped || !ours && g.EndedBy(syscall.SIGINT, syscall.SIGTERM) || g.CtrlC() || g.Quit() || r.hungUp()
	if code := g.Code(); code != 0 {
		err = &status{code: code}
		if dead, alone := g.Interrupted(); dead {
			err = &interruption{&status{code: code}, alone && !interrupted}
		} else if g.Quit() && !quitToo {
			err = &quit{&status{code: code}}
		}
	}
	return t, err
}

// events says what happens to a command in a terminal.
func (r *runner) events(lease lock.Lease) procgroup.Events {
	return procgroup.Events{
		Suspend: func() (resumed func()) {
			// One that is stopped while it asks a store could keep others waiting there. Every
			// renewal ends; one that takes its time is no reason to ignore Ctrl-Z.
			free := false
			for end := time.Now().Add(time.Second); !free && time.Now().Before(end); {
				if free = r.asking.TryLock(); !free {
					time.Sleep(time.Millisecond)
				}
			}
			r.say("suspended, and nothing renews %s: if it does not go on within %s, the command is killed", r.nameOf(lease), short(time.Until(r.guardTime(lease))))
			return func() {
				if free {
					r.asking.Unlock()
				}
			}
		},
		Background: func() {
			r.say("the command waits for the terminal, which another has (fg gives it back), and %s is held", r.nameOf(lease))
		},
		WatchInterrupts: r.restart, // else it is for the command alone
		Nested:          r.a.nested(),
	}
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
	l.r.asking.Lock()
	err := l.Lease.Extend(ctx, ttl)
	l.r.asking.Unlock()
	if err == nil {
		l.r.guardUntil(l.Lease)
	}
	return err
}

// ReleaseAfter and MaxReleaseAfter are the lease's: --at-least needs them.
func (l guarded) ReleaseAfter(ctx context.Context, d time.Duration) error {
	return lock.ReleaseAfter(ctx, l.Lease, d)
}

func (l guarded) MaxReleaseAfter() time.Duration {
	if a, ok := l.Lease.(lock.AfterReleaser); ok {
		return a.MaxReleaseAfter()
	}
	return 0
}

// guardUntil lets the guard know until when lease stands.
func (r *runner) guardUntil(lease lock.Lease) {
	r.guarding.Lock() // so that a later call never has an earlier Expiry
	defer r.guarding.Unlock()
	if expiry := lease.Expiry(); !expiry.IsZero() { // else it is lost, which ends the command in order
		r.guard.Extend(r.guardAt(expiry))
	}
}

// growthLook is between two looks whether a lease that starts short has grown by itself.
const growthLook = 50 * time.Millisecond

// guardTime is when the guard kills, because this process must have been paused: after
// this one would have, and before anybody else can have the lock.
func (r *runner) guardTime(lease lock.Lease) time.Time { return r.guardAt(lease.Expiry()) }

func (r *runner) guardAt(expiry time.Time) time.Time {
	return expiry.Add(-min(r.grace/10, deathTime/2))
}

// stop ends the group because the lease is lost, within what is left of it.
func (r *runner) stop(g *procgroup.Group, lease lock.Lease) {
	left := takenGrace
	if expiry := lease.Expiry(); !expiry.IsZero() {
		left = time.Until(expiry)
		left -= killTime(left)
	}
	end := time.Now().Add(left)
	if left > 0 {
		g.Terminate()
	}
	// Not before: anyone who reads standard error may be slow.
	r.say("lost %s, token %d: ending the command", r.nameOf(lease), lease.Token())
	if left = time.Until(end); left <= 0 || !g.Gone(left) {
		r.kill(g)
	}
}

// kill waits until all are gone. Some may have been started meanwhile.
func (r *runner) kill(g *procgroup.Group) {
	for range 100 {
		g.Kill()
		if g.Gone(100 * time.Millisecond) {
			return
		}
	}
	fmt.Fprintf(r.a.err, "lockkeeper: process group %d was killed and is still there: only the fencing token protects now\n", g.Pid())
}

// sweep ends what the command has left, before the lock is freed.
func (r *runner) sweep(g *procgroup.Group, keeper *keepalive.Keeper, lease lock.Lease) {
	if g.Gone(0) {
		return
	}
	r.say("the command has ended and left processes: ending them")
	g.Terminate()
	for end := time.Now().Add(r.grace); time.Now().Before(end); {
		if g.Gone(20 * time.Millisecond) {
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
