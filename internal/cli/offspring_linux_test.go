package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/procgroup"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"golang.org/x/sys/unix"
)

// scattered is a command that ignores SIGTERM, with a child in a group of its own, as
// timeout makes it, and one in a session of its own. It writes the three pids, that of
// the session last.
func scattered(file string) []string {
	const loop = `trap "" TERM; echo $$ >>$0; while :; do sleep 1; done`
	return []string{"--", "sh", "-c", `trap "" TERM; echo $$ >>$0
		timeout -s WINCH 1000 sh -c '` + loop + `' $0 &
		while [ $(wc -l <$0) -lt 2 ]; do sleep 0.01; done
		setsid sh -c '` + loop + `' $0 & while :; do sleep 1; done`, file}
}

func TestRunALostLeaseEndsWhatHasLeftTheGroupButNotTheSession(t *testing.T) {
	url, file := fileURL(t), filepath.Join(t.TempDir(), "pids")
	p := start(t, url, nil, args([]string{"run", "k", "--ttl=6s"}, scattered(file))...)
	all := pids(t, file, 3)
	_, code := do(t, url, nil, "release", "k", "--force", "--yes")
	require.Zero(t, code)
	require.Equal(t, exitLost, p.Exits(t), &p.Out)
	requireDead(t, all[:2])
	require.True(t, alive(all[2]), "a session of its own was ended")
}

func TestRunAnOrphanOfAnotherGroupIsEndedBeforeTheLockIsFreed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	p := start(t, fileURL(t), nil, "run", "k", "--ttl=6s", "--", "sh", "-c",
		`(timeout -s WINCH 1000 sh -c 'trap "" TERM; echo $$ >`+file+`; while :; do sleep 1; done' &); while [ ! -s `+file+` ]; do sleep 0.01; done; exit 5`)
	all := pids(t, file, 1)
	require.Equal(t, 5, p.Exits(t), &p.Out)
	requireDead(t, all)
}

func TestRunAKilledLockkeeperTakesTheOtherGroupsAlong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	p := start(t, fileURL(t), nil, args([]string{"run", "k"}, scattered(file))...)
	all := pids(t, file, 3)
	guard := guardOf(t, p)
	reads := func() uint64 { // of the guard, which looks around once a second
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", guard))
		require.NoError(t, err)
		var n, chars uint64
		_, err = fmt.Sscanf(string(text), "rchar: %d\nwchar: %d\nsyscr: %d", &chars, &n, &n)
		require.NoError(t, err)
		return chars
	}
	for range 3 { // one may have begun before, and one may not have ended
		seen := reads()
		require.Eventually(t, func() bool { return reads() > seen+1000 }, testTimeout, 5*time.Millisecond)
	}
	require.NoError(t, p.Process.Kill())
	require.Eventually(t, func() bool { return !alive(all[0]) && !alive(all[1]) }, testTimeout, 5*time.Millisecond)
}

func TestRunOrphansThatEndedDoNotPileUp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	p := start(t, fileURL(t), nil, "run", "k", "--", "sh", "-c",
		`for i in 1 2 3 4; do (sh -c 'echo $$ >>`+file+`' &); done; while :; do sleep 1; done`)
	all := pids(t, file, 4)
	require.Eventually(t, func() bool {
		children := childrenOf(p.Process.Pid)
		return !slices.ContainsFunc(all, func(pid int) bool { return slices.Contains(children, pid) })
	}, testTimeout, 5*time.Millisecond)
}

func guardOf(t *testing.T, p *programtest.Program) (pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, child := range childrenOf(p.Process.Pid) {
			name, _ := os.ReadFile("/proc/" + strconv.Itoa(child) + "/comm")
			if string(name) == procgroup.GuardName+"\n" {
				pid = child
			}
		}
		return pid != 0
	}, testTimeout, 5*time.Millisecond)
	return pid
}

// killall and pkill find processes by name or by arguments.
func TestRunKillingAllLockkeepersByNameSparesTheGuard(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	p := start(t, fileURL(t), nil, args([]string{"run", "k"}, family(file))...)
	pids(t, file, 2)
	text, err := os.ReadFile("/proc/" + strconv.Itoa(guardOf(t, p)) + "/cmdline")
	require.NoError(t, err)
	require.NotContains(t, string(text), "lockkeeper")
}

func TestRunAKilledGuardIsReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	p := start(t, fileURL(t), nil, args([]string{"run", "k"}, family(file))...)
	all := pids(t, file, 2)
	first := guardOf(t, p)
	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
	require.Eventually(t, func() bool { return guardOf(t, p) != first }, testTimeout, 5*time.Millisecond)
	require.NoError(t, p.Process.Kill())
	require.Eventually(t, func() bool { return !alive(all[0]) && !alive(all[1]) }, testTimeout, 5*time.Millisecond)
}

// Otherwise the kernel would free a killed lockkeeper's files before its command is
// dead.
func TestRunTheGuardKeepsTheLockOfAKilledLockkeeperUntilItHasKilled(t *testing.T) {
	url, file := fileURL(t), filepath.Join(t.TempDir(), "pids")
	p := start(t, url, nil, args([]string{"run", "k"}, family(file))...)
	all := pids(t, file, 2)
	guard := guardOf(t, p)
	next := start(t, url, nil, "run", "k", "--", "echo", "ran")
	next.Sees(t, "standing by")

	// The kernel wakes a stopped process whose parent dies, unless it has another here.
	require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	require.NoError(t, syscall.Kill(guard, syscall.SIGSTOP))
	require.Eventually(t, func() bool { // one thread takes the signal, and others run on until then
		s, ok := statOf(guard)
		return ok && s.state == "T"
	}, testTimeout, time.Millisecond)
	require.NoError(t, p.Process.Kill())
	<-p.Done()
	require.Eventually(t, func() bool { return !alive(all[0]) }, testTimeout, 5*time.Millisecond, "the kernel kills the command")
	require.True(t, alive(all[1]))
	_, code := do(t, url, nil, "run", "k", "--once", "--", "true")
	require.Equal(t, exitHeld, code, "the command's child lives, and the lock was free")

	require.NoError(t, syscall.Kill(guard, syscall.SIGCONT))
	next.Sees(t, "ran\n")
	requireDead(t, all)
}
