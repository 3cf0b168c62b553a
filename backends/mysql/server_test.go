package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// server is a MariaDB or MySQL server of one test, on loopback.
type server struct {
	t    *testing.T
	dir  string
	port int
	args []string
	cmd  *exec.Cmd
	mu   sync.Mutex
}

const password = "s3cret"

// requireServers is set where a missing server is a failure.
const requireServers = "LOCKKEEPER_REQUIRE_SERVERS"

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startServer makes and starts a server with an empty database "app" and user root.
func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	install, err := exec.LookPath("mariadb-install-db")
	if err != nil {
		if os.Getenv(requireServers) != "" {
			t.Fatal("no mariadb-install-db; make servers installs it")
		}
		t.Skip("no mariadb-install-db")
	}
	s := &server{t: t, dir: t.TempDir(), port: freePort(t), args: args}
	me, err := user.Current()
	require.NoError(t, err)
	out, err := exec.Command(install, "--no-defaults", "--datadir="+filepath.Join(s.dir, "data"), "--user="+me.Username,
		"--auth-root-authentication-method=normal", "--skip-test-db").CombinedOutput()
	require.NoError(t, err, "%s", out)
	s.start()
	t.Cleanup(s.kill)
	s.exec("SET PASSWORD FOR root@localhost = PASSWORD('" + password + "')")
	s.exec("SET PASSWORD FOR root@'127.0.0.1' = PASSWORD('" + password + "')")
	s.exec("GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION")
	s.exec("CREATE DATABASE app")
	return s
}

func (s *server) start() {
	s.t.Helper()
	me, err := user.Current()
	require.NoError(s.t, err)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(s.t, err)
	defer log.Close()
	cmd := exec.Command("mariadbd", append([]string{"--no-defaults", "--datadir=" + filepath.Join(s.dir, "data"), "--user=" + me.Username,
		"--bind-address=127.0.0.1", fmt.Sprint("--port=", s.port), "--socket=" + filepath.Join(s.dir, "sock"), "--pid-file=" + filepath.Join(s.dir, "pid"),
		"--innodb-buffer-pool-size=32M", "--skip-name-resolve", "--max-connections=300"}, s.args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(s.t, cmd.Start())
	s.cmd = cmd
	deadline := time.Now().Add(time.Minute)
	for {
		c, err := net.DialTimeout("tcp", s.addr(), time.Second)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.t.Fatalf("the server does not start: %s", text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *server) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) signal(sig os.Signal) { _ = s.cmd.Process.Signal(sig) }

// dsn is of root, or of who has a password.
func (s *server) dsn(database string) string {
	return fmt.Sprintf("root:%s@unix(%s)/%s", password, filepath.Join(s.dir, "sock"), database)
}

func (s *server) tcp(who, database string) string {
	return fmt.Sprintf("%s:%s@tcp(%s)/%s", who, password, s.addr(), database)
}

// exec runs a statement as root.
func (s *server) exec(query string) {
	s.t.Helper()
	dsn := s.dsn("")
	if strings.HasPrefix(query, "SET PASSWORD FOR root@localhost") {
		dsn = fmt.Sprintf("root@unix(%s)/", filepath.Join(s.dir, "sock"))
	}
	db, err := sql.Open("mysql", dsn)
	require.NoError(s.t, err)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err = db.ExecContext(ctx, query)
	require.NoError(s.t, err, query)
}
