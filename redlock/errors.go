package redlock

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ownTimeout is err without the identity of a context's end: a node's time-out must
// not look like the end of the caller's ctx. (net's dial time-outs match it too.) And
// without the arguments that Redis quotes of a command that it does not know: whoever
// reads a lock's value can free the lock.
func ownTimeout(err error) error {
	if err == nil {
		return nil
	}
	if text, _, quotes := strings.Cut(err.Error(), ", with args beginning with"); quotes {
		return &shortened{text, err}
	}
	if refused := refusal(err); refused != nil && strings.HasPrefix(err.Error(), "NOAUTH ") {
		return &shortened{"NOAUTH: it asks for a password", err} // the rest is about the protocol
	}
	if refused := refusal(err); refused != nil && strings.HasPrefix(err.Error(), "DENIED ") {
		return &shortened{"DENIED: it is in protected mode, and takes connections from its own machine only", err}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %v", errNoAnswer, err)
	}
	return err
}

// shortened is an error of which only the beginning is shown.
type shortened struct {
	text string
	err  error
}

func (e *shortened) Error() string { return e.text }
func (e *shortened) Unwrap() error { return e.err }
