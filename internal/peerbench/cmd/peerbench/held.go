package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/redlock"
)

// keeper holds many leases and renews them, in one library's way.
type keeper struct {
	name string
	// hold takes and keeps key until the function that it returns is called.
	hold  func(ctx context.Context, key string) (release func(), err error)
	close func()
}

// cost of leases that are held and renewed.
type cost struct {
	goroutines, bytes float64 // of a lease
	cores             float64 // of this process
	serverCores       float64
	renewals          float64 // commands that the nodes got, a second
}

// held: many leases at once, renewed at half their ttl.
func held(ctx context.Context, b *bench) error {
	leases := b.scale(10_000, 200)
	validity := time.Duration(b.scale(10_000, 1_000)) * time.Millisecond
	b.printf("\n### %d leases held, each renewed every %v\n\n", leases, validity/2)
	b.printf("| | goroutines a lease | bytes a lease | client cores | relative | server cores | scripts a second |\n|---|---|---|---|---|---|---|\n")
	const one, three = "one node", "3 nodes"
	pairs := map[string][2]func() (keeper, error){
		one: {
			func() (keeper, error) { return ourKeeper(ctx, b.addrs[:1], "lockkeeper, one node", validity) },
			func() (keeper, error) {
				return rueidislockKeeper(b.addrs[0], 1, "rueidislock, one key on one node", validity)
			},
		},
		three: {
			func() (keeper, error) { return ourKeeper(ctx, b.addrs, "lockkeeper, 3 nodes", validity) },
			func() (keeper, error) {
				return rueidislockKeeper(b.addrs[0], 2, "rueidislock, 3 keys on one node", validity)
			},
		},
	}
	for _, nodes := range []string{one, three} {
		if b.only != nil && !b.only.MatchString(nodes) {
			continue
		}
		if err := b.heldPair(ctx, pairs[nodes], leases, validity); err != nil {
			return err
		}
	}
	return nil
}

// heldPair lets two keepers take turns.
func (b *bench) heldPair(ctx context.Context, pair [2]func() (keeper, error), leases int, validity time.Duration) error {
	var names [2]string
	var costs [2][]cost
	for range b.scale(3, 1) {
		for i, open := range pair {
			k, err := open()
			if err != nil {
				return err
			}
			names[i] = k.name
			c, err := b.keep(ctx, k, leases, validity)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			costs[i] = append(costs[i], c)
		}
	}
	var cores [2]float64
	for i := range pair {
		cores[i] = median(costs[i], func(c cost) float64 { return c.cores })
	}
	for i := range pair {
		b.printf("| %s | %.2f | %.0f | %.3f | %.2f | %.3f | %.0f |\n", names[i],
			median(costs[i], func(c cost) float64 { return c.goroutines }),
			median(costs[i], func(c cost) float64 { return c.bytes }),
			cores[i], cores[i]/cores[1],
			median(costs[i], func(c cost) float64 { return c.serverCores }),
			median(costs[i], func(c cost) float64 { return c.renewals }))
	}
	return nil
}

func median(costs []cost, of func(cost) float64) float64 {
	values := make([]float64, len(costs))
	for i, c := range costs {
		values[i] = of(c)
	}
	return spreadOf(values).median
}

