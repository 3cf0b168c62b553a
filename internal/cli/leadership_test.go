//go:build unix

package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/programtest"
)

// leadAnswer is what lead serves.
type leadAnswer struct {
	State, Token, Leader string
	Leading              bool
	Certain              int64 `json:"certain_ms"`
}

func startLead(t *testing.T, url string, args ...string) (p *programtest.Program, address string) {
	t.Helper()
	p = start(t, url, nil, append([]string{"lead", "k", "--listen=127.0.0.1:0"}, args...)...)
	return p, strings.TrimSuffix(p.Finds(t, `serving on (\S+)\s`)[1], "/")
}

func leadStatus(t *testing.T, client *http.Client, address string) (a leadAnswer) {
	t.Helper()
	r, err := client.Get(address + "/")
	require.NoError(t, err)
	defer r.Body.Close()
	require.NoError(t, json.NewDecoder(r.Body).Decode(&a))
	return a
}

func TestLeadReportsWhoLeadsAndHandsOverInGoodOrder(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		first, at := startLead(t, url, "--ttl=20s", "--grace=1s", "--certain=1s", "--holder=first")
		first.Sees(t, "leading k in ")
		var a leadAnswer
		require.Eventually(t, func() bool {
			a = leadStatus(t, http.DefaultClient, at)
			return strings.HasPrefix(a.Leader, "first (")
		}, testTimeout, 5*time.Millisecond)
		require.True(t, a.Leading)
		require.Equal(t, shown(t, url, "k").Token, a.Token)
		require.LessOrEqual(t, a.Certain, int64(1000))

		second, at2 := startLead(t, url, "--holder=second", "--ttl=6s")
		second.Sees(t, "held by first (")
		a = leadStatus(t, http.DefaultClient, at2)
		require.False(t, a.Leading)
		require.Equal(t, "standing by", a.State)
		require.Contains(t, a.Leader, "first (")

		stream, err := http.Get(at + "/events")
		require.NoError(t, err)
		defer stream.Body.Close()
		first.Sees(t, "leading")
		require.NoError(t, first.Process.Signal(syscall.SIGTERM))
		var last string
		for lines := bufio.NewScanner(stream.Body); lines.Scan(); {
			if lines.Text() != "" {
				last = lines.Text()
			}
		}
		require.Contains(t, last, `"leading":false`, "what a stream ends with")
		require.Zero(t, first.Exits(t), &first.Out)
		second.Sees(t, "leading k in ")

		out, code := do(t, url, nil, "resign", "k", "--wait=1m")
		require.Zero(t, code, out)
		require.NoError(t, second.Process.Signal(syscall.SIGINT))
		second.Exits(t)
		require.Equal(t, syscall.SIGINT, second.ProcessState.Sys().(syscall.WaitStatus).Signal())
	})
}

func TestLeadNobodyHasToReadWhatItSays(t *testing.T) {
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	defer reader.Close()
	url := fileURL(t)
	cmd := exec.Command(programtest.Lockkeeper(t), "lead", "k", "--listen=127.0.0.1:0", "--ttl=20s")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LOCKKEEPER_URL=" + url}
	cmd.Stderr = writer
	holder := start(t, url, nil, "run", "k", "--", "sleep", "1000")
	holder.Sees(t, "holding k")
	p := programtest.Start(t, cmd)
	require.NoError(t, writer.Close())
	lines := bufio.NewScanner(reader)
	for lines.Scan() && !strings.Contains(lines.Text(), "standing by") {
	}
	require.NoError(t, reader.Close())
	require.NoError(t, holder.Process.Signal(syscall.SIGTERM))
	holder.Exits(t)
	require.Eventually(t, func() bool { return shown(t, url, "k").Holder != "" }, testTimeout, 5*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM)) // it says that its term ends, too
	require.Zero(t, p.Exits(t), cmd.ProcessState)
}

