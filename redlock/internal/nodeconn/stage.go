package nodeconn

import (
	"context"
	"fmt"
	"net/http/httptrace"
	"sync"
	"time"
)

// step is a part of making a connection.
type step int

const (
	stepDNS step = iota
	stepTCP
	stepTLS
	stepServer
	steps
)

// Timing is what each step took.
type Timing [steps]time.Duration

// Total is what all steps took together.
func (t Timing) Total() (sum time.Duration) {
	for _, d := range t {
		sum += d
	}
	return sum
}

// String says which step took the most.
func (t Timing) String() string {
	longest := stepDNS
	for s := range steps {
		if t[s] > t[longest] {
			longest = s
		}
	}
	why := [steps]string{"to look up its name (DNS)", "to reach it (TCP)", "for the TLS handshake", "for the server's first answers"}[longest]
	return fmt.Sprintf("%v, %v of it %s", t.Total().Round(time.Millisecond), t[longest].Round(time.Millisecond), why)
}

// stage is what a connection in the making waits for at this moment.
type stage struct {
	began time.Time

	mu   sync.Mutex // guards all below
	now  step
	what string // that is looked up, or connected to
	at   time.Time
	took Timing
}

func newStage() *stage {
	now := time.Now()
	return &stage{began: now, at: now, now: stepTCP}
}

// enter goes on to a step, which may have been entered before.
func (s *stage) enter(next step, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.took[s.now] += now.Sub(s.at)
	s.now, s.what, s.at = next, what, now
}

// ended is what the steps took, the present one included.
func (s *stage) ended() Timing {
	s.enter(stepServer, "")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.took
}

func (s *stage) step() step {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *stage) resolving() bool { return s.step() == stepDNS }

// naming is how long the name has been looked up so far.
func (s *stage) naming() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.took[stepDNS]
	if s.now == stepDNS {
		d += time.Since(s.at)
	}
	return d
}

func (s *stage) age() time.Duration { return time.Since(s.began) }

func (s *stage) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.now == stepDNS:
		return fmt.Sprintf("looking up %s (DNS)", s.what)
	case s.now == stepTLS:
		return noHandshake
	case s.now == stepServer:
		return "waiting for the server's first answer"
	case s.what != "":
		return fmt.Sprintf("connecting to %s (TCP)", s.what)
	}
	return "connecting (TCP)"
}

type stageKey struct{}

// withStage lets the stage follow what is done under ctx.
func withStage(ctx context.Context, s *stage) context.Context {
	ctx = context.WithValue(ctx, stageKey{}, s)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{ // package net calls these, too
		DNSStart:     func(info httptrace.DNSStartInfo) { s.enter(stepDNS, info.Host) },
		ConnectStart: func(_, addr string) { s.enter(stepTCP, addr) },
	})
}

// stageOf is the one of ctx, or one that nobody looks at.
func stageOf(ctx context.Context) *stage {
	if s, ok := ctx.Value(stageKey{}).(*stage); ok {
		return s
	}
	return newStage()
}
