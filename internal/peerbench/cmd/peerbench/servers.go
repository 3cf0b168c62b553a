package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
)

// host runs the server helpers of the tests outside a test: what fails there ends
// the run, after the servers have ended.
type host struct {
	testing.TB // nil: what is not overridden below is not to be used
	cleanups   []func()
	failed     bool
}

type failure struct{ error }

func (h *host) Helper()          {}
func (h *host) Name() string     { return "peerbench" }
func (h *host) Failed() bool     { return h.failed }
func (h *host) Cleanup(f func()) { h.cleanups = append(h.cleanups, f) }

func (h *host) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func (h *host) Errorf(format string, args ...any) {
	h.failed = true
	h.Logf(format, args...)
}

func (h *host) Fatal(args ...any) {
	h.failed = true
	panic(failure{errors.New(fmt.Sprint(args...))})
}

func (h *host) Fatalf(format string, args ...any) { h.Fatal(fmt.Sprintf(format, args...)) }
func (h *host) Skip(args ...any)                  { h.Fatal(args...) }

// within runs fn and then the cleanups, whatever fn does.
func (h *host) within(fn func() error) (err error) {
	defer func() {
		for _, f := range slices.Backward(h.cleanups) {
			f()
		}
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
