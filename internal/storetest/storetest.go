// Package storetest runs real servers of the stores for tests: Postgres, MariaDB, etcd, NATS,
// S3 (versitygw) and Kubernetes. [redistest] has Redis, and the proxy that breaks the way to any
// of them.
//
// It is for tests only, and links no driver: who runs Postgres links pgx's stdlib package,
// and who runs MariaDB go-sql-driver/mysql. What its methods can't do fails the test.
package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// Password is that of every account made here.
const Password = "s3cret"

// upTimeout is much longer than a busy machine needs to start a server.
const upTimeout = time.Minute

// Server is one server process on loopback, with all processes that it starts. Its methods
// are safe for concurrent use. It ends with the test.
type Server struct {
	t       testing.TB
	name    string
	dir     string // removed with the test
	port    int
	command func() *exec.Cmd
	ready   func(ctx context.Context) error

	mu     sync.Mutex // guards all below
	cmd    *exec.Cmd  // nil: it does not run
	exited chan struct{}
}

// missing skips the test for want of a program, or fails it where servers are required.
func missing(t testing.TB, program string) {
	t.Helper()
	if os.Getenv(redistest.RequireEnv) != "" {
		t.Fatalf("no %s (make servers installs it); %s forbids that", program, redistest.RequireEnv)
	}
	t.Skip("no " + program + " (make servers installs it)")
}

// tempDir is a directory for t with a short path, as unix sockets need.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "storetest-")
	if err != nil {
		t.Fatalf("storetest: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("storetest: %v", err)
		}
	})
	return dir
}

// newServer makes a server that does not run yet.
func newServer(t testing.TB, name string) *Server {
	t.Helper()
	s := &Server{t: t, name: name, dir: tempDir(t), port: redistest.FreePort(t)}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("storetest: end of the log of %s at %s:\n%s", s.name, s.Addr(), s.logTail())
		}
	})
	return s
}

// Addr is host:port of the server; it stays the same over restarts.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Port is the server's TCP port.
func (s *Server) Port() int { return s.port }

// Restart kills the server if it runs, starts it with its data, and returns when it
// answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	exited, err := s.begin()
	if err == nil {
		err = s.up(exited)
	}
	if err != nil {
		s.Kill()
		s.t.Fatalf("storetest: %s: %v; log:\n%s", s.name, err, s.logTail())
	}
}

// begin starts the process, and does not wait for it.
func (s *Server) begin() (exited chan struct{}, err error) {
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := s.command()
	cmd.Stdout, cmd.Stderr = log, log
	programtest.EndWithParent(cmd)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return nil, fmt.Errorf("%s runs already", s.Addr())
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited = make(chan struct{})
	s.cmd, s.exited = cmd, exited
	go func() { // ends with the process; Kill waits for it
		defer close(exited)
		_ = cmd.Wait()
	}()
	return exited, nil
}

func (s *Server) up(exited <-chan struct{}) error {
	deadline := time.Now().Add(upTimeout)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := s.ready(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer after %v: %w", s.Addr(), upTimeout, err)
		}
		select {
		case <-exited:
			return fmt.Errorf("%s has ended: %w", s.Addr(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill ends the server and all of its processes as kill -9 does, also when it is paused,
// and returns when they have ended. A server that does not run is left as it is.
func (s *Server) Kill() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	select {
	case <-s.exited: // by itself: its number may be another's now
	default:
		if err := killAll(s.cmd.Process); err != nil {
			s.t.Errorf("storetest: kill %s: %v", s.name, err)
		}
		<-s.exited
	}
	s.cmd = nil
}

// Pause stops the server and all of its processes (SIGSTOP): it hangs, and its connections
// stay open. It returns when all of them stand still.
func (s *Server) Pause() {
	s.t.Helper()
	s.act("pause", stopAll)
}

// Resume lets a paused server go on (SIGCONT).
func (s *Server) Resume() {
	s.t.Helper()
	s.act("resume", continueAll)
}

func (s *Server) act(what string, do func(*os.Process) error) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		s.t.Fatalf("storetest: %s %s: it does not run", what, s.name)
	}
	if err := do(s.cmd.Process); err != nil {
		s.t.Fatalf("storetest: %s %s: %v", what, s.name, err)
	}
}

// Running reports whether the server was started and not killed.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd != nil
}

func (s *Server) logPath() string { return filepath.Join(s.dir, "log") }

func (s *Server) logTail() string {
	text, _ := os.ReadFile(s.logPath())
	return string(text[max(0, len(text)-4096):])
}

// accepts returns nil when something listens at the server's port.
func (s *Server) accepts(ctx context.Context) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return err
	}
	return c.Close()
}

// execute runs a statement over a connection of its own.
func execute(driver, dsn, query string) error {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err = db.ExecContext(ctx, query)
	return err
}
