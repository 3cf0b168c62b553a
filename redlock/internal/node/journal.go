package node

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Journal hands what happens to the logger: one line after another, in the order in which
// it happened and with the time of that, by a goroutine of its own. A slow logger holds
// nothing up, and one that uses the locker meets no mutex.
type Journal struct {
	to    slog.Handler // nil: nothing is logged
	group *sync.WaitGroup

	mu      sync.Mutex // guards all below; not held while writing
	lines   []slog.Record
	writing bool
}

// NewJournal makes one whose goroutine is of the group.
func NewJournal(to *slog.Logger, group *sync.WaitGroup) *Journal {
	j := &Journal{group: group}
	if h := to.Handler(); h != slog.DiscardHandler {
		j.to = h
	}
	return j
}

// Add writes a line. Its caller is counted in the group, and may hold any mutex.
func (j *Journal) Add(level slog.Level, msg string, args ...any) {
	if j.to == nil {
		return
	}
	line := slog.NewRecord(time.Now(), level, msg, 0)
	line.Add(args...)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
	if !j.writing {
		j.writing = true
		j.group.Go(j.write)
	}
}

func (j *Journal) write() {
	for {
		j.mu.Lock()
		lines := j.lines
		j.lines, j.writing = nil, len(lines) > 0
		j.mu.Unlock()
		if len(lines) == 0 {
			return
		}
		for _, line := range lines {
			if ctx := context.Background(); j.to.Enabled(ctx, line.Level) {
				_ = j.to.Handle(ctx, line) // there is nowhere else to report it
			}
		}
	}
}
