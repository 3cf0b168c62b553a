package cli

import (
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

func TestRunABackgroundCommandThatReadsGoesOnWhenItIsBroughtBack(t *testing.T) {
	s := bash(t)
	s.types(t, "lockkeeper run k -- cat &\n")
	s.Sees(t, "the command waits for the terminal")
	s.types(t, "fg\n")
	s.foreground(t, "cat")
	s.echoes(t, "hello")
	s.types(t, "\x04")
	s.status(t, "0")
}

func TestRunACommandReadsFromTheTerminalThoughLockkeepersInputIsAPipe(t *testing.T) {
	s := bash(t)
	s.types(t, "echo x | lockkeeper run k -- sh -c 'read a </dev/tty; echo got $a'\n")
	s.Sees(t, "holding k")
	s.types(t, "foo\n")
	s.Sees(t, "got foo\r\n")
	s.status(t, "0")
}

// A shell's rule: what is around it ends if and only if the command died of SIGINT.
func TestRunCtrlCEndsTheCallerIfTheCommandDiedOfIt(t *testing.T) {
	for _, shell := range []string{"sh", "bash"} {
		for command, reads := range map[string]bool{"cat": true, "sleep 1000": false} {
			s := bash(t)
			s.types(t, shell+" -c 'lockkeeper run k -- "+command+"; echo ne''xt'\n")
			s.Sees(t, "holding k")
			if reads {
				s.echoes(t, "hello")
			} else {
				s.startsBelow(t, "sleep")
			}
			s.types(t, "\x03")
			s.Sees(t, "$ ")
			s.status(t, "130")
			require.NotContains(t, s.Out.String(), "next\r\n")
		}
	}
}

// bash ignores SIGQUIT; sh and make end by it, as beside any other command.
func TestRunCtrlBackslashEndsTheCallerIfTheCommandDiedOfIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "Makefile")
	require.NoError(t, os.WriteFile(file, []byte("all:\n\t-@lockkeeper run k -- cat\n\t@echo ne''xt\n"), 0o600))
	for _, caller := range []string{"sh -c 'lockkeeper run k -- cat; echo ne''xt'", "make -f " + file} {
		s := bash(t)
		if _, err := exec.LookPath(strings.Fields(caller)[0]); err != nil {
			continue
		}
		s.types(t, "ulimit -c 0; "+caller+"\n")
		s.Sees(t, "holding k")
		s.echoes(t, "hello")
		s.types(t, "\x1c")
		s.Sees(t, "$ ")
		s.types(t, "echo en''ded\n")
		s.Sees(t, "ended\r\n")
		require.NotContains(t, s.Out.String(), "next\r\n", caller)
	}
}

func TestRunRestartEndsByCtrlBackslashThatTheCommandAloneGot(t *testing.T) {
	s := bash(t)
	s.types(t, "ulimit -c 0; lockkeeper run k --restart -- cat\n")
	s.Sees(t, "holding k")
	s.echoes(t, "hello")
	s.types(t, "\x1c")
	s.Sees(t, "$ ")
	s.status(t, "131")
}

func TestRunCtrlCEndsALoopOfAnInteractiveShell(t *testing.T) {
	for _, command := range []string{"cat", "sleep 1000"} {
		s := bash(t)
		s.types(t, "for i in 1 2 3; do lockkeeper run k -- "+command+"; done\n")
		s.Sees(t, "holding k")
		s.startsBelow(t, strings.Fields(command)[0])
		if command == "cat" {
			s.echoes(t, "hello")
		}
		s.types(t, "\x03")
		s.Sees(t, "$ ")
		s.status(t, "130")
		require.Equal(t, 1, strings.Count(s.Out.String(), "holding k"))
	}
}

// readLoop reads in a process of its own: a shell's read may wait for a line before it sees a
// signal that has come.
const readLoop = "while a=$(head -n1); do echo got $a; done"

