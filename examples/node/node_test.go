//go:build unix

// Package node tests a program for Node that leads by what lockkeeper lead reports.
package node

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// testTimeout is for what has to happen, on however busy a machine.
const testTimeout = 2 * time.Minute

var lockkeeper string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "lockkeeper-node")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		lockkeeper = filepath.Join(dir, "lockkeeper")
		build := exec.Command("go", "build", "-o", lockkeeper, "../../cmd/lockkeeper")
		build.Env = append(os.Environ(), "GOWORK=") // the command is a module of its own
		if out, err := build.CombinedOutput(); err != nil {
			panic(string(out))
		}
		return m.Run()
	}())
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

type process struct {
	*exec.Cmd
	out  output
	done chan struct{}
}

func start(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.Env = append(os.Environ(), env...)
	p.Stdout, p.Stderr = &p.out, &p.out
	require.NoError(t, p.Start())
	go func() { defer close(p.done); _ = p.Wait() }()
	t.Cleanup(func() { _ = p.Process.Kill(); <-p.done })
	return p
}

func (p *process) sees(t *testing.T, pattern string) []string {
	t.Helper()
	var found []string
	require.Eventually(t, func() bool {
		found = regexp.MustCompile(pattern).FindStringSubmatch(p.out.String())
		return found != nil
	}, testTimeout, 5*time.Millisecond, "never said %s: %s", pattern, &p.out)
	return found
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, p.Process.Signal(s))
}

func (p *process) exits(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(testTimeout):
		require.Fail(t, "it did not end", p.out.String())
	}
	return p.ProcessState.ExitCode()
}

// pair is one copy of the program, with the lockkeeper beside it.
type pair struct{ lead, keeper *process }

func startPair(t *testing.T, store []string, listen, log string) pair {
	t.Helper()
	lead := start(t, store, lockkeeper, "lead", "prices", "--listen", listen, "--ttl=10s", "--grace=3s", "--certain=2s")
	address := lead.sees(t, `serving on (\S+)`)[1]
	return pair{lead, start(t, nil, "node", "keeper.mjs", address, log)}
}

// terms are the tokens in the log, one after another; each was of one process, and over before
// the next began.
func terms(log string) (all []uint64, err error) {
	text, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	of := map[string]string{}
	for line := range strings.Lines(string(text)) {
		field := strings.Fields(line)
		if len(field) != 2 {
			return nil, fmt.Errorf("the log has the line %q", line)
		}
		token, err := strconv.ParseUint(field[0], 10, 64)
		if err != nil {
			return nil, err
		}
		if pid, ok := of[field[0]]; ok && pid != field[1] {
			return nil, fmt.Errorf("two processes led by token %d", token)
		}
		of[field[0]] = field[1]
		switch {
		case len(all) == 0 || token > all[len(all)-1]:
			all = append(all, token)
		case token < all[len(all)-1]:
			return nil, fmt.Errorf("a write with token %d came after one with %d", token, all[len(all)-1])
		}
	}
	return all, nil
}

func TestANodeProgramStopsBeforeAnotherLeads(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		if os.Getenv(redistest.RequireEnv) == "1" {
			t.Fatal("node is not installed, and " + redistest.RequireEnv + " is 1: run internal/scripts/install-servers.sh")
		}
		t.Skip("node is not installed: run internal/scripts/install-servers.sh")
	}
	stores := map[string]func(t *testing.T) []string{
		"Files": func(t *testing.T) []string { return []string{"LOCKKEEPER_URL=file://" + t.TempDir()} },
		"Redis": func(t *testing.T) []string {
			return []string{"LOCKKEEPER_URL=redlock://" + redistest.Start(t).Addr() + "?restart-guard=off"}
		},
	}
	// What becomes of the lockkeeper beside the program that leads, or of the program.
	faults := map[string]func(t *testing.T, p pair){
		"TheSidecarIsTerminated": func(t *testing.T, p pair) {
			p.lead.signal(t, syscall.SIGTERM)
			require.Zero(t, p.lead.exits(t), &p.lead.out)
		},
		"TheSidecarIsKilled":  func(t *testing.T, p pair) { p.lead.signal(t, syscall.SIGKILL) },
		"TheSidecarIsStopped": func(t *testing.T, p pair) { p.lead.signal(t, syscall.SIGSTOP) },
		"TheProgramIsTerminated": func(t *testing.T, p pair) {
			p.keeper.signal(t, syscall.SIGTERM)
			require.Zero(t, p.keeper.exits(t), &p.keeper.out)
		},
	}
	for store, open := range stores {
		for fault, happens := range faults {
			t.Run(store+"/"+fault, func(t *testing.T) {
				t.Parallel()
				store, log := open(t), filepath.Join(t.TempDir(), "log")
				dir, err := os.MkdirTemp("", "lead-") // t.TempDir can be too long for a socket
				require.NoError(t, err)
				t.Cleanup(func() { _ = os.RemoveAll(dir) })
				first := startPair(t, store, "unix:"+filepath.Join(dir, "lead"), log)
				first.keeper.sees(t, `leading with token \d+`)
				second := startPair(t, store, "127.0.0.1:0", log)
				second.lead.sees(t, "standing by")

				happens(t, first)
				second.keeper.sees(t, `leading with token \d+`)
				first.keeper.sees(t, `the term with token \d+ is over`)
				require.Eventually(t, func() bool {
					all, err := terms(log)
					return err != nil || len(all) == 2
				}, testTimeout, 5*time.Millisecond)

				second.keeper.signal(t, syscall.SIGTERM)
				require.Zero(t, second.keeper.exits(t), &second.keeper.out)
				all, err := terms(log)
				require.NoError(t, err)
				require.Len(t, all, 2)
			})
		}
	}
}
