package storetest

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
)

// MySQL is a MariaDB server with a user root and an empty database "app".
type MySQL struct{ *Server }

// MySQLVersion is what the server says of itself; it skips or fails a test without one.
func MySQLVersion(t testing.TB) string {
	t.Helper()
	return versionOf(mysqlProgram(t, "mariadbd"))
}

func mysqlProgram(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil { // Debian keeps servers off the PATH of users
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			missing(t, name)
		}
	}
	return path
}

// StartMySQL makes and starts a server with more options.
func StartMySQL(t testing.TB, args ...string) *MySQL {
	t.Helper()
	install, program := mysqlProgram(t, "mariadb-install-db"), mysqlProgram(t, "mariadbd")
	s := &MySQL{newServer(t, "mariadb")}
	me, err := user.Current()
	if err != nil {
		t.Fatalf("storetest: %v", err)
	}
	data := "--datadir=" + filepath.Join(s.dir, "data")
	if out, err := exec.Command(install, "--no-defaults", data, "--user="+me.Username,
		"--auth-root-authentication-method=normal", "--skip-test-db").CombinedOutput(); err != nil {
		t.Fatalf("storetest: %s: %v\n%s", install, err, out)
	}
	s.command = func() *exec.Cmd {
		return exec.Command(program, append([]string{"--no-defaults", data, "--user=" + me.Username,
			"--bind-address=127.0.0.1", fmt.Sprint("--port=", s.port), "--socket=" + s.socket(), "--pid-file=" + filepath.Join(s.dir, "pid"),
			"--innodb-buffer-pool-size=32M", "--skip-name-resolve", "--max-connections=300"}, args...)...)
	}
	s.ready = func(ctx context.Context) error {
		if err := s.accepts(ctx); err != nil {
			return err
		}
		// Its socket comes after its port, and its file before it takes connections.
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", s.socket())
		if err != nil {
			return err
		}
		return c.Close()
	}
	s.Restart()
	if err := execute("mysql", fmt.Sprintf("root@unix(%s)/", s.socket()), "SET PASSWORD FOR root@localhost = PASSWORD('"+Password+"')"); err != nil {
		t.Fatalf("storetest: %v", err)
	}
	s.Exec("SET PASSWORD FOR root@'127.0.0.1' = PASSWORD('" + Password + "')")
	s.Exec("GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION")
	s.Exec("CREATE DATABASE app")
	return s
}

func (s *MySQL) socket() string { return filepath.Join(s.dir, "sock") }

// DSN is root's over the server's socket.
func (s *MySQL) DSN(database string) string {
	return fmt.Sprintf("root:%s@unix(%s)/%s", Password, s.socket(), database)
}

// TCP is the DSN over loopback of a user, whose password is Password.
func (s *MySQL) TCP(user, database string) string {
	return fmt.Sprintf("%s:%s@tcp(%s)/%s", user, Password, s.Addr(), database)
}

// Exec runs a statement as root.
func (s *MySQL) Exec(query string) {
	s.t.Helper()
	if err := s.Try(query); err != nil {
		s.t.Fatalf("storetest: %s: %v", query, err)
	}
}

// Try is Exec that returns what went wrong.
func (s *MySQL) Try(query string) error { return execute("mysql", s.DSN(""), query) }
