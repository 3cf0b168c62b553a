// Package procgroup starts a command as a group of processes, and ends all of it: when
// it is asked to, when this process dies by whatever means, and at a given time though
// this process is paused. The last two are the guard's, a second process.
//
// It does not end what has made a session of its own (setsid, a daemon), nor what runs
// as another user; on systems other than Linux and Windows, nothing that has left the
// process group. It knows nothing of locks or command lines.
package procgroup

import (
	"fmt"
	"slices"
	"syscall"
	"time"
)

// GuardArg as its only argument makes the program a guard: its main must call
// [GuardMain] then.
const GuardArg = "__guard"

// GuardName is what the guard is called in lists of processes. With the program's own
// name, anyone who kills all of that name would kill their guards as well.
const GuardName = "lock-guard"

// Statuses of a command, as shells give them.
const (
	failed   = 1
	killedBy = 128 // plus the signal's number
)

// Done is closed when the command itself has ended; what it has started may live.
func (g *Group) Done() <-chan struct{} { return g.done }

// Pid is the command's process number, on Unix that of its process group as well.
func (g *Group) Pid() int { return g.pid }

// Code is the command's exit status, 128+n if signal n ended it. Call it after Done.
func (g *Group) Code() int { return g.code }

// closedWithin waits for ch. One that is closed already is, also if limit is 0.
func closedWithin(ch <-chan struct{}, limit time.Duration) bool {
	select {
	case <-ch:
		return true
	default:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ch:
		return true
	case <-timer.C:
		return false
	}
}

// EndedBy reports whether one of these signals has ended the command. Call it after Done.
func (g *Group) EndedBy(signals ...syscall.Signal) bool { return slices.Contains(signals, g.sig) }

// Events are what the caller says about a group that runs. Both functions are called
// before it happens, one at a time.
type Events struct {
	// Suspend: this process is about to be stopped together with the command. What it
	// returns is called when both go on.
	Suspend func() (resumed func())
	// Background: the command is stopped until it can have the terminal, which another
	// process group has.
	Background func()
	// WatchInterrupts makes CtrlC known: it costs a process while the command has the
	// terminal.
	WatchInterrupts bool
	// Nested: this process may be in a group of another one's.
	Nested bool
}

// Outcome says for people how the command has ended. Call it after Done.
func (g *Group) Outcome() string {
	if g.sig != 0 {
		return fmt.Sprintf("was ended by signal %d (%v)", int(g.sig), g.sig)
	}
	return fmt.Sprintf("ended with status %d", g.code)
}
