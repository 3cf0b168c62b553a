//go:build linux || darwin || freebsd

package file

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// share acquires k again and again, and says how often it had it when it is asked.
func share(l *Locker) error {
	var count atomic.Int64
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			fmt.Println(count.Load())
		}
	}()
	for {
		lease, err := lock.Acquire(context.Background(), l, "k", long, nil)
		if err != nil {
			return err
		}
		count.Add(1)
		time.Sleep(time.Millisecond) // all hold it equally long
		if err := lease.Release(context.Background()); err != nil {
			return err
		}
	}
}

// wait queues for k, and reports when it has it.
func wait(l *Locker) error {
	fmt.Println("waiting")
	lease, err := lock.Acquire(context.Background(), l, "k", long, nil)
	if err != nil {
		return err
	}
	fmt.Println("token", lease.Token())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
	}
	return lease.Release(context.Background())
}

// Without notifications it takes a minute: none of these hand-offs may need it.
const soon = 20 * time.Second

func (w won) inTime(t testing.TB, begun time.Time) {
	t.Helper()
	require.Less(t, w.at.Sub(begun), soon)
	release(t, w.lease)
}

func TestAProcessThatDiesWakesTheWaiters(t *testing.T) {
	for name, end := range map[string]func(p *process){
		"kill -9":              func(p *process) { p.kill() },
		"exit without release": func(p *process) { p.in.Close() },
		"release":              func(p *process) { p.ask("release") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := newLocker(t, dir, nil)
			p := start(t, "hold", dir, "1h")
			p.token()
			got := waitFor(t, l)
			begun := time.Now()
			end(p)
			(<-got).inTime(t, begun)
		})
	}
}

func TestAStoppedHolderGivesWayAtItsExpiryWhateverItRenewedBefore(t *testing.T) {
	dir := t.TempDir()
	l, holder := newLocker(t, dir, nil), newLocker(t, dir, nil)
	const ttl, longer = 4 * time.Second, 5 * time.Second // a busy machine has time to extend it
	lease := acquire(t, holder, "k", ttl)
	got := waitFor(t, l)
	begun := time.Now()
	require.NoError(t, lease.Extend(t.Context(), longer))
	w := <-got
	require.GreaterOrEqual(t, w.at.Sub(begun), longer)
	w.inTime(t, begun)
}

// The first waiter is killed: nobody waits for its turn timeout. (It is shown
// that it is passed over, not how quickly.)
func TestAKilledWaiterIsPassedOver(t *testing.T) {
	dir := t.TempDir()
	l, holder := newLocker(t, dir, nil), newLocker(t, dir, nil)
	lease := acquire(t, holder, "k", long)
	p := start(t, "wait", dir)
	require.Equal(t, "waiting", p.line())
	queued(t, l, "k", nil)
	got := waitFor(t, l)
	require.Len(t, queueOf(t, l, "k"), 2)
	p.kill()
	release(t, lease)
	w := <-got
	require.Empty(t, queueOf(t, l, "k"))
	release(t, w.lease)
}

func TestAStoppedWaiterHoldsTheOthersUpForOneTurnOnce(t *testing.T) {
	dir := t.TempDir()
	l, holder := newLocker(t, dir, nil), newLocker(t, dir, nil)
	lease := acquire(t, holder, "k", long)
	p := start(t, "wait", dir)
	require.Equal(t, "waiting", p.line())
	queued(t, l, "k", nil)
	f, err := l.open("k")
	require.NoError(t, err)
	require.NoError(t, f.lock(t.Context()))
	p.signal(syscall.SIGSTOP) // not in the middle of a change, which would block all
	f.close()
	got := waitFor(t, l)
	begun := time.Now()
	release(t, lease)
	w := <-got
	require.GreaterOrEqual(t, w.at.Sub(begun), turnTimeout-grace)
	require.Empty(t, queueOf(t, l, "k"), "it is out of the queue")
	p.signal(syscall.SIGCONT)
	queued(t, l, "k", nil) // and stands at its end once it asks
	release(t, w.lease)
	require.Greater(t, p.token(), w.lease.Token())
}

