package storetest

import (
	"context"
	"errors"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// start runs a server that has started three processes, one of them in a session of its own.
func start(t *testing.T) *Server {
	s := newServer(t, "shell")
	s.command = func() *exec.Cmd {
		return exec.Command("sh", "-c", "sleep 1000 & setsid sleep 1000 & sh -c 'sleep 1000; true' & wait")
	}
	s.ready = func(context.Context) error {
		if len(family(s.cmd.Process.Pid)) < 5 {
			return errors.New("not all of them run")
		}
		return nil
	}
	s.Restart()
	return s
}

func TestAPausedServerStandsStillWithAllThatItStarted(t *testing.T) {
	s := start(t)
	all := family(s.cmd.Process.Pid)
	require.Len(t, all, 5)
	s.Pause()
	for _, c := range family(s.cmd.Process.Pid) {
		require.Equal(t, "T", string(c.state))
	}
	s.Resume()
	require.Eventually(t, func() bool {
		for _, c := range family(s.cmd.Process.Pid) {
			if c.state == 'T' {
				return false
			}
		}
		return true
	}, upTimeout, 1e6)
}

func TestAKilledServerLeavesNoProcessBehind(t *testing.T) {
	for _, paused := range []bool{false, true} {
		s := start(t)
		all := family(s.cmd.Process.Pid)
		require.Len(t, all, 5)
		if paused {
			s.Pause()
		}
		s.Kill()
		require.False(t, s.Running())
		for _, c := range all {
			for _, now := range family(c.pid) {
				require.True(t, now.began != c.began || now.state == 'Z', "%+v is still there", now)
			}
		}
		s.Kill() // a server that does not run is left as it is
	}
}

func TestHostTurnsAFailureIntoAnErrorAfterCleaningUp(t *testing.T) {
	h := &Host{}
	var order []int
	err := h.Within(func() error {
		h.Cleanup(func() { order = append(order, 1) })
		h.Cleanup(func() { order = append(order, 2) })
		h.Fatalf("no %s", "server")
		return nil
	})
	require.EqualError(t, err, "no server")
	require.Equal(t, []int{2, 1}, order)
	require.True(t, h.Failed())
}