// The other half of the rule. dash ends by itself.
func TestRunCtrlCLetsTheScriptGoOnIfTheCommandEndedInGoodOrder(t *testing.T) {
	for _, loop := range []string{"while :; do sleep 0.01; done", readLoop} {
		s := bash(t)
		file := filepath.Join(t.TempDir(), "graceful")
		require.NoError(t, os.WriteFile(file, []byte("trap 'echo bye; exit 3' INT; echo ready; "+loop), 0o600))
		s.types(t, "bash -c 'lockkeeper run k -- sh "+file+"; echo next $?'\n")
		s.Sees(t, "ready\r\n")
		if loop == readLoop {
			s.types(t, "x\n")
			s.Sees(t, "got x")
			s.asleep(t, "head") // a signal that comes before it is started reaches the shell alone, which waits for it
		}
		s.types(t, "\x03")
		s.Sees(t, "bye\r\n")
		s.Sees(t, "next 3\r\n")
	}
}

func TestRunRestartEndsByCtrlCThoughTheCommandEndsInGoodOrder(t *testing.T) {
	for _, loop := range []string{"while :; do sleep 0.01; done", readLoop} {
		s := bash(t)
		file := filepath.Join(t.TempDir(), "graceful")
		require.NoError(t, os.WriteFile(file, []byte("trap 'echo bye; exit 0' INT; echo ready; "+loop), 0o600))
		s.types(t, "lockkeeper run k --restart --restart-delay=1ms -- sh "+file+"\n")
		s.Sees(t, "ready\r\n")
		if loop == readLoop {
			s.types(t, "x\n")
			s.Sees(t, "got x")
			s.asleep(t, "head")
		}
		s.types(t, "\x03")
		s.Sees(t, "bye\r\n")
		s.Sees(t, "$ ")
		s.status(t, "0")
		require.Equal(t, 1, strings.Count(s.Out.String(), "holding k"))
	}
}

func TestRunCtrlZSuspendsAndFgGoesOn(t *testing.T) {
	for _, around := range []string{"lockkeeper run k --ttl=1m -- cat", "bash -c 'lockkeeper run k --ttl=1m -- cat; echo ne''xt'", "lockkeeper run a --ttl=1m -- lockkeeper run k --ttl=1m -- cat"} {
		s := bash(t)
		s.types(t, around+"\n")
		s.Sees(t, "holding k")
		s.foreground(t, "cat")
		s.echoes(t, "hello")
		s.types(t, "\x1a")
		s.Sees(t, "nothing renews k")
		s.Sees(t, "Stopped")
		s.types(t, "fg\n")
		s.foreground(t, "cat")
		s.echoes(t, "again")
		s.types(t, "\x04")
		s.Sees(t, "$ ")
		s.status(t, "0")
	}
}

func TestRunCtrlZAndBgForACommandThatDoesNotRead(t *testing.T) {
	s := bash(t)
	// One that sleeps shorter than it takes to look through /proc would hardly be seen there.
	s.types(t, "lockkeeper run k --ttl=1m -- sh -c 'while [ ! -e $HOME/go ]; do sleep 1; done; echo do''ne'\n")
	s.Sees(t, "holding k")
	s.startsBelow(t, "sleep")
	s.types(t, "\x1a")
	s.Sees(t, "Stopped")
	s.types(t, "bg; touch ~/go\n")
	s.Sees(t, "done\r\n")
}

func TestRunCtrlZSuspendsOneThatStandsByOrPauses(t *testing.T) {
	s := bash(t)
	s.types(t, "lockkeeper run k -q -- sleep 1000 &\n")
	s.startsBelow(t, "sleep")
	s.types(t, "lockkeeper run k -- true\n")
	s.Sees(t, "standing by")
	s.types(t, "\x1a")
	s.Sees(t, "Stopped")
	s.types(t, "fg\n")
	s.Sees(t, "standing by")
	s.types(t, "\x03")
	s.status(t, "130")
	s.types(t, "lockkeeper run other --restart --restart-delay=1h -- true\n") // it was caught before
	s.Sees(t, "campaigning again")
	s.types(t, "\x1a")
	s.Sees(t, "Stopped")
	s.types(t, "fg\n")
	s.foreground(t, "lockkeeper")
	s.types(t, "\x03")
	s.status(t, "130")
}

