// Command storebench measures the stores beside the lock recipe that each of them is known
// for, all on this machine, in one run:
//
//	make storebench
//
// Every client has connections of its own, as processes have. What a recipe does not do is
// in the notes of its row: the numbers alone compare different promises.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/internal/storetest"
)

var errHeld = errors.New("held")

// client is one process's way to a lock.
type client interface {
	// try makes one attempt. An error that is errHeld says that another has it.
	try(ctx context.Context, key string) (unlock, error)
	// lock waits.
	lock(ctx context.Context, key string) (unlock, error)
	close()
}

type unlock func(ctx context.Context) error

// library is one way to lock in a store.
type library struct {
	store, name string
	notes       string
	open        func(ctx context.Context) (client, error)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := realMain(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "storebench:", err)
		stop()
		os.Exit(1)
	}
}

func realMain(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("storebench", flag.ContinueOnError)
	store := flags.String("store", "", "only this store: file, sqlite, mysql, postgres, etcd, nats, s3, kubernetes")
	rounds := flags.Int("rounds", 300, "of each measurement; a tenth of it for hand-offs")
	waiters := flags.Int("waiters", 100, "that want a key at once")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *rounds < 10 || *waiters < 1 || *waiters > 200 {
		return fmt.Errorf("want -rounds of 10 or more, -waiters of 1 to 200, and no arguments")
	}
	h := &storetest.Host{}
	return h.Within(func() error {
		libraries, err := startAll(h, *store)
		if err != nil {
			return err
		}
		fmt.Printf("| store | | acquire + release | refused attempt | hand-off, one waiter | %d waiters, each hand-off |\n", *waiters)
		fmt.Printf("|---|---|---|---|---|---|\n")
		for _, r := range libraries {
			row, err := r.measure(ctx, *rounds, *waiters)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", r.store, r.name, err)
			}
			fmt.Println(row)
		}
		for _, r := range libraries {
			if r.notes != "" {
				fmt.Printf("\n%s, %s: %s.", r.store, r.name, r.notes)
			}
		}
		fmt.Println()
		return nil
	})
}

const holding = time.Millisecond

func (r library) measure(ctx context.Context, rounds, waiters int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	a, err := r.open(ctx)
	if err != nil {
		return "", err
	}
	defer a.close()
	b, err := r.open(ctx)
	if err != nil {
		return "", err
	}
	defer b.close()
	pair, err := acquireRelease(ctx, a, rounds)
	if err != nil {
		return "", fmt.Errorf("acquire and release: %w", err)
	}
	refused, err := refusals(ctx, a, b, rounds)
	if err != nil {
		return "", fmt.Errorf("refused: %w", err)
	}
	passed, err := handoffs(ctx, a, b, max(rounds/10, 10))
	if err != nil {
		return "", fmt.Errorf("hand-off: %w", err)
	}
	crowd, err := r.crowd(ctx, waiters)
	if err != nil {
		return "", fmt.Errorf("%d waiters: %w", waiters, err)
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", r.store, r.name, quantiles(pair), quantiles(refused), quantiles(passed), quantiles(crowd)), nil
}

func acquireRelease(ctx context.Context, c client, rounds int) (times []time.Duration, err error) {
	for i := range rounds + 5 {
		start := time.Now()
		free, err := c.try(ctx, "pair")
		if err == nil {
			err = free(ctx)
		}
		if err != nil {
			return nil, err
		}
		if i >= 5 { // connections and the key's first record are made before
			times = append(times, time.Since(start))
		}
	}
	return times, nil
}

func refusals(ctx context.Context, a, b client, rounds int) (times []time.Duration, err error) {
	free, err := a.lock(ctx, "refused")
	if err != nil {
		return nil, err
	}
	for range rounds {
		start := time.Now()
		if _, err := b.try(ctx, "refused"); !errors.Is(err, errHeld) {
			return nil, fmt.Errorf("got %v, want a refusal", err)
		}
		times = append(times, time.Since(start))
	}
	return times, free(ctx)
}

// handoffs passes a key to and fro. A time is from just before the release to the waiter's
// success; the waiter has waited for a while.
func handoffs(ctx context.Context, a, b client, rounds int) (times []time.Duration, err error) {
	free, err := a.lock(ctx, "passed")
	if err != nil {
		return nil, err
	}
	type got struct {
		free unlock
		at   time.Time
		err  error
	}
	for i := range rounds {
		waiter := []client{b, a}[i%2]
		success := make(chan got, 1)
		go func() {
			free, err := waiter.lock(ctx, "passed")
			success <- got{free, time.Now(), err}
		}()
		time.Sleep(60*time.Millisecond + time.Duration(i%7)*11*time.Millisecond) // at no beat of who polls
		start := time.Now()
		if err := free(ctx); err != nil {
			return nil, err
		}
		g := <-success
		if g.err != nil {
			return nil, g.err
		}
		times, free = append(times, g.at.Sub(start)), g.free
	}
	return times, free(ctx)
}

// crowd has many clients wait for one key, each of which takes it once. A time is from just
// before a release to the next success.
func (r library) crowd(ctx context.Context, waiters int) ([]time.Duration, error) {
	first, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	defer first.close()
	free, err := first.lock(ctx, "crowd")
	if err != nil {
		return nil, err
	}
	type span struct{ got, freed time.Time }
	var mu sync.Mutex // guards both below
	var spans []span
	var failed error
	var wg sync.WaitGroup
	for range waiters {
		c, err := r.open(ctx)
		if err != nil {
			return nil, err
		}
		wg.Go(func() {
			defer c.close()
			free, err := c.lock(ctx, "crowd")
			s := span{got: time.Now()}
			if err == nil {
				time.Sleep(holding)
				s.freed = time.Now()
				err = free(ctx)
			}
			mu.Lock()
			defer mu.Unlock()
			spans, failed = append(spans, s), errors.Join(failed, err)
		})
	}
	time.Sleep(2 * time.Second) // all wait
	spans = append(spans, span{freed: time.Now()})
	err = free(ctx)
	wg.Wait()
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	slices.SortFunc(spans, func(a, b span) int { return a.got.Compare(b.got) })
	var times []time.Duration
	for i := 1; i < len(spans); i++ {
		d := spans[i].got.Sub(spans[i-1].freed)
		if d < 0 {
			return nil, fmt.Errorf("two holders at once, for %v", -d)
		}
		times = append(times, d)
	}
	return times, nil
}

// quantiles is "p50 [p99]".
func quantiles(d []time.Duration) string {
	slices.Sort(d)
	at := func(q float64) string {
		v := d[int(q*float64(len(d)-1)+0.5)]
		switch {
		case v >= time.Second:
			return fmt.Sprintf("%.2f s", v.Seconds())
		case v >= 10*time.Millisecond:
			return fmt.Sprintf("%.0f ms", v.Seconds()*1e3)
		case v >= time.Millisecond:
			return fmt.Sprintf("%.1f ms", v.Seconds()*1e3)
		}
		return fmt.Sprintf("%.0f µs", v.Seconds()*1e6)
	}
	return fmt.Sprintf("%s [%s]", at(0.5), at(0.99))
}