func TestLeadOnASocketThatItsUserAloneReaches(t *testing.T) {
	dir, err := os.MkdirTemp("", "lead-") // t.TempDir can be too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path, url := filepath.Join(dir, "s"), fileURL(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	p := start(t, url, nil, "lead", "k", "--listen=unix:"+path)
	p.Sees(t, "leading k")
	require.True(t, leadStatus(t, client, "http://any.name").Leading)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	out, code := do(t, url, nil, "lead", "other", "--listen=unix:"+path)
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "another process serves on it")

	require.NoError(t, p.Process.Kill())
	<-p.Done()
	require.FileExists(t, path)
	p = start(t, url, nil, "lead", "another", "--listen=unix:"+path)
	p.Sees(t, "leading another")
	require.True(t, leadStatus(t, client, "http://any.name").Leading, "a socket that nobody serves is replaced")
	out, code = do(t, url, nil, "run", "k", "--once", "--", "true")
	require.Equal(t, exitHeld, code, "the one that was killed is held until its lease ends: %s", out)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Zero(t, p.Exits(t), &p.Out)
	require.NoFileExists(t, path)

	require.NoError(t, os.WriteFile(path, []byte("kept"), 0o600))
	out, code = do(t, url, nil, "lead", "k", "--listen=unix:"+path)
	require.Equal(t, exitFailed, code, out)
	text, _ := os.ReadFile(path)
	require.Equal(t, "kept", string(text))
}

func TestASocketThatEndsLeavesAnothersInItsPlace(t *testing.T) {
	dir, err := os.MkdirTemp("", "lead-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	first, err := listenSocket(path)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	second, err := listenSocket(path)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, second.Close())
	require.NoFileExists(t, path)
}

func TestLeadRefusesWhatOtherMachinesReachAndOtherMistakes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen=0.0.0.0:0"}, "other machines reach"},
		{[]string{"--listen=:4040"}, "other machines reach"},
		{[]string{"--listen=[::]:4040"}, "other machines reach"},
		{[]string{"--listen=10.0.0.7:4040"}, "other machines reach"},
		{[]string{"--listen=[::ffff:10.0.0.7]:4040"}, "other machines reach"},
		{[]string{"--listen=example.com:4040"}, "want an address or localhost"},
		{[]string{"--listen=127.0.0.1"}, "want host:port"},
		{[]string{"--listen=127.0.0.1:http"}, "want host:port"},
		{[]string{"--listen=127.0.0.1:70000"}, "want host:port"},
		{[]string{"--listen=unix:"}, "path of a socket"},
		{[]string{"--listen=unix:/" + strings.Repeat("x", 100)}, "path of a socket"},
		{[]string{"--grace=30s"}, "--grace is 30s, want more than 0 and less than the ttl (30s)"},
		{[]string{"--certain=31s"}, "--certain is 31s"},
		{[]string{"--certain=0"}, "--certain is 0s"},
		{[]string{"--allow-host=http://h"}, "--allow-host"},
		{[]string{"--holder="}, "--holder"},
		{[]string{"more"}, "want: lockkeeper lead KEY"},
	} {
		out, code := said(t, append([]string{"lead", "k", "--url=memory:"}, c.args...)...)
		require.Equal(t, exitUsage, code, "%s: %s", c.args, out)
		require.Contains(t, out, c.want, c.args)
	}
	url := fileURL(t)
	p := start(t, url, nil, "lead", "k", "--listen=0.0.0.0:0", "--allow-remote")
	p.Sees(t, "leading k")
}

func TestLeadAnswersBeforeItsStoreDoes(t *testing.T) {
	p := start(t, "", []string{"REDIS_NODES=127.0.0.1:1"}, "lead", "k", "--listen=127.0.0.1:0")
	p.Sees(t, "waiting for the store")
	at := p.Finds(t, `serving on (\S+)\s`)[1]
	r, err := http.Get(at + "readyz")
	require.NoError(t, err)
	_ = r.Body.Close()
	require.Equal(t, 503, r.StatusCode)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Zero(t, p.Exits(t), &p.Out)
}