// One that is suspended for too long has lost the lock, and must not go on.
func TestRunASuspendedCommandDoesNotOutliveTheLease(t *testing.T) {
	s := bash(t)
	s.types(t, "lockkeeper run k --ttl=6s -- cat\n")
	s.Sees(t, "holding k")
	s.echoes(t, "hello")
	s.types(t, "\x1a")
	s.Sees(t, "Stopped")
	require.Eventually(t, func() bool {
		for _, pid := range sessionOf(s.Process.Pid) {
			comm, _ := os.ReadFile("/proc/" + itoa(pid) + "/comm")
			if st, ok := statOf(pid); ok && string(comm) == "cat\n" && st.state != "Z" {
				return false
			}
		}
		return true
	}, testTimeout, 10*time.Millisecond)
	s.types(t, "fg\n")
	s.Sees(t, "lease lost")
	s.status(t, "76")
}

// STOP, wait, CONT: the shell has taken the terminal meanwhile, and keeps it.
func TestRunALockkeeperThatWasPausedLeavesTheTerminalToTheShell(t *testing.T) {
	s := bash(t)
	s.types(t, "lockkeeper run k --ttl=6s -- cat\n")
	s.Sees(t, "holding k")
	s.echoes(t, "hello")
	s.types(t, "")
	var keeper int
	require.Eventually(t, func() bool {
		keeper = s.find("lockkeeper")
		return keeper != 0
	}, testTimeout, 5*time.Millisecond)
	require.NoError(t, syscall.Kill(keeper, syscall.SIGSTOP))
	s.Sees(t, "Stopped")
	require.Eventually(t, func() bool { return s.find("cat") == 0 }, testTimeout, 10*time.Millisecond)
	require.NoError(t, syscall.Kill(keeper, syscall.SIGCONT))
	s.Sees(t, "lease lost")
	s.types(t, "echo al''ive\n")
	s.Sees(t, "alive\r\n")
}

// Only who reads gets the terminal: the last of a pipeline needs it here.
func TestRunInAPipelineTheOneThatReadsGetsTheTerminal(t *testing.T) {
	s := bash(t)
	s.types(t, "lockkeeper run k -- echo to''p | sh -c 'cat; read a </dev/tty; echo got $a'\n")
	s.Sees(t, "top\r\n")
	s.types(t, "foo\n")
	s.Sees(t, "got foo\r\n")
	s.status(t, "0")
}

// Some can't ask for it: top fails if it does not have it from the start.
func TestRunACommandHasTheTerminalFromTheStartUnlessAnotherMayNeedIt(t *testing.T) {
	const has = `sh -c 'set -- $(cat /proc/$$/stat); if [ $5 = $8 ]; then echo fore''ground; else echo back''ground; fi'`
	file := filepath.Join(t.TempDir(), "script")
	require.NoError(t, os.WriteFile(file, []byte("lockkeeper run k -- "+has+"; true"), 0o600))
	s := bash(t)
	for line, want := range map[string]string{
		"lockkeeper run k -- " + has:                             "foreground",
		"sh " + file:                                             "foreground",
		"lockkeeper run k -- " + has + " | cat":                  "background",
		"echo | lockkeeper run k -- " + has:                      "background",
		"lockkeeper run k -- " + has + " 3>&1 >/dev/tty | cat":   "background",
		"( trap '' TTIN; lockkeeper run k -- " + has + " | cat)": "foreground", // nor can one that ignores this
	} {
		s.types(t, line+"\n")
		s.Sees(t, want+"\r\n")
	}
	s.types(t, "lockkeeper run k -- no-such-command; lockkeeper run k -- /dev/null\n") // has the shell it again?
	s.status(t, "126")
}

