package cli

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/procgroup"
	"github.com/tonsurance/lockkeeper/lock"
)

// Exit statuses. Those of sysexits.h, so that they stay clear of the small numbers
// that commands use themselves and of what shells use from 126 on.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 64 // EX_USAGE
	exitUnavailable = 69 // EX_UNAVAILABLE: the store can't decide, or refuses
	exitHeld        = 75 // EX_TEMPFAIL: another holds it, try later
	exitLost        = 76 // the lease was lost, and the command ended for it
	exitNoExec      = 126
	exitNotFound    = 127
	exitSignal      = 128 // plus the signal's number
)

const exitHelp = `Exit status:
  0      done
  1      failed
  64     usage: a bad flag, key, ttl or URL; nothing was sent
  69     the store can't decide: no quorum, connection refused; or it refuses:
         no permission
  75     held by another
  128+n  signal n ended it (130: Ctrl-C)
`

// ExitStatus is the annotation with the exit statuses that a command has of its own.
const ExitStatus = "exit status"

// exitStatuses puts them under the command's help.
func exitStatuses(c *cobra.Command, text string) {
	c.SetUsageTemplate(narrow(c.UsageTemplate()) + "\n" + text)
	c.Annotations = map[string]string{ExitStatus: text}
}

// narrow is a usage template whose flags fit a terminal of 80 columns, as all else in the
// help does.
func narrow(template string) string {
	template = strings.ReplaceAll(template, ".FlagUsages", ".FlagUsagesWrapped 80")
	return strings.ReplaceAll(template, `Use "{{.CommandPath}} [command] --help" for more information about a command.`, "See {{.CommandPath}} COMMAND --help.")
}

// status is an error that says with what the program ends. With a nil err it ends
// without a word.
type status struct {
	code int
	err  error
}

func (s *status) Error() string {
	if s.err == nil {
		return fmt.Sprintf("exit status %d", s.code)
	}
	return s.err.Error()
}

func (s *status) Unwrap() error { return s.err }

func usage(format string, args ...any) error {
	return &status{exitUsage, fmt.Errorf(format, args...)}
}

// codeOf is the status for an error.
func codeOf(err error) int {
	var s *status
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &s):
		return s.code
	case errors.Is(err, lock.ErrInvalid):
		return exitUsage
	case errors.Is(err, lock.ErrLost):
		return exitLost
	case errors.Is(err, lock.ErrUnavailable), errors.Is(err, lock.ErrRefused):
		return exitUnavailable
	case errors.Is(err, lock.ErrHeld):
		return exitHeld
	}
	var sig signalled
	if errors.As(err, &sig) {
		return exitSignal + int(sig.Signal)
	}
	return exitFailed
}

// signalled is why a context ended.
type signalled struct{ syscall.Signal }

func (s signalled) Error() string { return "stopped by a signal: " + s.String() }

// interruption is the status of a command that SIGINT has ended; alone: which did not reach
// this process's group.
type interruption struct {
	*status
	alone bool
}

func (i *interruption) Unwrap() error { return i.status }

// quit is the status of a command that SIGQUIT has ended, and not this process's group.
type quit struct{ *status }

func (q *quit) Unwrap() error { return q.status }

// endBy ends this process by SIGINT if that has ended what it did, because a shell looks
// at that: only then Ctrl-C ends the script or the loop around this program, too. Ctrl-\ ends
// those around it that do not ignore it, whatever this program ends with.
func endBy(err error) {
	var i *interruption
	var q *quit
	var sig signalled
	switch {
	case errors.As(err, &q):
		procgroup.QuitCallers()
	case errors.As(err, &i):
		procgroup.Interrupt(i.alone)
	case errors.As(err, &sig) && sig.Signal == syscall.SIGINT:
		procgroup.Interrupt(false)
	}
}
