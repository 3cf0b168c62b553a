// Package nodeerr says what the errors of a node mean: of its server, of the connection
// to it, and of their absence.
package nodeerr

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

var (
	// ErrReply: what a server sent does not have the shape of an answer.
	ErrReply = errors.New("unexpected reply")
	// ErrNoAnswer: there was none in time.
	ErrNoAnswer = errors.New("no answer")
	// ErrConnecting: there is no connection yet.
	ErrConnecting = errors.New("not connected yet")
	// ErrClosed: the locker was closed, and its connections with it.
	ErrClosed = errors.New("closed")
)

// Refusal is a server's own error; nil if err is none.
func Refusal(err error) *rueidis.RedisError {
	if err == nil {
		return nil // most often, and errors.As would make room for an answer
	}
	var refused *rueidis.RedisError
	errors.As(err, &refused)
	return refused
}

// Broken reports that err is no reply of a server: the connection has died.
func Broken(err error) bool {
	_, reply := rueidis.IsRedisErr(err)
	return err != nil && !reply
}

// Silence reports that err is a time-out: of the connection, or of a context.
func Silence(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// scriptError is what Redis 6.2 puts before an error in a script.
var scriptError = regexp.MustCompile(`^.*@user_script: ?\d+: -?`)

// Code is the first word of a server's error; "" if err is none.
func Code(err error) string {
	refused := Refusal(err)
	if refused == nil {
		return ""
	}
	text := strings.TrimPrefix(refused.Error(), "-")
	if loc := scriptError.FindStringIndex(text); loc != nil {
		text = text[loc[1]:]
	}
	code, _, _ := strings.Cut(text, " ")
	return code
}

// astray are the codes of errors by which a server says that it is the wrong one, or one
// that can't vote until it is replaced. A lack of permissions or of memory is not among
// them: it is the same on a new connection.
var astray = []string{
	"READONLY",    // a replica: it was demoted, or the address leads elsewhere now
	"MASTERDOWN",  // a replica without its primary
	"MOVED",       // a server of a Redis Cluster, of which another has the key
	"ASK",         // the same, while the key moves
	"CLUSTERDOWN", // a server of a Cluster that is not whole; another part of it may be
	"NOREPLICAS",  // a primary that was cut off from its replicas, one of which may lead
	"LOADING",     // a replica that is loading its primary's data, or a restart
	"MISCONF",     // it can't write to its disk: such a server is replaced by another
	"NOAUTH",      // it wants a password that it did not want when we connected
}

// LeadsAstray reports that a new connection may lead to a better server.
func LeadsAstray(err error) bool {
	return slices.Contains(astray, Code(err))
}

// UnknownCommand reports that the server does not know the command: an answer all the
// same.
func UnknownCommand(err error) bool {
	refused := Refusal(err)
	return refused != nil && strings.Contains(strings.ToLower(refused.Error()), "unknown command")
}

// Forbidden reports that the user lacks a permission.
func Forbidden(err error) bool {
	refused := Refusal(err)
	return refused != nil && strings.Contains(refused.Error(), "NOPERM")
}

// ForbiddenWithin reports that the user lacks a permission for what a script does: Redis
// has other words for that.
func ForbiddenWithin(err error) bool {
	refused := Refusal(err)
	return Forbidden(err) || refused != nil && (strings.Contains(refused.Error(), "user executing the script can't") ||
		strings.Contains(refused.Error(), "ACL failure in script"))
}

// Denied reports that the server refuses this user, the password or a permission: asking
// again does not mend that.
func Denied(err error) bool {
	switch Code(err) {
	case "WRONGPASS", "NOAUTH", "DENIED":
		return true
	}
	return ForbiddenWithin(err) || KeyForbidden(err)
}

// KeyForbidden reports that the user may not use a key.
func KeyForbidden(err error) bool {
	refused := Refusal(err)
	return Forbidden(err) || refused != nil && strings.Contains(refused.Error(), "No permissions to access a key")
}

// KeysRefused reports that a command was refused for one of its keys, and that nothing
// was run: a user may use some keys only, and a server of a Redis Cluster takes those of
// one slot.
func KeysRefused(err error) bool {
	refused, ok := rueidis.IsRedisErr(err)
	return ok && (strings.HasPrefix(refused.Error(), "NOPERM") || strings.HasPrefix(refused.Error(), "CROSSSLOT"))
}

// Shown is err as callers may see it: without the identity of a context's end, since a
// node's time-out must not look like the end of the caller's ctx. (net's dial time-outs
// match it too.) And without the arguments that Redis quotes of a command that it does
// not know: anyone who reads a lock's value can free the lock.
func Shown(err error) error {
	if err == nil {
		return nil
	}
	if text, _, quotes := strings.Cut(err.Error(), ", with args beginning with"); quotes {
		return &reworded{text, err}
	}
	if Refusal(err) != nil && strings.HasPrefix(err.Error(), "NOAUTH ") {
		return &reworded{"NOAUTH: it asks for a password", err} // the rest is about the protocol
	}
	if Refusal(err) != nil && strings.HasPrefix(err.Error(), "DENIED ") {
		return &reworded{"DENIED: it is in protected mode, and takes connections from its own machine only", err}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %v", ErrNoAnswer, err)
	}
	return err
}

// Explain puts before a node's error what it means for an operator. timeout is how long
// an answer was waited for.
func Explain(err error, timeout time.Duration) error {
	switch {
	case Silence(err): // the connection was cut for it
		return fmt.Errorf("%w within %v: it hangs, or the network does", ErrNoAnswer, timeout)
	case errors.Is(err, ErrNoAnswer):
		return fmt.Errorf("%w: it hangs, or the network does", err)
	case Refusal(err) == nil:
		return err
	}
	code, said := Code(err), Refusal(err).Error()
	for _, m := range meanings {
		switch {
		case m.code != code && !(strings.Contains(m.code, " ") && strings.Contains(said, m.code)):
		case m.code == "NOAUTH", m.code == "DENIED": // what follows is about the protocol, or long
			return &reworded{m.text + " (" + m.code + ")", err}
		default:
			return fmt.Errorf("%s: %w", m.text, err)
		}
	}
	return fmt.Errorf("answers, but refuses: %w", err)
}

// meanings of the codes of servers' errors. Inside a script Redis 6.2 puts words of
// its own before them.
var meanings = []struct{ code, text string }{
	{"NOAUTH", "asks for a password"},
	{"WRONGPASS", "refuses the user or the password"},
	{"NOPERM", "the user lacks a permission"},
	{"run this command", "the user lacks a permission"}, // how a script is refused
	{"CLUSTERDOWN", "answers, but refuses writes: cluster mode is on and the cluster is not formed or not whole"},
	{"READONLY", "answers, but refuses writes: it is a read-only replica"},
	{"OOM", "answers, but refuses writes: its memory is full"},
	{"MISCONF", "answers, but refuses writes: it can't save to disk"},
	{"NOREPLICAS", "answers, but refuses writes: too few replicas are in sync"},
	{"LOADING", "is still loading its data"},
	{"MASTERDOWN", "answers, but refuses: it is a replica without its primary"},
	{"MOVED", "answers, but has some of the keys only: it is one server of a Redis Cluster (write cluster=true once, for the whole Cluster as one vote)"},
	{"ASK", "answers, but has some of the keys only: it is one server of a Redis Cluster (write cluster=true once, for the whole Cluster as one vote)"},
	{"max number of clients", "has no room for another connection (see maxclients)"},
	{"DENIED", "is in protected mode: without a password it takes connections from its own machine only"},
}

// reworded is an error in other words.
type reworded struct {
	text string
	err  error
}

func (e *reworded) Error() string { return e.text }
func (e *reworded) Unwrap() error { return e.err }
