package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// worker is an actor as the bench sees it: another process.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu      sync.Mutex // guards all below
	next    int
	pending map[int]chan report
	over    bool
	done    chan struct{} // closed when the process has ended
}

// orderTimeout bounds the wait for a report, beyond what the order itself takes.
var orderTimeout = time.Minute

// startWorkers gives n workers, and starts those who are missing. They end with the bench.
func (b *bench) startWorkers(n int) ([]*worker, error) {
	for len(b.workers) < n {
		p, err := newWorker()
		if err != nil {
			return nil, err
		}
		b.t.Cleanup(p.end)
		b.workers = append(b.workers, p)
	}
	return b.workers[:n], nil
}

// newWorker starts this program again, as an actor.
func newWorker() (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), actorEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &worker{cmd: cmd, in: in, pending: map[int]chan report{}, done: make(chan struct{})}
	go p.listen(out) // ends with the process, for which end waits
	return p, nil
}

func (p *worker) listen(out io.Reader) {
	defer close(p.done)
	for dec := json.NewDecoder(out); ; {
		var r report
		if err := dec.Decode(&r); err != nil {
			break
		}
		p.mu.Lock()
		answer := p.pending[r.ID]
		delete(p.pending, r.ID)
		p.mu.Unlock()
		if answer != nil {
			answer <- r
		}
	}
	p.mu.Lock()
	p.over = true
	for _, answer := range p.pending {
		answer <- report{Err: "the process has ended"}
	}
	p.mu.Unlock()
	_ = p.cmd.Wait()
}

// end lets the actor finish, and kills it if it does not.
func (p *worker) end() {
	_ = p.in.Close()
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// send gives an order; its report comes by the channel.
func (p *worker) send(o order) <-chan report {
	answer := make(chan report, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		answer <- report{Err: "the process has ended"}
		return answer
	}
	p.next++
	o.ID = p.next
	p.pending[o.ID] = answer
	if err := json.NewEncoder(p.in).Encode(o); err != nil {
		delete(p.pending, o.ID)
		answer <- report{Err: err.Error()}
	}
	return answer
}

var errSilent = errors.New("no report")

// ask gives an order and waits for its report.
func (p *worker) ask(ctx context.Context, o order) (report, error) {
	return await(ctx, o, p.send(o))
}

func await(ctx context.Context, o order, answer <-chan report) (report, error) {
	timeout := orderTimeout
	if o.End != 0 {
		timeout += untilMono(o.End)
	}
	select {
	case r := <-answer:
		if r.Err != "" {
			return r, fmt.Errorf("%s: %s %s: %s", o.Library, o.Do, o.Key, r.Err)
		}
		return r, nil
	case <-ctx.Done():
		return report{}, context.Cause(ctx)
	case <-time.After(timeout):
		return report{}, fmt.Errorf("%s: %s %s: %w within %v", o.Library, o.Do, o.Key, errSilent, timeout)
	}
}

// all gives workers the same order at once, and waits for all.
func all(ctx context.Context, workers []*worker, o order) ([]report, error) {
	answers := make([]<-chan report, len(workers))
	for i, p := range workers {
		answers[i] = p.send(o)
	}
	reports := make([]report, len(workers))
	var errs []error
	for i, answer := range answers {
		var err error
		if reports[i], err = await(ctx, o, answer); err != nil {
			errs = append(errs, err)
		}
	}
	return reports, errors.Join(errs...)
}
