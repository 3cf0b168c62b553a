package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// clientEnv makes a process a client; its value is a brief.
const clientEnv = "LOCKKEEPER_TORTURE_CLIENT"

// brief is what a client needs to know.
type brief struct {
	Client, Run int
	Seed        uint64
	Store       string // a name of stores
	URLs        []string
	Keys        []string
	Workers     int
	MaxTTL      time.Duration
	NodeTimeout time.Duration
	Quorum      int
	Guard       time.Duration
	Locker      string // a key of lockers
}

// client is the process.
type client struct {
	brief
	wire   *wire
	locker lock.Locker
	lastID atomic.Int64

	mu      sync.Mutex // guards all below
	answers map[int64]chan directive
	contend context.CancelFunc // ends the work of the workers; nil: they are drained
	queued  context.CancelFunc // ends the wait of the one who waits for a key
	hold    context.CancelFunc // ends the worker that keeps a key
	wg      sync.WaitGroup     // every worker
	workers sync.WaitGroup     // those that contend or wait
}

// clientMain is the main function of a client.
func clientMain() error {
	c := &client{answers: map[int64]chan directive{}}
	if err := json.Unmarshal([]byte(os.Getenv(clientEnv)), &c.brief); err != nil {
		return err
	}
	file := os.NewFile(3, "parent")
	conn, err := net.FileConn(file)
	if err != nil {
		return err
	}
	_ = file.Close()
	c.wire = newWire(conn)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	orders := make(chan directive, 16)
	go func() { // ends with the process
		for {
			var m directive
			if err := c.wire.receive(&m); err != nil {
				os.Exit(3) // the parent is gone: no server to talk to, nobody to work for
			}
			if m.Order == orderStop {
				stop()
			}
			if m.Order != "" {
				orders <- m
				continue
			}
			c.mu.Lock()
			answer := c.answers[m.ID]
			delete(c.answers, m.ID)
			c.mu.Unlock()
			if answer != nil {
				answer <- m
			}
		}
	}()
	go c.pulse()

	locker, done, err := c.open(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped before the store was there
		}
		return err
	}
	c.locker = recorder{locker, c.say, &c.lastID}
	c.say(said{What: saidReady})
	for m := range orders {
		if m.Order == orderStop {
			break
		}
		c.obey(ctx, m)
	}
	c.drain()
	c.wg.Wait()
	done()
	return nil
}

func (c *client) open(ctx context.Context) (lock.Locker, func(), error) {
	library, ok := lockers[c.Locker]
	if !ok {
		return nil, nil, fmt.Errorf("no locker %q", c.Locker)
	}
	for {
		dial, cancel := context.WithTimeout(ctx, 5*time.Second)
		l, done, err := library.open(dial, c.brief)
		cancel()
		if err == nil || ctx.Err() != nil {
			return l, done, err
		}
		if errors.Is(err, lock.ErrInvalid) {
			c.say(said{What: saidOdd, Text: "open: " + err.Error()})
			return nil, nil, err
		}
	}
}

func (c *client) obey(ctx context.Context, m directive) {
	switch m.Order {
	case orderContend:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.contend != nil {
			return
		}
		work, cancel := context.WithCancel(ctx)
		c.contend = cancel
		for i := range c.Workers {
			w := c.worker(i)
			c.wg.Add(1)
			c.workers.Go(func() { defer c.wg.Done(); w.contend(work) })
		}
	case orderDrain:
		c.wg.Go(func() {
			c.drain()
			c.say(said{What: saidIdle})
		})
	case orderHold:
		c.mu.Lock()
		defer c.mu.Unlock()
		hold, cancel := context.WithCancel(ctx)
		c.hold = cancel
		w := c.worker(1000)
		c.wg.Go(func() { w.keepFor(hold, m.Key) })
	case orderFree:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.hold != nil {
			c.hold()
		}
	case orderQueue:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.queued != nil {
			c.queued()
		}
		queue, cancel := context.WithCancel(ctx)
		c.queued = cancel
		w := c.worker(2000)
		c.wg.Add(1)
		c.workers.Go(func() { defer c.wg.Done(); w.queue(queue, m.Key) })
	}
}

// drain returns when no worker contends.
func (c *client) drain() {
	c.mu.Lock()
	for _, end := range []context.CancelFunc{c.contend, c.queued} {
		if end != nil {
			end()
		}
	}
	c.mu.Unlock()
	c.workers.Wait()
	c.mu.Lock()
	c.contend = nil
	c.mu.Unlock()
}

func (c *client) say(m said) {
	if err := c.wire.send(m); err != nil {
		os.Exit(3) // as above
	}
}

// ask sends a question to the register and waits for the answer.
func (c *client) ask(m said) directive {
	m.ID = c.lastID.Add(1)
	answer := make(chan directive, 1)
	c.mu.Lock()
	c.answers[m.ID] = answer
	c.mu.Unlock()
	m.At = mono()
	c.say(m)
	return <-answer
}

// pulse notes times in which this process did not run.
func (c *client) pulse() {
	for last := mono(); ; {
		time.Sleep(25 * time.Millisecond)
		now := mono()
		if now-last > int64(stall) {
			c.say(said{What: saidStall, Asked: last, At: now})
		}
		last = now
	}
}

// stall is how long a process must not have run for that to be reported.
const stall = 250 * time.Millisecond

func (c *client) worker(i int) *worker {
	seed := uint64(c.Client)<<32 | uint64(c.Run)<<16 | uint64(i)
	return &worker{client: c, rng: rand.New(rand.NewPCG(c.Seed, seed))}
}
