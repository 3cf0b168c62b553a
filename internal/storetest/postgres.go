package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// Postgres is a server with an administrator "admin" and an empty database "app".
type Postgres struct {
	*Server
	data string
}

// postgresProgram finds one of Postgres' programs, which Debian keeps off PATH.
func postgresProgram(t testing.TB, name string) string {
	t.Helper()
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); len(found) > 0 {
		return found[len(found)-1]
	}
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name)
	}
	return path
}

// PostgresVersion is "postgres (PostgreSQL) 15.3"; it skips or fails a test without Postgres.
func PostgresVersion(t testing.TB) string {
	t.Helper()
	return versionOf(postgresProgram(t, "postgres"))
}

func versionOf(program string) string {
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return program
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(first)
}

// account is who may run Postgres, which refuses root; -1: this user may.
func account(t testing.TB) (uid, gid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		return -1, -1
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, err1 := strconv.Atoi(u.Uid)
			gid, err2 := strconv.Atoi(u.Gid)
			if err1 == nil && err2 == nil {
				return uid, gid
			}
		}
	}
	t.Fatal("storetest: this is root, and there is no user postgres or nobody to run Postgres")
	return 0, 0
}

// postgresCommand makes a command that runs as that account.
func postgresCommand(t testing.TB, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	if uid, gid := account(t); uid >= 0 {
		as(cmd, uid, gid)
	}
	cmd.Dir = "/"
	return cmd
}

// ownDir is a directory in s.dir that the account owns.
func (p *Postgres) ownDir(name string) string {
	p.t.Helper()
	dir := filepath.Join(p.dir, name)
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = os.Chmod(p.dir, 0o755) // who runs the server must reach it
	}
	if uid, gid := account(p.t); err == nil && uid >= 0 {
		err = os.Chown(dir, uid, gid)
	}
	if err != nil {
		p.t.Fatalf("storetest: %v", err)
	}
	return dir
}

func newPostgres(t testing.TB) *Postgres {
	t.Helper()
	program := postgresProgram(t, "postgres")
	p := &Postgres{Server: newServer(t, "postgres")}
	p.data = p.ownDir("data")
	p.command = func() *exec.Cmd {
		// The one that had it is gone, by kill -9: see Kill.
		_ = os.Remove(filepath.Join(p.data, "postmaster.pid"))
		return postgresCommand(t, program, "-D", p.data)
	}
	p.ready = func(ctx context.Context) error {
		db := p.Open("postgres")
		defer db.Close()
		return db.PingContext(ctx)
	}
	return p
}

// StartPostgres makes and starts a server with more lines of postgresql.conf. It is durable.
func StartPostgres(t testing.TB, settings ...string) *Postgres {
	t.Helper()
	p := newPostgres(t)
	file := filepath.Join(p.ownDir("secret"), "password")
	if err := os.WriteFile(file, []byte(Password), 0o644); err != nil {
		t.Fatalf("storetest: %v", err)
	}
	p.run("initdb", "-D", p.data, "-U", "admin", "--pwfile="+file, "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C")
	p.configure(settings)
	p.Restart()
	p.Exec("postgres", "CREATE DATABASE app")
	return p
}

// UseTLS has the server take connections by TLS, with a certificate of a; its clients must
// then ask for that.
func (p *Postgres) UseTLS(a *Authority) {
	p.t.Helper()
	a.Issue(p.t, Certificate{Name: "postgres"})
	uid, gid := account(p.t)
	for _, name := range []string{"postgres.crt", "postgres.key"} {
		text, err := os.ReadFile(a.File(name))
		must(p.t, err)
		to := filepath.Join(p.data, name)
		must(p.t, os.WriteFile(to, text, 0o600))
		if uid >= 0 {
			must(p.t, os.Chown(to, uid, gid))
		}
	}
	for _, setting := range []string{"ssl = on", "ssl_cert_file = 'postgres.crt'", "ssl_key_file = 'postgres.key'"} {
		p.Exec("postgres", "ALTER SYSTEM SET "+setting)
	}
	must(p.t, os.WriteFile(filepath.Join(p.data, "pg_hba.conf"), []byte("hostssl all clerk all scram-sha-256\nhost all admin all scram-sha-256\n"), 0o644))
	p.Kill()
	p.Restart()
}

