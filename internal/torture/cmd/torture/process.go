package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// process is one of the client processes, over all its lives.
type process struct {
	*torture
	slot    int
	proxies []*redistest.Proxy // to each node
	urls    []string           // of the store, through them

	lane sync.Mutex // held while a fault lasts that stops or ends the process

	mu   sync.Mutex // guards all below
	run  int        // how often it was started
	life *life      // nil: it does not run
	// resumed is when it was last let go on after it had been stopped on purpose.
	resumed int64
}

// life is one of them.
type life struct {
	cmd   *exec.Cmd
	wire  *wire
	ready chan struct{} // closed when its locker is open
	idle  chan struct{} // gets one when it has drained
	over  chan struct{} // closed when the process has ended and all that it said was read
	ended error         // what Wait said; after over
	log   string
}

// start begins a new life, which works if the run is at that.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run++
	run := p.run
	b := p.brief
	b.Client, b.Run, b.URLs = p.slot, run, p.urls
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	ours, theirs, err := pair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	l := &life{wire: newWire(ours), ready: make(chan struct{}), idle: make(chan struct{}, 1), over: make(chan struct{}),
		log: filepath.Join(p.dir, fmt.Sprintf("client-%d.%d.log", p.slot, run))}
	out, err := os.Create(l.log)
	if err != nil {
		return err
	}
	defer out.Close()
	l.cmd = exec.Command(exe)
	l.cmd.Env = append(os.Environ(), clientEnv+"="+string(text))
	l.cmd.Stdout, l.cmd.Stderr = out, out
	l.cmd.ExtraFiles = []*os.File{theirs}
	dieWithUs(l.cmd)
	if err := l.cmd.Start(); err != nil {
		_ = ours.Close()
		return err
	}
	p.life = l
	heard := make(chan struct{})
	go func() { // ends with the process: its end of the pair is closed then
		defer close(heard)
		for {
			var m said
			if err := l.wire.receive(&m); err != nil {
				return
			}
			switch m.What {
			case saidReady:
				close(l.ready)
			case saidIdle:
				select {
				case l.idle <- struct{}{}:
				default: // nobody has waited for the last one
				}
			case saidStall:
				p.mu.Lock()
				meant := m.Asked <= p.resumed // it was stopped on purpose
				p.mu.Unlock()
				if !meant {
					p.ledger.take(p.slot, run, m)
				}
			default:
				if answer := p.ledger.take(p.slot, run, m); answer != nil {
					_ = l.wire.send(answer) // it may have died
				}
			}
		}
	}()
	go func() { // likewise
		err := l.cmd.Wait()
		<-heard
		_ = ours.Close()
		p.ledger.gone(p.slot, run)
		l.ended = err
		close(l.over)
	}()
	return l.wire.send(p.order())
}

// pair makes two connected sockets: one for here, one to give to a process.
func pair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	file := os.NewFile(uintptr(fds[0]), "client")
	defer file.Close()
	theirs := os.NewFile(uintptr(fds[1]), "parent")
	ours, err := net.FileConn(file)
	if err != nil {
		_ = theirs.Close()
	}
	return ours, theirs, err
}

func (p *process) now() *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life
}

// kill ends the present life as kill -9 does.
func (p *process) kill() error {
	p.mu.Lock()
	l, run := p.life, p.run
	p.life = nil
	p.mu.Unlock()
	if l == nil {
		return nil
	}
	select {
	case <-l.over:
		return p.died(l)
	default:
	}
	dying := mono()
	if err := l.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-l.over // all that it said was read
	if p.store.frees {
		p.ledger.died(p.slot, run, dying)
	}
	return nil
}

// died is the error of a life that has ended by itself. It waits until all that the
// process said was read: a signal that finds no process comes before that.
func (p *process) died(l *life) error {
	<-l.over
	text, _ := os.ReadFile(l.log)
	if part := 4096; len(text) > 2*part { // a dump has its reason at the head
		text = slices.Concat(text[:part], []byte("\n[...]\n"), text[len(text)-part:])
	}
	return fmt.Errorf("client %d died: %v:\n%s", p.slot, l.ended, text)
}

// alive is an error if the process has ended by itself.
func (p *process) alive() error {
	l := p.now()
	if l == nil {
		return nil
	}
	select {
	case <-l.over:
		return p.died(l)
	default:
		return nil
	}
}

// give gives the process an order, if it runs.
func (p *process) give(m directive) {
	if l := p.now(); l != nil {
		_ = l.wire.send(m) // alive reports if it died
	}
}

// stop ends the process in peace.
func (p *process) stop() error {
	l := p.now()
	if l == nil {
		return nil
	}
	p.give(directive{Order: orderStop})
	select {
	case <-l.over:
		p.mu.Lock()
		p.life = nil
		p.mu.Unlock()
		if l.ended != nil {
			return p.died(l)
		}
		return nil
	case <-time.After(bound):
		p.ledger.violation("everything ends", "client %d has not ended %v after it was asked to; what it did then is in %s", p.slot, bound, l.log)
		_ = l.cmd.Process.Signal(unix.SIGABRT) // prints every goroutine
		select {
		case <-l.over:
		case <-time.After(5 * time.Second):
		}
		return p.kill()
	}
}

// bound is how long anything may take at the most that must come to an end when all
// is well: much longer than a busy machine needs.
const bound = 30 * time.Second

// stopped lets the process stand still for as long as during lasts.
func (p *process) stopped(during func()) error {
	l := p.now()
	if l == nil {
		return nil
	}
	switch err := l.cmd.Process.Signal(unix.SIGSTOP); {
	case errors.Is(err, os.ErrProcessDone):
		return p.died(l)
	case err != nil:
		return err
	}
	during()
	p.mu.Lock()
	defer p.mu.Unlock()
	err := l.cmd.Process.Signal(unix.SIGCONT)
	p.resumed = mono()
	return err
}
