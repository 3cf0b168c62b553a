package storetest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
)

// Host runs the server helpers of the tests outside a test: what fails there ends the
// run, after everything was cleaned up. It is safe for concurrent use, and its zero value
// ready.
type Host struct {
	testing.TB // nil: what is not overridden below is not to be used

	mu       sync.Mutex // guards all below
	cleanups []func()
	failed   bool
}

// failure is what a helper panics with.
type failure struct{ error }

// Helper is of testing.TB, as all that follow.
func (h *Host) Helper()      {}
func (h *Host) Name() string { return "no test" }

func (h *Host) Failed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

func (h *Host) fail() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = true
}

func (h *Host) Cleanup(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cleanups = append(h.cleanups, f)
}

func (h *Host) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func (h *Host) Errorf(format string, args ...any) {
	h.fail()
	h.Logf(format, args...)
}

func (h *Host) Fatal(args ...any) {
	h.fail()
	panic(failure{errors.New(fmt.Sprint(args...))})
}

func (h *Host) Fatalf(format string, args ...any) { h.Fatal(fmt.Sprintf(format, args...)) }
func (h *Host) Skip(args ...any)                  { h.Fatal(args...) }

// Caught runs fn and turns the failure of a helper into an error.
func Caught(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(failure)
			if !ok {
				panic(r)
			}
			err = f
		}
	}()
	return fn()
}

// Within runs fn and then the cleanups, whatever fn does.
func (h *Host) Within(fn func() error) error {
	defer func() {
		h.mu.Lock()
		cleanups := h.cleanups
		h.mu.Unlock()
		for _, f := range slices.Backward(cleanups) {
			f()
		}
	}()
	return Caught(fn)
}