func (p *Postgres) run(program string, args ...string) {
	p.t.Helper()
	if out, err := postgresCommand(p.t, postgresProgram(p.t, program), args...).CombinedOutput(); err != nil {
		p.t.Fatalf("storetest: %s: %v\n%s", program, err, out)
	}
}

func (p *Postgres) configure(settings []string) {
	p.t.Helper()
	text := fmt.Sprintf("listen_addresses = '127.0.0.1'\nport = %d\nunix_socket_directories = ''\nshared_buffers = 16MB\nmax_connections = 200\nwal_level = replica\nlogging_collector = off\n%s\n",
		p.port, strings.Join(settings, "\n"))
	name := filepath.Join(p.data, "postgresql.auto.conf")
	err := os.WriteFile(name, []byte(text), 0o600)
	if uid, gid := account(p.t); err == nil && uid >= 0 {
		err = os.Chown(name, uid, gid) // ALTER SYSTEM writes it
	}
	if err != nil {
		p.t.Fatalf("storetest: %v", err)
	}
}

// URL is that of a database for a user, whose password is Password.
func (p *Postgres) URL(user, database string) string { return PostgresURL(p.Addr(), user, database) }

// PostgresURL is the same at another address, such as a proxy's.
func PostgresURL(addr, user, database string) string {
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", user, Password, addr, database)
}

// Open opens a database as the administrator.
func (p *Postgres) Open(database string) *sql.DB {
	p.t.Helper()
	db, err := sql.Open("pgx", p.URL("admin", database))
	if err != nil {
		p.t.Fatalf("storetest: %v", err)
	}
	return db
}

// Exec runs a statement as the administrator.
func (p *Postgres) Exec(database, query string) {
	p.t.Helper()
	if err := p.Try(database, query); err != nil {
		p.t.Fatalf("storetest: %s: %v", query, err)
	}
}

// Try is Exec that returns what went wrong.
func (p *Postgres) Try(database, query string) error {
	return execute("pgx", p.URL("admin", database), query)
}

// Standby makes and starts a replica.
func (p *Postgres) Standby(settings ...string) *Postgres {
	p.t.Helper()
	r := newPostgres(p.t)
	r.run("pg_basebackup", "-d", p.URL("admin", ""), "-D", r.data, "-X", "stream", "--checkpoint=fast", "--no-sync")
	if err := os.WriteFile(filepath.Join(r.data, "standby.signal"), nil, 0o644); err != nil {
		p.t.Fatalf("storetest: %v", err)
	}
	r.configure(append(settings, fmt.Sprintf("primary_conninfo = 'host=127.0.0.1 port=%d user=admin password=%s sslmode=disable application_name=standby'", p.port, Password)))
	r.Restart()
	return r
}

// Pooler starts PgBouncer before the database app, in transaction mode, and returns its port.
func (p *Postgres) Pooler() int {
	p.t.Helper()
	bouncer := postgresProgram(p.t, "pgbouncer")
	dir, port := p.ownDir("pgbouncer"), redistest.FreePort(p.t)
	file := filepath.Join(dir, "pgbouncer.ini")
	config := fmt.Sprintf(`[databases]
app = host=127.0.0.1 port=%d dbname=app user=admin password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
ignore_startup_parameters = extra_float_digits
default_pool_size = 5
`, p.port, Password, port)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		p.t.Fatalf("storetest: %v", err)
	}
	cmd := postgresCommand(p.t, bouncer, "-q", file)
	programtest.EndWithParent(cmd)
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("storetest: pgbouncer: %v", err)
	}
	p.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return port
}
