// Package logtest records what is logged, for tests.
package logtest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// Recorder keeps a line for each record, of all levels: "WARN renewal failed". Its
// zero value is ready.
type Recorder struct {
	// First is the attribute whose value begins the line, if the record has it: with
	// "node", "a:6379 WARN renewal failed".
	First string

	mu    sync.Mutex // guards lines
	lines []string
	taken int // of the lines
}

// Logger returns a logger that r records.
func (r *Recorder) Logger() *slog.Logger { return slog.New(handler{r: r}) }

// All gives every line so far.
func (r *Recorder) All() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

// Take gives the lines since it was last called. In a bubble, call synctest.Wait before
// it.
func (r *Recorder) Take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := slices.Clone(r.lines[r.taken:])
	r.taken = len(r.lines)
	return taken
}

type handler struct {
	r     *Recorder
	first string // from WithAttrs
}

func (handler) Enabled(context.Context, slog.Level) bool { return true }

func (h handler) Handle(_ context.Context, record slog.Record) error {
	first := h.first
	record.Attrs(func(a slog.Attr) bool {
		first = h.take(first, a)
		return true
	})
	line := record.Level.String() + " " + record.Message
	if first != "" {
		line = first + " " + line
	}
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	h.r.lines = append(h.r.lines, line)
	return nil
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.first = h.take(h.first, a)
	}
	return h
}

func (h handler) WithGroup(string) slog.Handler { return h }

// take gives a's value if it is the one that begins the line.
func (h handler) take(first string, a slog.Attr) string {
	if h.r.First != "" && a.Key == h.r.First {
		return a.Value.String()
	}
	return first
}
