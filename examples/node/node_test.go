//go:build unix

// Package node tests a program for Node that leads by what lockkeeper lead reports.
package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

func TestMain(m *testing.M) { os.Exit(programtest.Main(m)) }

func start(t *testing.T, env []string, name string, args ...string) *programtest.Program {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	return programtest.Start(t, cmd)
}

// pair is one copy of the program, with the lockkeeper beside it.
type pair struct{ lead, keeper *programtest.Program }

func startPair(t *testing.T, store []string, listen, log string) pair {
	t.Helper()
	lead := start(t, store, programtest.Lockkeeper(t), "lead", "prices", "--listen", listen, "--ttl=10s", "--grace=3s", "--certain=2s")
	address := lead.Finds(t, `serving on (\S+)`)[1]
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
			p.lead.Signal(t, syscall.SIGTERM)
			require.Zero(t, p.lead.Exits(t), &p.lead.Out)
		},
		"TheSidecarIsKilled":  func(t *testing.T, p pair) { p.lead.Signal(t, syscall.SIGKILL) },
		"TheSidecarIsStopped": func(t *testing.T, p pair) { p.lead.Signal(t, syscall.SIGSTOP) },
		"TheProgramIsTerminated": func(t *testing.T, p pair) {
			p.keeper.Signal(t, syscall.SIGTERM)
			require.Zero(t, p.keeper.Exits(t), &p.keeper.Out)
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
				first.keeper.Finds(t, `leading with token \d+`)
				second := startPair(t, store, "127.0.0.1:0", log)
				second.lead.Sees(t, "standing by")

				happens(t, first)
				second.keeper.Finds(t, `leading with token \d+`)
				first.keeper.Finds(t, `the term with token \d+ is over`)
				require.Eventually(t, func() bool {
					all, err := terms(log)
					return err != nil || len(all) == 2
				}, programtest.Limit, 5*time.Millisecond)

				second.keeper.Signal(t, syscall.SIGTERM)
				require.Zero(t, second.keeper.Exits(t), &second.keeper.Out)
				all, err := terms(log)
				require.NoError(t, err)
				require.Len(t, all, 2)
			})
		}
	}
}
