package procgroup

import (
	"os"
	"os/exec"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Group is a command and what it has started: a job object, which the system kills
// when this process dies, because its handle is closed then.
type Group struct {
	pid  int
	job  windows.Handle
	done chan struct{} // closed when the command itself has ended
	code int           // its exit status; read it after done
	sig  syscall.Signal
}

// Start starts cmd, whose files must be *os.File.
func Start(cmd *exec.Cmd, _ *Guard, _ time.Time, _ string, _ Events) (*Group, error) {
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
	g := &Group{pid: cmd.Process.Pid, job: job, done: make(chan struct{})}
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

func (g *Group) adopt() error {
	h, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(g.pid))
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	return windows.AssignProcessToJobObject(g.job, h)
}

// Signal: Ctrl-Break is the one signal that Windows sends to a process group.
func (g *Group) Signal(syscall.Signal) { g.Terminate() }

// Terminate asks the group to end.
func (g *Group) Terminate() {
	_ = windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(g.pid))
}

// Kill ends the group.
func (g *Group) Kill() { _ = windows.TerminateJobObject(g.job, failed) }

// Gone waits for the command, and kills what it has left.
func (g *Group) Gone(limit time.Duration) bool {
	if !closedWithin(g.done, limit) {
		return false
	}
	g.Kill()
	return true
}

// Interrupted: Windows does not report what has ended a process.
func (g *Group) Interrupted() (ended, alone bool) { return false, false }

// CtrlC: nor what reached it.
func (g *Group) CtrlC() bool { return false }

// HasTerminal: a console that is closed ends this process.
func HasTerminal() bool { return false }

// Quit: Windows has no SIGQUIT.
func (g *Group) Quit() bool { return false }

// QuitCallers does nothing: Windows has no SIGQUIT.
func QuitCallers() {}

// Interrupt does nothing: Ctrl-C reaches all that use the console.
func Interrupt(bool) {}

// IgnoredFromTheStart: nothing is.
func IgnoredFromTheStart(syscall.Signal) bool { return false }

// StayRunning does nothing: output stops no process.
func StayRunning() {}

// NotifySuspend does nothing: there is no such signal.
func NotifySuspend(chan<- os.Signal) {}

// Suspend does nothing.
func Suspend() {}

// Guard does nothing: the job object does its work.
type Guard struct{}

func StartGuard(string, func(format string, args ...any)) (*Guard, error) { return &Guard{}, nil }

func (*Guard) Extend(time.Time) {}

func (*Guard) Forget() {}

func (*Guard) Close() {}

func GuardMain([]string, *os.File) int { return 0 }
