// Package redistest runs real Redis (or Valkey) servers for tests, and a TCP
// proxy that breaks the way to them.
//
// It is for tests only: no other package may import it. What its methods can't
// do fails the test.
package redistest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/internal/programtest"
)

// RequireEnv names the environment variable that turns a missing server from a
// skip into a failure, when it is "1". make test sets it.
const RequireEnv = "LOCKKEEPER_REQUIRE_SERVERS"

// BinaryEnv names the environment variable with the server program to run in
// place of redis-server or valkey-server in PATH.
const BinaryEnv = "LOCKKEEPER_REDIS_SERVER"

// Missing is what a skipped test says.
const Missing = "redis-server not found: real-server tests left out (make test installs it)"

// upTimeout is for what must come, on however busy a machine: a Sentinel that had no processor
// for two seconds trusts itself again only after 30.
const upTimeout = 2 * time.Minute

// Server is one server process. Its methods are safe for concurrent use.
type Server struct {
	t      testing.TB
	binary string
	head   []string // options of another kind of server, in place of the usual ones
	args   []string
	port   int
	base   string
	auth   []string // the AUTH command, nil without a password

	mu  sync.Mutex // guards all below
	cmd *exec.Cmd
	// exited is closed when the process has ended and been waited for.
	exited chan struct{}
}

// Binary is the path of the server program, "" if there is none.
func Binary() string {
	names := []string{"redis-server", "valkey-server"}
	if name := os.Getenv(BinaryEnv); name != "" {
		names = []string{name}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Require skips the test if there is no server program, or fails it where
// LOCKKEEPER_REQUIRE_SERVERS is 1.
func Require(t testing.TB) {
	t.Helper()
	if Binary() != "" {
		return
	}
	if os.Getenv(RequireEnv) == "1" {
		t.Fatalf("%s; %s=1 forbids that", Missing, RequireEnv)
	}
	t.Skip(Missing)
}

// Start runs a server on a free loopback port, in a directory of its own, without
// persistence, and returns when it answers. args are options of redis-server,
// which override those ("--appendonly", "yes"). The server ends with the test.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return begin(t, FreePort, nil, args)
}

// begin runs a server on a port that choose gives. head makes its first options, where
// it is no common server.
func begin(t testing.TB, choose func(testing.TB) int, head func(base string) []string, args []string) *Server {
	t.Helper()
	Require(t)
	// A short path of its own: t.TempDir can be too long for a unix socket.
	base, err := os.MkdirTemp("", "redistest-")
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	s := &Server{t: t, binary: Binary(), args: args, base: base}
	if head != nil {
		s.head = head(base)
	}
	for i := 0; i+1 < len(args); i++ {
		if args[i] == "--requirepass" {
			s.auth = []string{"AUTH", args[i+1]}
		}
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("redistest: end of the log of %s:\n%s", s.Addr(), s.logTail())
		}
		if err := os.RemoveAll(base); err != nil {
			t.Errorf("redistest: %v", err)
		}
	})
	// Somebody may take the port between its choice and the server's start.
	for attempt := 1; ; attempt++ {
		s.port = choose(t)
		err := s.start()
		if err == nil {
			return s
		}
		if attempt == 5 || !s.logMatches(`Address already in use`) {
			t.Fatalf("redistest: %v; log:\n%s", err, s.logTail())
		}
	}
}

// StartN runs n servers, as [Start] does.
func StartN(t testing.TB, n int, args ...string) []*Server {
	t.Helper()
	servers := make([]*Server, n)
	for i := range servers {
		servers[i] = Start(t, args...)
	}
	return servers
}

// Addrs gives the addresses of servers.
func Addrs(servers []*Server) []string {
	addrs := make([]string, len(servers))
	for i, s := range servers {
		addrs[i] = s.Addr()
	}
	return addrs
}

// Addr is host:port of the server; it stays the same over restarts.
func (s *Server) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// Port is the server's TCP port.
func (s *Server) Port() int { return s.port }

// Dir is where the server keeps its data.
func (s *Server) Dir() string { return filepath.Join(s.base, "data") }

