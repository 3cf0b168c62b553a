package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// requireServers is set where a missing server is a failure.
const requireServers = "LOCKKEEPER_REQUIRE_SERVERS"

const password = "s3cret"

// program finds one of Postgres' programs, which Debian keeps off PATH.
func program(t *testing.T, name string) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) > 0 {
		return found[len(found)-1]
	}
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv(requireServers) != "" {
			t.Fatalf("no %s; make servers installs it", name)
		}
		t.Skipf("no %s", name)
	}
	return path
}

// server is a Postgres server of one test, on loopback.
type server struct {
	t    *testing.T
	data string
	port int
	cmd  *exec.Cmd
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// account is who may run a server: it refuses root.
func account(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, err1 := strconv.Atoi(u.Uid)
			gid, err2 := strconv.Atoi(u.Gid)
			require.NoError(t, err1)
			require.NoError(t, err2)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Fatal("this is root, and there is no user postgres or nobody to run the server")
	return nil
}

// as makes a command that runs as that account.
func as(t *testing.T, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: account(t)}
	cmd.Dir = "/"
	return cmd
}

// dataDir is a directory that the account owns.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // who runs the server must reach it
	if c := account(t); c != nil {
		require.NoError(t, os.Chown(dir, int(c.Uid), int(c.Gid)))
	}
	require.NoError(t, os.Chmod(dir, 0o700))
	return dir
}

// startServer makes and starts a server with a database app.
func startServer(t *testing.T, settings ...string) *server {
	t.Helper()
	s := &server{t: t, data: dataDir(t), port: freePort(t)}
	file := filepath.Join(dataDir(t), "password")
	require.NoError(t, os.WriteFile(file, []byte(password), 0o644))
	require.NoError(t, os.Chmod(filepath.Dir(file), 0o755))
	out, err := as(t, program(t, "initdb"), "-D", s.data, "-U", "admin", "--pwfile="+file, "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C").CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Cleanup(s.kill)
	s.start(settings...)
	s.exec("postgres", "CREATE DATABASE app")
	return s
}

// start starts it with more settings, and waits for it.
func (s *server) start(settings ...string) {
	s.t.Helper()
	text := fmt.Sprintf("listen_addresses = '127.0.0.1'\nport = %d\nunix_socket_directories = ''\nshared_buffers = 16MB\nmax_connections = 200\nwal_level = replica\nlogging_collector = off\n%s\n",
		s.port, strings.Join(settings, "\n"))
	require.NoError(s.t, os.WriteFile(filepath.Join(s.data, "postgresql.auto.conf"), []byte(text), 0o644))
	_ = os.Remove(filepath.Join(s.data, "postmaster.pid"))
	log, err := os.OpenFile(filepath.Join(s.t.TempDir(), "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(s.t, err)
	defer log.Close()
	cmd := as(s.t, program(s.t, "postgres"), "-D", s.data)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(s.t, cmd.Start())
	s.cmd = cmd
	deadline := time.Now().Add(time.Minute)
	for {
		db := s.open("postgres")
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := db.PingContext(ctx)
		cancel()
		_ = db.Close()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			s.t.Fatalf("the server does not start: %v\n%s", err, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// kill ends the server and all of its processes at once.
func (s *server) kill() {
	if s.cmd != nil {
		s.signal(syscall.SIGSTOP) // so that none of them sees the others go
		s.signal(syscall.SIGKILL)
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// signal stops or continues the server and all of its processes, each of which is a session
// of its own.
func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	all := []int{s.cmd.Process.Pid}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(s.cmd.Process.Pid) { // its parent
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			require.NoError(s.t, err)
			all = append(all, pid)
		}
	}
	for _, pid := range all {
		_ = syscall.Kill(pid, sig)
	}
}

func (s *server) url(who, database string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", who, password, s.port, database)
}

func (s *server) open(database string) *sql.DB {
	s.t.Helper()
	db, err := sql.Open("pgx", s.url("admin", database))
	require.NoError(s.t, err)
	return db
}

// exec runs a statement as the administrator.
func (s *server) exec(database, query string) {
	s.t.Helper()
	db := s.open(database)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err := db.ExecContext(ctx, query)
	require.NoError(s.t, err, query)
}

// standby makes and starts a replica of s.
func (s *server) standby(settings ...string) *server {
	s.t.Helper()
	r := &server{t: s.t, data: dataDir(s.t), port: freePort(s.t)}
	cmd := as(s.t, program(s.t, "pg_basebackup"), "-d", s.url("admin", ""), "-D", r.data, "-X", "stream", "--checkpoint=fast", "--no-sync")
	out, err := cmd.CombinedOutput()
	require.NoError(s.t, err, "%s", out)
	require.NoError(s.t, os.WriteFile(filepath.Join(r.data, "standby.signal"), nil, 0o644))
	s.t.Cleanup(r.kill)
	r.start(append(settings, fmt.Sprintf("primary_conninfo = 'host=127.0.0.1 port=%d user=admin password=%s sslmode=disable application_name=standby'", s.port, password))...)
	return r
}
