package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// screen draws over a terminal, and gives it back as it was.
type screen struct {
	w     io.Writer
	on    bool
	shown string
}

// The alternate screen, without cursor, and without wrapping of long lines.
const (
	screenOn  = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	screenOff = "\x1b[?7h\x1b[?25h\x1b[?1049l"
)

func (s *screen) enter() error {
	s.on, s.shown = true, ""
	_, err := io.WriteString(s.w, screenOn)
	return err
}

func (s *screen) leave() {
	if s.on {
		s.on = false
		_, _ = io.WriteString(s.w, screenOff)
	}
}

// draw shows the lines in place of those before, in one write and without clearing
// first, so that nothing flickers.
func (s *screen) draw(lines []string) error {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line)
		b.WriteString("\x1b[K")
	}
	b.WriteString("\x1b[J\x1b[H")
	if b.String() == s.shown {
		return nil
	}
	s.shown = b.String()
	_, err := io.WriteString(s.w, s.shown)
	return err
}

// frame is the screen's lines: no more than height, none wider than width. What does
// not fit is counted.
func (w *watcher) frame(now time.Time, width, height int) []string {
	width-- // a line that ends at the edge is treated differently by terminals
	s := &w.state
	lines := []string{w.title(now, width)}
	if s.err != nil {
		lines = append(lines, w.a.paint(bad, cut("no answer, what follows is old: "+printable(outage(s.err)), width)))
	}
	if s.partial != nil && s.err == nil {
		lines = append(lines, w.a.paint(warn, cut("some locks can't be read: "+printable(outage(s.partial)), width)))
	}
	if nodes := w.nodeLines(width); len(nodes) > 0 && len(nodes)+8 <= height {
		lines = append(append(lines, ""), nodes...)
	}
	left := height - len(lines)
	recent := min(len(w.recent), 5) + 2 // rows that events are to have, with their heading
	if left < recent+4 {
		recent = 0
	}
	holds := s.sorted()
	lines = append(lines, w.lockLines(now, holds, width, left-recent)...)
	if room := height - len(lines) - 2; room > 0 && len(w.recent) > 0 {
		lines = append(lines, "", "EVENTS")
		lines = append(lines, w.eventLines(width, room)...)
	}
	return lines[:min(len(lines), max(height, 1))]
}

func (w *watcher) title(now time.Time, width int) string {
	s := &w.state
	var parts []string
	switch n := len(s.holds); {
	case !s.listed:
		parts = append(parts, "asking the store")
	case n == 1:
		parts = append(parts, "1 lock held")
	default:
		parts = append(parts, fmt.Sprintf("%d locks held", n))
	}
	if w.prefix != "" {
		parts[0] += " under " + printable(w.prefix)
	}
	if s.checked && len(s.nodes) > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d nodes vote, %d needed", s.health.Voting, len(s.nodes), s.health.Quorum))
	}
	text := cut("lockkeeper: "+strings.Join(parts, "; "), width)
	clock := now.Format("15:04:05")
	if pad := width - columns(text) - len(clock); pad >= 2 {
		return text + strings.Repeat(" ", pad) + clock
	}
	return text
}

func (w *watcher) nodeLines(width int) []string {
	if len(w.state.nodes) == 0 {
		return nil
	}
	t := table{colours: map[int]string{}}
	t.add("NODE", "VOTES", "LATENCY", "WHY NOT")
	for i, n := range w.state.nodes {
		votes, latency := "yes", "-"
		t.colours[i+1] = good
		if !n.Votes {
			votes, t.colours[i+1] = "no", bad
		}
		if n.Latency() > 0 {
			latency = short(n.Latency())
		}
		t.add(n.Name, votes, latency, n.Reason)
	}
	return t.lines(w.a, width)
}

// lockLines takes up to room lines, the empty one before them included.
func (w *watcher) lockLines(now time.Time, holds []hold, width, room int) []string {
	lines := []string{""}
	if len(holds) == 0 {
		if w.state.listed {
			lines = append(lines, cut(noneHeld(w.prefix), width))
		}
		return lines
	}
	shown := max(0, room-2) // the empty line and the heading
	if shown < len(holds) {
		shown = max(0, shown-1) // and how many more there are
	}
	shown = min(shown, len(holds))
	named := slices.ContainsFunc(holds, func(h hold) bool { return asText(h.Reading) != unknown })
	t := table{tails: map[int]string{}}
	for i, h := range append([]hold{{}}, holds[:shown]...) {
		left := h.left(now)
		cells := 12
		if width < 100 {
			cells = 5
		}
		text, colour := bar(left, h.full, cells)
		row, more := []string{"KEY", "HOLDER", "TOKEN", "LEFT"}, []string{"HELD FOR", "WAITING"}
		as := "AS"
		if i > 0 {
			row = []string{h.Name(), h.Holder, readingToken(h.Reading), text + " " + steady(left)}
			more = []string{steadyFor(h.heldFor(now)), waitingText(h.Reading)}
			as = asText(h.Reading)
			t.tails[i] = colour
		}
		if width >= 60 {
			row = slices.Insert(row, 3, more...)
		}
		if named {
			row = slices.Insert(row, 1, as)
		}
		t.add(row...)
	}
	if shown > 0 {
		lines = append(lines, t.lines(w.a, width)...)
	}
	if more := len(holds) - shown; more > 0 {
		lines = append(lines, cut(fmt.Sprintf("... and %d more", more), width))
	}
	return lines
}

// steady is a time left that does not change its width with each digit.
func steady(left time.Duration) string {
	if left < 0 || left >= time.Minute {
		return leftText(left)
	}
	return fmt.Sprintf("%4.1fs", left.Seconds())
}

// steadyFor is for how long a lock has been held, in whole seconds.
func steadyFor(d time.Duration, atLeast bool) string {
	text := longText(d.Truncate(time.Second))
	if atLeast {
		return "> " + text
	}
	return text
}

// bar is how much is left of the longest time left that was seen, in so many cells. A
// holder that renews at half time stays above half.
func bar(left, full time.Duration, cells int) (text, colour string) {
	if left < 0 {
		return strings.Repeat("█", cells), ""
	}
	eighths := 0
	if full > 0 {
		eighths = int(float64(left) / float64(full) * float64(cells*8))
	}
	eighths = min(max(eighths, 0), cells*8)
	text = strings.Repeat("█", eighths/8)
	if part := eighths % 8; part > 0 {
		text += string([]rune(" ▏▎▍▌▋▊▉")[part])
	}
	text += strings.Repeat("░", cells-columns(text))
	switch {
	case eighths < cells*8/5:
		return text, bad
	case eighths < cells*8*2/5:
		return text, warn
	}
	return text, good
}

// eventLines are the latest, newest first.
func (w *watcher) eventLines(width, room int) []string {
	t := table{colours: map[int]string{}}
	for i := range min(room, len(w.recent)) {
		e := w.recent[len(w.recent)-1-i]
		t.add(e.Time.Format("15:04:05"), strings.ReplaceAll(e.Kind, "_", " "), e.subject(), e.detail())
		t.colours[i] = e.colour()
	}
	return t.lines(w.a, width)
}