// PID is the process id; 0 while it does not run.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Kill ends the server as kill -9 does, also when it is paused, and returns when
// it has ended. A server that does not run is left as it is.
func (s *Server) Kill() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
}

// kill: mu is held.
func (s *Server) kill() {
	s.t.Helper()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("redistest: kill %d: %v", s.cmd.Process.Pid, err)
		return
	}
	<-s.exited
	s.cmd = nil
}

// Pause stops the server's process (SIGSTOP): it hangs, and its connections stay
// open. It returns when the process stands still.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal("pause", pause)
}

// Resume lets a paused server go on (SIGCONT).
func (s *Server) Resume() {
	s.t.Helper()
	s.signal("resume", resume)
}

func (s *Server) signal(what string, send func(*os.Process) error) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		s.t.Fatalf("redistest: %s %s: it does not run", what, s.Addr())
	}
	if err := send(s.cmd.Process); err != nil {
		s.t.Fatalf("redistest: %s %s: %v", what, s.Addr(), err)
	}
}

// Restart kills the server if it runs, and starts it again on the same port, with
// its data deleted first if empty is set. It returns when the server answers.
func (s *Server) Restart(empty bool) {
	s.t.Helper()
	s.Kill()
	if empty {
		if err := os.RemoveAll(s.Dir()); err != nil {
			s.t.Fatalf("redistest: %v", err)
		}
	}
	if err := s.start(); err != nil {
		s.t.Fatalf("redistest: restart: %v; log:\n%s", err, s.logTail())
	}
}

func (s *Server) start() error {
	if err := os.MkdirAll(s.Dir(), 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()

	args := append(slices.Clone(s.head), "--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.Dir())
	if s.head == nil {
		args = append(args, "--save", "", "--appendonly", "no")
		if hasDebugSwitch(s.binary) {
			args = append(args, "--enable-debug-command", "local")
		}
	}
	cmd := exec.Command(s.binary, append(args, s.args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	programtest.EndWithParent(cmd)

	s.mu.Lock()
	if s.cmd != nil {
		s.mu.Unlock()
		return fmt.Errorf("%s runs already", s.Addr())
	}
	if err := cmd.Start(); err != nil {
		s.mu.Unlock()
		return err
	}
	exited := make(chan struct{})
	s.cmd, s.exited = cmd, exited
	s.mu.Unlock()
	go func() { // ends with the process; Kill waits for it
		defer close(exited)
		_ = cmd.Wait()
	}()
	if err := s.up(exited); err != nil {
		s.Kill()
		return err
	}
	return nil
}

// WaitUp returns when the server answers commands. It fails the test after two minutes.
func (s *Server) WaitUp() {
	s.t.Helper()
	s.mu.Lock()
	exited := s.exited
	s.mu.Unlock()
	if err := s.up(exited); err != nil {
		s.t.Fatalf("redistest: %v; log:\n%s", err, s.logTail())
	}
}

func (s *Server) up(exited <-chan struct{}) error {
	deadline := time.Now().Add(upTimeout)
	for {
		_, err := roundTrip(s.Addr(), s.auth, time.Second, "PING")
		reply, answered := errors.AsType[ReplyError](err)
		// A server that refuses for want of a password is up.
		if err == nil || answered && !reply.Has("LOADING") {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("%s has ended", s.Addr())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer after %v: %w", s.Addr(), upTimeout, err)
		}
	}
}

func (s *Server) logPath() string { return filepath.Join(s.base, "server.log") }

func (s *Server) logTail() string {
	text, _ := os.ReadFile(s.logPath())
	return string(text[max(0, len(text)-4096):])
}

func (s *Server) logMatches(pattern string) bool {
	return regexp.MustCompile(pattern).MatchString(s.logTail())
}

// hasDebugSwitch reports whether DEBUG must be allowed by an option, which older
// servers do not know: since 7.0, and in all versions of Valkey.
func hasDebugSwitch(binary string) bool {
	out, err := exec.Command(binary, "--version").Output()
	if err != nil {
		return false
	}
	m := regexp.MustCompile(`v=(\d+)\.`).FindSubmatch(out)
	if m == nil {
		return false
	}
	major, _ := strconv.Atoi(string(m[1]))
	return major >= 7
}
