package cli

import (
	"os"
	"os/exec"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// group is a command and what it has started: a job object, which the system kills
// when this process dies, because its handle is closed then.
type group struct {
	pid  int
	job  windows.Handle
	done chan struct{} // closed when the command itself has ended
	code int           // its exit status; read it after done
	sig  syscall.Signal
}

func startGroup(cmd *exec.Cmd, _ *guardian) (*group, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, err
	}
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{
		BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE},
	}
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil {
		_ = windows.CloseHandle(job)
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
	if err := cmd.Start(); err != nil {
		_ = windows.CloseHandle(job)
		return nil, err
	}
	g := &group{pid: cmd.Process.Pid, job: job, done: make(chan struct{})}
	if err := g.adopt(); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = windows.CloseHandle(job)
		return nil, err
	}
	go func() {
		_ = cmd.Wait()
		g.code = cmd.ProcessState.ExitCode()
		close(g.done)
	}()
	return g, nil
}

func (g *group) adopt() error {
	h, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(g.pid))
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	return windows.AssignProcessToJobObject(g.job, h)
}

// signal: Ctrl-Break is the one signal that Windows sends to a process group.
func (g *group) signal(syscall.Signal) { g.terminate() }

func (g *group) terminate() {
	_ = windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(g.pid))
}

func (g *group) kill() { _ = windows.TerminateJobObject(g.job, exitFailed) }

// gone waits for the command, and kills what it has left.
func (g *group) gone(limit time.Duration) bool {
	if !closedWithin(g.done, limit) {
		return false
	}
	g.kill()
	return true
}

const guardArg = "__guard"

// guardian: the job object does its work.
type guardian struct{}

func startGuard(string, func(format string, args ...any)) (*guardian, error) { return &guardian{}, nil }

func (*guardian) watch(*group, time.Time) {}
func (*guardian) expect(time.Time)        {}

func (*guardian) extend(time.Time) {}

func (*guardian) close() {}

func guard(*os.File) int { return exitOK }
