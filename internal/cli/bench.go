package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/lock"
)

// The operations that bench measures, in the order of its table.
const (
	opAcquire = iota
	opExtend
	opRelease
	opHandoff
	ops
)

var opNames = [ops]string{"acquire", "extend", "release", "hand-off"}

const (
	warmUp  = 3                    // rounds that don't count: connections, scripts
	settled = 5 * time.Millisecond // for a waiter that was refused to listen
	patient = 5 * time.Second      // for a lease that is free, or about to be
)

// bencher is one lockkeeper bench.
type bencher struct {
	a        *app
	number   int
	duration time.Duration
	ttl      time.Duration

	key     string
	results [ops]samples
	bar     *progress
}

func (a *app) benchCommand() *cobra.Command {
	b := &bencher{a: a}
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure acquire, extend, release and hand-offs with your nodes",
		Long: `Bench takes a lock, extends and frees it, again and again, one after another.
Then it measures hand-offs: from just before a release to when another locker,
which has waited for it, has the lease. Both lockers are in this process, with
connections of their own (the memory backend, which others can't reach, has but
one).

The key is its own, with a random end: nobody else waits for it, and it is free
again at the end, also after Ctrl-C, which shows what was measured until then.
On Redis the key's token counter remains, some 550 bytes a node, for the
retention (7 days).

Exit status: 0 if nothing failed, 1 if something did, or that of the failure if
nothing succeeded (69: no quorum).`,
		Example: `  lockkeeper bench
  lockkeeper bench --duration 10s --ttl 30s
  lockkeeper bench -n 50 -o json | jq '.operations[] | {name, p99_us}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.settle(cmd); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(ctx context.Context, l lock.Locker) error {
				other, err := b.second(ctx, l)
				if err != nil {
					return err
				}
				if other != l {
					defer closeLocker(other)
				}
				return b.run(ctx, l, other)
			})
		},
	}
	flags := c.Flags()
	flags.IntVarP(&b.number, "number", "n", 200, "how many times each (with --duration: at most)")
	flags.DurationVar(&b.duration, "duration", 0, "stop after this `time` (default: when the number is reached)")
	flags.DurationVar(&b.ttl, "ttl", 10*time.Second, "`ttl` of the leases")
	a.outputFlag(c)
	return c
}

// settle checks the settings, before any I/O.
func (b *bencher) settle(cmd *cobra.Command) error {
	if err := b.a.checkOutput(); err != nil {
		return err
	}
	b.key = "lockkeeper-bench-" + strings.ToLower(rand.Text()[:10])
	switch {
	case b.number < 1 || b.number > 1_000_000:
		return usage("--number is %d, want 1 to 1000000", b.number)
	case b.duration < 0:
		return usage("--duration is %v, want 0 or more", b.duration)
	case b.ttl < 100*time.Millisecond:
		return usage("--ttl is %v, want 100ms or more", b.ttl)
	}
	if b.duration > 0 && !cmd.Flags().Changed("number") {
		b.number = 1_000_000
	}
	return lock.Check(b.key, b.ttl)
}

// second opens the store once more. The memory backend is another store each time.
func (b *bencher) second(ctx context.Context, l lock.Locker) (lock.Locker, error) {
	s, err := b.a.store()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(strings.ToLower(s.url), "memory:") {
		return l, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return s.open(ctx)
}

func (b *bencher) run(ctx context.Context, first, second lock.Locker) error {
	b.bar = b.a.progress()
	b.cycles(ctx, first)
	if ctx.Err() == nil {
		b.handoffs(ctx, first, second)
	}
	b.bar.clear()
	if err := b.print(b.report(ctx.Err() != nil)); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return b.verdict()
}

// verdict is what the failures come to.
func (b *bencher) verdict() error {
	succeeded, failed := 0, 0
	var why error
	for i := range b.results {
		succeeded += len(b.results[i].took)
		failed += b.results[i].failed
		if why == nil && len(b.results[i].reasons) > 0 {
			why = b.results[i].reasons[0].err
		}
	}
	switch {
	case failed == 0:
		return nil
	case succeeded == 0:
		return &status{codeOf(why), nil}
	}
	return &status{exitFailed, nil}
}

// phase calls round until the number is reached, or half of the duration. A failure
// does not end it, so many in a row do.
func (b *bencher) phase(ctx context.Context, what string, giveUp int, round func(count bool) error) {
	began, row := time.Now(), 0
	for i := range warmUp + b.number {
		if err := round(i >= warmUp); err == nil {
			row = 0
		} else if row++; row == giveUp || ctx.Err() != nil {
			return
		}
		done := float64(i+1) / float64(warmUp+b.number)
		if b.duration > 0 {
			done = max(done, float64(time.Since(began))/float64(b.duration/2))
		}
		if done >= 1 {
			return
		}
		b.bar.show(what, done)
	}
}

// measure times one call. Without count only its failure counts; after an interrupt not
// even that.
func (b *bencher) measure(ctx context.Context, op int, count bool, call func() error) error {
	began := time.Now()
	err := call()
	took := time.Since(began)
	switch {
	case err != nil && ctx.Err() != nil: // interrupted
	case err != nil:
		b.results[op].fail(err)
	case count:
		b.results[op].add(took)
	}
	return err
}

func (b *bencher) cycles(ctx context.Context, l lock.Locker) {
	b.phase(ctx, "acquire, extend, release", 10, func(count bool) error {
		var lease lock.Lease
		err := b.measure(ctx, opAcquire, count, func() (err error) {
			lease, err = l.TryAcquire(ctx, b.key, b.ttl)
			return err
		})
		if err != nil {
			return err
		}
		extended := b.measure(ctx, opExtend, count, func() error { return lease.Extend(ctx, b.ttl) })
		// Its own failures: it is done whatever ctx says.
		released := b.measure(context.WithoutCancel(ctx), opRelease, count, func() error { return lease.Release(ctx) })
		return errors.Join(extended, released)
	})
}

// handoffs passes the lock to and fro.
func (b *bencher) handoffs(ctx context.Context, first, second lock.Locker) {
	lockers := [2]lock.Locker{first, second}
	holder := 0
	var lease lock.Lease
	defer func() {
		if lease != nil {
			_ = lease.Release(ctx)
		}
	}()
	b.phase(ctx, "hand-off", 3, func(count bool) error {
		if lease == nil {
			got, err := lock.Acquire(ctx, lockers[holder], b.key, b.ttl, &lock.AcquireOptions{Timeout: patient})
			if err != nil {
				if ctx.Err() == nil {
					b.results[opHandoff].fail(err)
				}
				return err
			}
			lease = got
		}
		next, took, err := b.handoff(ctx, lease, lockers[1-holder])
		lease, holder = next, 1-holder
		switch {
		case err == nil && count:
			b.results[opHandoff].add(took)
		case err != nil && ctx.Err() == nil:
			b.results[opHandoff].fail(err)
		}
		return err
	})
}

// handoff frees lease when waiter stands by for it, and returns waiter's lease.
func (b *bencher) handoff(ctx context.Context, lease lock.Lease, waiter lock.Locker) (lock.Lease, time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &refusals{Locker: waiter, second: make(chan struct{})}
	var next lock.Lease
	var got time.Time
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		next, err = lock.Acquire(ctx, w, b.key, b.ttl, &lock.AcquireOptions{Timeout: patient})
		got = time.Now()
	}()
	select {
	case <-w.second:
		_ = pause(ctx, settled)
	case <-done: // it failed, or the lease has run out
	case <-time.After(time.Second): // a store without notifications asks seldom
	case <-ctx.Done():
	}
	began := time.Now()
	released := lease.Release(ctx)
	if released != nil {
		cancel() // nobody knows when it will be free
	}
	<-done
	switch {
	case errors.Is(released, lock.ErrLost):
		return next, 0, fmt.Errorf("the lease ran out before it was handed over, want a longer --ttl: %w", released)
	case err != nil:
		return nil, 0, errors.Join(released, err)
	case released != nil:
		return next, 0, released
	}
	return next, got.Sub(began), nil
}

// refusals notices when a waiter is in place: its request stands in the store's queue,
// or it has been refused twice, before it watched the key and after.
type refusals struct {
	lock.Locker
	n      atomic.Int64
	second chan struct{}
}

// Unwrap lets Acquire find what the locker offers.
func (r *refusals) Unwrap() lock.Locker { return r.Locker }

// As lets Acquire stand in the store's own queue.
func (r *refusals) As(target any) bool {
	return lock.PassAwaiter(target, r.Locker, func(inner lock.Awaiter) lock.Awaiter { return queuedRefusals{r, inner} })
}

func (r *refusals) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := r.Locker.TryAcquire(ctx, key, ttl)
	if errors.Is(err, lock.ErrHeld) {
		r.refused(1)
	}
	return lease, err
}

// refused counts n refusals more.
func (r *refusals) refused(n int64) {
	if now := r.n.Add(n); now >= 2 && now-n < 2 {
		close(r.second)
	}
}

type queuedRefusals struct {
	r     *refusals
	inner lock.Awaiter
}

func (q queuedRefusals) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	return q.inner.Await(ctx, key, ttl, func(held *lock.HeldError) {
		q.r.refused(2)
		refused(held)
	})
}

// progress is a bar on standard error, nil if that is no terminal.
type progress struct {
	a     *app
	shown time.Time
}

func (a *app) progress() *progress {
	if _, ok := terminalOf(a.err); !ok || a.getenv("TERM") == "dumb" {
		return nil
	}
	return &progress{a: a}
}

func (p *progress) show(what string, done float64) {
	if p == nil || time.Since(p.shown) < 50*time.Millisecond {
		return
	}
	p.shown = time.Now()
	const width = 30
	full := int(min(done, 1) * width)
	fmt.Fprintf(p.a.err, "\r%s%s %3.0f %% %s\x1b[K", strings.Repeat("█", full), strings.Repeat("░", width-full), 100*min(done, 1), what)
}

func (p *progress) clear() {
	if p != nil {
		fmt.Fprint(p.a.err, "\r\x1b[K")
	}
}