// Jain's index is 1 if all had the key equally often, and 1/n if one alone had it.
func jain(counts []float64) float64 {
	var sum, squares float64
	for _, c := range counts {
		sum, squares = sum+c, squares+c*c
	}
	return sum * sum / (float64(len(counts)) * squares)
}

func TestContendingProcessesTakeTurns(t *testing.T) {
	const processes = 6
	dir := t.TempDir()
	var all []*process
	for range processes {
		all = append(all, start(t, "share", dir))
	}
	count := func(p *process) float64 {
		n, err := strconv.Atoi(p.ask("count"))
		require.NoError(t, err)
		return float64(n)
	}
	before, after := make([]float64, processes), make([]float64, processes)
	for i, p := range all {
		for before[i] = count(p); before[i] == 0; before[i] = count(p) {
			time.Sleep(time.Millisecond) // until it takes part
		}
	}
	for i, p := range all { // at one moment, about
		before[i] = count(p)
	}
	for turns := 0.0; turns < 50*processes; { // of a few turns, one more or less is much
		time.Sleep(time.Second) // under load is the point
		turns = 0
		for i, p := range all {
			after[i] = count(p) - before[i]
			turns += after[i]
		}
	}
	t.Logf("%v, Jain's index %.4f", after, jain(after))
	require.GreaterOrEqual(t, jain(after), 0.9)
}

// BenchmarkHandOff measures from the moment at which another process begins to
// release, or is killed, until a waiter of this one has the lease.
func BenchmarkHandOff(b *testing.B) {
	b.Run("release", func(b *testing.B) {
		dir := b.TempDir()
		l := newLocker(b, dir, nil)
		p := start(b, "hold", dir, "1h")
		p.token()
		var took, pipe []time.Duration // a round trip through a pipe, for comparison
		for b.Loop() {
			got := waitFor(b, l)
			begun, err := strconv.ParseInt(p.ask("hand over"), 10, 64)
			pipe = append(pipe, time.Duration(time.Now().UnixNano()-begun))
			require.NoError(b, err)
			w := <-got
			took = append(took, time.Duration(w.at.UnixNano()-begun))
			queued(b, l, "k", nil)
			release(b, w.lease)
			p.token()
		}
		report(b, took)
		slices.Sort(pipe)
		b.ReportMetric(float64(pipe[len(pipe)/2].Microseconds()), "us-pipe")
	})
	for name, end := range map[string]func(p *process){
		"kill": func(p *process) { _ = p.cmd.Process.Kill() },
		"exit": func(p *process) { p.in.Close() },
	} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			l := newLocker(b, dir, nil)
			var took []time.Duration
			for b.Loop() {
				p := start(b, "hold", dir, "1h")
				p.token()
				got := waitFor(b, l)
				begun := time.Now()
				end(p)
				w := <-got
				took = append(took, w.at.Sub(begun))
				release(b, w.lease)
				p.kill()
			}
			report(b, took)
		})
	}
}

type won struct {
	lease lock.Lease
	at    time.Time
}

// waitFor waits for k, and returns once it is in the queue.
func waitFor(t testing.TB, l *Locker) <-chan won {
	t.Helper()
	got := make(chan won, 1)
	go func() {
		lease, err := lock.Acquire(t.Context(), l, "k", time.Hour, nil)
		if err == nil {
			got <- won{lease, time.Now()}
		}
	}()
	queued(t, l, "k", l)
	return got
}

// queued waits until who is in key's queue; nil: anyone.
func queued(t testing.TB, l *Locker, key string, who *Locker) {
	t.Helper()
	for {
		queue := queueOf(t, l, key)
		if who == nil && len(queue) > 0 || who != nil && slices.Contains(queue, who.position()) {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func queueOf(t testing.TB, l *Locker, key string) []position {
	t.Helper()
	f, err := l.open(key)
	require.NoError(t, err)
	defer f.close()
	r, err := f.peek(t.Context())
	require.NoError(t, err)
	return r.Queue
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "us-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "us-p99")
}
