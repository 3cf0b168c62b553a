//go:build unix

package deploy

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// leads runs lockkeeper as a line says, until it has led and its program says that it has
// stopped, and then ends it as a supervisor does.
func leads(t *testing.T, args []string, client *http.Client, host string) {
	t.Helper()
	cmd := exec.Command(programtest.Lockkeeper(t), args...)
	cmd.Env = append(os.Environ(), "LOCKKEEPER_URL=file://"+filepath.Join(t.TempDir(), "locks"))
	p := programtest.Start(t, cmd)
	var answer struct {
		Leading bool
		Token   string
	}
	require.Eventually(t, func() bool {
		reply, err := client.Get("http://" + host + "/")
		if err != nil {
			return false // it does not listen yet
		}
		defer reply.Body.Close()
		return json.NewDecoder(reply.Body).Decode(&answer) == nil && answer.Leading
	}, programtest.Limit, 20*time.Millisecond)
	p.Signal(t, syscall.SIGTERM)
	reply, err := client.Post("http://"+host+"/stopped?token="+answer.Token, "", nil)
	require.NoError(t, err)
	require.NoError(t, reply.Body.Close())
	require.Equal(t, http.StatusAccepted, reply.StatusCode)
	require.Equal(t, 0, p.Exits(t), "%v: %s", args, &p.Out)
}

func TestTheLinesOfLeadLeadAndStopWithoutAFailure(t *testing.T) {
	t.Run("systemd", func(t *testing.T) {
		dir, err := os.MkdirTemp("", "lead") // a socket's path is short
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		u := readUnit(t, "lockkeeper-lead@.service")
		in := func(text string) string { return strings.NewReplacer("%i", "prices", "%t", dir).Replace(text) }
		require.NoError(t, os.Mkdir(filepath.Join(dir, in(u.one(t, "Service.RuntimeDirectory"))), 0o700))
		args := strings.Fields(in(u.one(t, "Service.ExecStart")))
		socket := regexp.MustCompile(`unix:(\S+)`).FindStringSubmatch(strings.Join(args, " "))
		require.NotNil(t, socket)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket[1])
		}}}
		leads(t, args[1:], client, "localhost")
	})
	t.Run("sidecar", func(t *testing.T) {
		text, err := os.ReadFile("kubernetes/sidecar.yaml")
		require.NoError(t, err)
		line := regexp.MustCompile(`(?m)^ +args: (\[lead,.*\])$`).FindSubmatch(text)
		require.NotNil(t, line)
		args := regexp.MustCompile(`[^\[\], "]+`).FindAllString(string(line[1]), -1)
		address := "127.0.0.1:" + strconv.Itoa(redistest.FreePort(t))
		require.Equal(t, "127.0.0.1:4040", args[len(args)-1])
		args[len(args)-1] = address
		leads(t, args, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, address)
	})
}