// A terminal may stop background processes that write to it: the one that renews must not be.
func TestRunLockkeeperIsNotStoppedByWhatItSays(t *testing.T) {
	s := bash(t)
	s.types(t, "stty tostop; lockkeeper run k --ttl=6s -- sh -c 'while [ ! -e $HOME/go ]; do sleep 0.01; done; echo do''ne' & sleep 8; touch ~/go\n")
	s.Sees(t, "holding k")
	s.Sees(t, "waits for the terminal")
	s.types(t, "fg\n")
	s.Sees(t, "done\r\n")
	s.status(t, "0")
}

func TestServicesAreNotStoppedByWhatTheySay(t *testing.T) {
	for _, command := range []string{"lead k", "serve"} {
		s := bash(t)
		s.types(t, "stty tostop; lockkeeper "+command+" --listen=127.0.0.1:0 &\n")
		s.Sees(t, "serving on")
		s.types(t, "kill $!; wait $!\n") // one that is stopped would stay
		s.status(t, "0")
	}
}

// GNU make waits for its commands once more in its signal handler. If the signal came after it had
// waited for one and before it took that one off its list, then it ends with status 2 and "wait: No
// child processes", also with plain commands on a busy machine. So either status is make's.
func TestRunCtrlCEndsMakeWithSeveralCommands(t *testing.T) {
	s := bash(t)
	file := filepath.Join(t.TempDir(), "Makefile")
	require.NoError(t, os.WriteFile(file, []byte("all: a b\n\t@echo ne''xt\na:\n\t@lockkeeper run a -- sleep 1000\nb:\n\t@lockkeeper run b -- sh -c 'cat </dev/tty'\n"), 0o600))
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip(err)
	}
	s.types(t, "make -j2 -f "+file+"\n")
	s.Sees(t, "holding")
	s.foreground(t, "cat")
	s.startsBelow(t, "sleep")
	s.types(t, "\x03")
	s.Sees(t, "$ ")
	s.types(t, "case $? in 130|2) echo st''opped;; *) echo st''rayed;; esac\n")
	s.Sees(t, "stopped\r\n")
	for _, program := range []string{"lockkeeper", "sleep", "cat"} { // make that ends with status 2 has not waited for all
		require.Eventually(t, func() bool { return s.find(program) == 0 }, testTimeout, 5*time.Millisecond, program)
	}
	require.NotContains(t, s.Out.String(), "next\r\n")
}

// A command that was killed leaves no terminal without echo behind.
func TestRunTheTerminalsModesAreRestoredAfterACommandThatWasKilled(t *testing.T) {
	s := bash(t)
	s.types(t, "lockkeeper run k -- sh -c 'stty -echo -icanon; kill -9 $$'\n")
	s.Sees(t, "holding k")
	s.Sees(t, "$ ")
	s.status(t, "137")
	s.types(t, "stty -a\n")
	s.Sees(t, " icanon")
	s.Sees(t, " echo ")
}

// What is first in its session has no shell that could let it go on (ssh -t, docker run -it).
func TestRunCtrlZWithoutAShellIsNothing(t *testing.T) {
	s := newSession(t, fileURL(t), programtest.Lockkeeper(t), "run", "k", "--ttl=1m", "--", "cat")
	s.Sees(t, "holding k")
	s.echoes(t, "hello")
	s.types(t, "\x1a")
	s.echoes(t, "again")
	s.types(t, "\x04")
	require.Zero(t, s.Exits(t))
}

func TestRunAClosedTerminalEndsRestart(t *testing.T) {
	url := fileURL(t)
	s := newSession(t, url, programtest.Lockkeeper(t), "run", "k", "--restart", "--restart-delay=1ms", "--", "sleep", "1000")
	s.Sees(t, "holding k")
	s.startsBelow(t, "sleep")
	require.NoError(t, s.master.Close())
	s.Exits(t)

	first := start(t, url, nil, "run", "k", "--", "sleep", "1000")
	first.Sees(t, "holding k")
	s = newSession(t, url, programtest.Lockkeeper(t), "run", "k", "--restart", "--", "true")
	s.Sees(t, "standing by")
	require.NoError(t, s.master.Close())
	s.Exits(t)
}
