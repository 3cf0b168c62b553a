package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
)

// host runs the server helpers of the tests outside a test: what fails there ends the
// run, after everything was cleaned up. It is safe for concurrent use.
type host struct {
	testing.TB // nil: what is not overridden below is not to be used

	mu       sync.Mutex // guards all below
	cleanups []func()
	failed   bool
}

// failure is what a helper panics with.
type failure struct{ error }

func (h *host) Helper()      {}
func (h *host) Name() string { return "torture" }

func (h *host) Failed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

func (h *host) fail() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = true
}

func (h *host) Cleanup(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cleanups = append(h.cleanups, f)
}

func (h *host) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func (h *host) Errorf(format string, args ...any) {
	h.fail()
	h.Logf(format, args...)
}

func (h *host) Fatal(args ...any) {
	h.fail()
	panic(failure{errors.New(fmt.Sprint(args...))})
}

func (h *host) Fatalf(format string, args ...any) { h.Fatal(fmt.Sprintf(format, args...)) }
func (h *host) Skip(args ...any)                  { h.Fatal(args...) }

// caught runs fn and turns the failure of a helper into an error.
func caught(fn func() error) (err error) {
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

// within runs fn and then the cleanups, whatever fn does.
func (h *host) within(fn func() error) error {
	defer func() {
		h.mu.Lock()
		cleanups := h.cleanups
		h.mu.Unlock()
		for _, f := range slices.Backward(cleanups) {
			f()
		}
	}()
	return caught(fn)
}