// keep holds that many leases and looks at what they cost.
func (b *bench) keep(ctx context.Context, k keeper, leases int, validity time.Duration) (c cost, err error) {
	defer k.close()
	releases := make([]func(), leases)
	errs := make([]error, leases)
	// Names that the keepers share, made before memory is looked at.
	keys := make([]string, leases)
	for i := range keys {
		keys[i] = "held:" + strconv.Itoa(i)
	}
	forAll := func(do func(i int)) {
		const callers = 32
		var wg sync.WaitGroup
		for w := range callers {
			wg.Go(func() {
				for i := w; i < leases; i += callers {
					do(i)
				}
			})
		}
		wg.Wait()
	}
	// What connections and pools cost once is no cost of a lease.
	release, err := k.hold(ctx, "held:warm-up")
	if err != nil {
		return c, err
	}
	release()

	goroutines, bytes := runtime.NumGoroutine(), memoryInUse()
	forAll(func(i int) { releases[i], errs[i] = k.hold(ctx, keys[i]) })
	defer forAll(func(i int) {
		if releases[i] != nil {
			releases[i]()
		}
	})
	for i, err := range errs {
		if err != nil {
			return c, fmt.Errorf("%s: %w", keys[i], err)
		}
	}
	time.Sleep(validity / 4) // what acquiring left in the background has ended, nothing is renewed yet
	c.goroutines = float64(runtime.NumGoroutine()-goroutines) / float64(leases)
	c.bytes = float64(memoryInUse()-bytes) / float64(leases)

	time.Sleep(validity / 2)
	servers, calls, err := b.serverUsage(ctx)
	if err != nil {
		return c, err
	}
	cpu, start := processCPU(), time.Now()
	time.Sleep(validity) // two renewals of each
	elapsed := time.Since(start).Seconds()
	c.cores = (processCPU() - cpu).Seconds() / elapsed
	serversAfter, callsAfter, err := b.serverUsage(ctx)
	c.serverCores = (serversAfter - servers) / elapsed
	c.renewals = (callsAfter - calls) / elapsed
	return c, err
}

func memoryInUse() int64 {
	var m runtime.MemStats
	for range 3 { // pools let go of theirs in the second collection
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// serverUsage is the CPU time in seconds that the servers used, and how many
// scripts they ran.
func (b *bench) serverUsage(ctx context.Context) (seconds, scripts float64, err error) {
	for _, c := range b.observers {
		cpu, err := info(ctx, c, "cpu", "used_cpu_sys:", "used_cpu_user:")
		if err != nil {
			return 0, 0, err
		}
		n, err := info(ctx, c, "commandstats", "cmdstat_evalsha:calls=")
		if err != nil {
			return 0, 0, err
		}
		seconds += cpu
		scripts += n
	}
	return seconds, scripts, nil
}

func (b *bench) serverCPU(ctx context.Context) (time.Duration, error) {
	seconds, _, err := b.serverUsage(ctx)
	return time.Duration(seconds * float64(time.Second)), err
}

// info adds up fields of the server's INFO.
func info(ctx context.Context, c rueidis.Client, section string, fields ...string) (sum float64, err error) {
	text, err := c.Do(ctx, c.B().Info().Section(section).Build()).ToString()
	if err != nil {
		return 0, err
	}
	for _, field := range fields {
		_, after, found := strings.Cut(text, field)
		if !found {
			continue // nothing of that kind so far
		}
		number, _, _ := strings.Cut(after, "\r\n")
		number, _, _ = strings.Cut(number, ",")
		v, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return 0, fmt.Errorf("INFO %s: %w", section, err)
		}
		sum += v
	}
	return sum, nil
}

func ourKeeper(ctx context.Context, addrs []string, name string, validity time.Duration) (keeper, error) {
	urls := make([]string, len(addrs))
	for i, a := range addrs {
		urls[i] = "redis://" + a
	}
	l, err := redlock.Dial(ctx, urls, ourOptions(addrs))
	if err != nil {
		return keeper{}, err
	}
	return keeper{
		name: name,
		hold: func(ctx context.Context, key string) (func(), error) {
			lease, err := l.TryAcquire(ctx, key, validity)
			if err != nil {
				return nil, err
			}
			k, err := keepalive.Start(ctx, lease, validity, nil)
			if err != nil {
				return nil, errors.Join(err, lease.Release(ctx))
			}
			return func() { _ = k.Release(ctx) }, nil
		},
		close: func() { _ = l.Close() },
	}, nil
}

// rueidislock extends at half the validity, as keepalive does by default.
func rueidislockKeeper(addr string, majority int32, name string, validity time.Duration) (keeper, error) {
	l, err := newRueidislock(addr, majority, validity)
	if err != nil {
		return keeper{}, err
	}
	return keeper{
		name: name,
		hold: func(ctx context.Context, key string) (func(), error) {
			_, cancel, err := l.TryWithContext(ctx, key)
			if err != nil {
				return nil, err
			}
			return cancel, nil
		},
		close: l.Close,
	}, nil
}
