//go:build unix

package postgres

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
)

func TestMain(m *testing.M) { os.Exit(programtest.Main(m)) }

// nodeExample is a keeper for Node that writes to Postgres under its fencing token. It is tested
// here, where there is a driver to start Postgres with.
const nodeExample = "../../examples/node/sql"

// keeper is a copy of it beside pg, with a database.
type keeper struct {
	dir, node string
	env       []string
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{dir: t.TempDir(), node: storetest.Node(t)}
	for _, name := range []string{"keeper.mjs", "prices.mjs"} {
		text, err := os.ReadFile(filepath.Join(nodeExample, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(k.dir, name), text, 0o600))
	}
	require.NoError(t, os.Symlink(filepath.Join(storetest.NodePackage(t, "node-pg"), "node_modules"), filepath.Join(k.dir, "node_modules")))
	read := `import pg from "pg"
const c = new pg.Client({connectionString: process.env.DATABASE_URL})
await c.connect()
for (const r of (await c.query("SELECT id, value, token FROM prices")).rows) console.log(r.id, r.value, r.token)
await c.end()`
	require.NoError(t, os.WriteFile(filepath.Join(k.dir, "read.mjs"), []byte(read), 0o600))
	db := storetest.StartPostgres(t)
	k.env = append(os.Environ(), "DATABASE_URL="+db.URL("admin", "postgres"), "LOCKKEEPER_URL=file://"+filepath.Join(t.TempDir(), "locks"))
	return k
}

func (k *keeper) command(t *testing.T, env, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = k.dir, append(k.env[:len(k.env):len(k.env)], env)
	return cmd
}

// write has a keeper with this token write a price, and returns its status.
func (k *keeper) write(t *testing.T, token, value string) (status int, out string) {
	t.Helper()
	cmd := k.command(t, "LOCKKEEPER_TOKEN="+token, k.node, "keeper.mjs")
	cmd.Stdin = strings.NewReader(value + "\n")
	text, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), string(text)
	}
	require.NoError(t, err)
	return 0, string(text)
}

// row is the one price that there is, with its token.
func (k *keeper) row(t *testing.T) string {
	t.Helper()
	out, err := k.command(t, "", k.node, "read.mjs").CombinedOutput()
	require.NoError(t, err, string(out))
	return strings.TrimSpace(string(out))
}

// The tokens are neighbours above 2^53, which JavaScript's numbers do not distinguish.
func TestAWriteWithASmallerTokenIsRefused(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	const first, second = "9007199254740992", "9007199254740993"
	for i, step := range []struct {
		token, value string
		status       int
		row          string
	}{
		{first, "1.5", 0, "ton-usd 1.5 " + first},
		{second, "2.5", 0, "ton-usd 2.5 " + second},
		{first, "3.5", 76, "ton-usd 2.5 " + second},
		{second, "4.5", 0, "ton-usd 4.5 " + second},
		{"", "5.5", 64, "ton-usd 4.5 " + second},
		{"0", "5.5", 64, "ton-usd 4.5 " + second},
	} {
		status, out := k.write(t, step.token, step.value)
		require.Equal(t, step.status, status, "token %q: %s", step.token, out)
		if step.status == 76 || i == 5 {
			require.Equal(t, step.row, k.row(t), "token %q", step.token)
		}
	}
}

type running struct {
	*programtest.Program
	in io.Writer
}

func (k *keeper) run(t *testing.T) *running {
	t.Helper()
	// A ttl so long that nothing but the token can stop the first keeper in time.
	cmd := k.command(t, "", programtest.Lockkeeper(t), "run", "prices", "--ttl", "10m", "-q", "--", k.node, "keeper.mjs")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	p := programtest.Start(t, cmd)
	t.Cleanup(func() { _ = in.Close(); p.Exits(t) })
	return &running{p, in}
}

// says gives the keeper a price and returns what it says of it.
func (r *running) says(t *testing.T, value string) string {
	t.Helper()
	_, err := io.WriteString(r.in, value+"\n")
	require.NoError(t, err)
	return r.Next(t, ".*")[0]
}

// A keeper whose hold an operator has broken does not know of it yet, as one that was paused.
func TestAKeeperThatGoesOnAfterItsTimeDoesNotWriteOverItsSuccessor(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	first := k.run(t)
	token := regexp.MustCompile(`^1 written with token (\d+)$`).FindStringSubmatch(first.says(t, "1"))
	require.NotNil(t, token)
	require.Equal(t, "ton-usd 1 "+token[1], k.row(t))
	out, err := k.command(t, "", programtest.Lockkeeper(t), "release", "prices", "--force", "--yes", "--token", token[1]).CombinedOutput()
	require.NoError(t, err, string(out))

	second := k.run(t)
	require.Contains(t, second.says(t, "2"), "2 written")
	require.Contains(t, first.says(t, "3"), "another keeper has written ton-usd")
	require.True(t, strings.HasPrefix(k.row(t), "ton-usd 2 "), k.row(t))
}
