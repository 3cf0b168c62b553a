package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// event is a line that a terminal showed.
type event struct {
	at       time.Duration // since the first key was pressed; when the line ended
	terminal int
	line     string
}

const recordingHead = "# What the terminals showed, and when: seconds, terminal, line. Made by go run ./internal/pictures -record.\n"

func formatEvents(events []event) string {
	var out strings.Builder
	out.WriteString(recordingHead)
	for _, e := range events {
		fmt.Fprintf(&out, "%6.3f %d %s\n", e.at.Seconds(), e.terminal, e.line)
	}
	return out.String()
}

func parseEvents(text string) ([]event, error) {
	var events []event
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		at, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		number, shown, ok := strings.Cut(rest, " ")
		seconds, err := strconv.ParseFloat(at, 64)
		n, err2 := strconv.Atoi(number)
		if err != nil || err2 != nil || !ok || n < 1 || n > 3 {
			return nil, fmt.Errorf("%q is no line of a recording, want seconds, terminal (1 to 3), text", line)
		}
		events = append(events, event{time.Duration(seconds * float64(time.Second)).Round(time.Millisecond), n, shown})
	}
	return events, nil
}

// The measures of a terminal in the picture.
const (
	recordingWidth = 680
	rowHeight      = 19
	barHeight      = 28
	padding        = 14
	gap            = 12
	hold           = 4 * time.Second // for which the end stands still
)

// recording draws the terminals below each other. Its lines appear when they did. Where
// nothing moves, in print or for those who asked for less motion, it is the last moment.
func recording(events []event) string {
	titles := []string{"", "terminal 1", "terminal 2", "anywhere on this machine"}
	var rows [4]int
	events = slices.DeleteFunc(slices.Clone(events), func(e event) bool { return e.terminal == 3 && e.line == "$" })
	for _, e := range events {
		rows[e.terminal]++
	}
	last := events[len(events)-1].at
	total := last + hold
	height := -gap
	for n := 1; n <= 3; n++ {
		height += barHeight + rows[n]*rowHeight + padding + gap
	}
	c := newCanvas(recordingWidth, height, "Two copies of a keeper, and kill -9 for the one that leads",
		"In terminal 1 a keeper leads and updates a price every second. In terminal 2 a second copy stands by. kill -9 ends the first, and the second leads at once, with the next fencing token.")
	c.bare()
	c.style(`.f{fill:#f6f8fa;stroke:#d0d7de}.b{stroke:#d0d7de;stroke-width:1}.x{font:13px ` + mono + `;fill:#1f2328}.k{fill:#8250df;font-weight:600}.d{fill:#cf222e;font-weight:600}.l{fill:#1a7f37;font-weight:600}.s{fill:#656d76}
@media (prefers-color-scheme:dark){.f{fill:#161b22;stroke:#30363d}.b{stroke:#30363d}.x{fill:#e6edf3}.k{fill:#d2a8ff}.d{fill:#ff7b72}.l{fill:#56d364}.s{fill:#8d96a0}}`)
	var motion strings.Builder
	fmt.Fprintf(&motion, "@media (prefers-reduced-motion:no-preference){.e{animation:%.2fs step-end infinite}", total.Seconds())
	y := 0
	for n := 1; n <= 3; n++ {
		h := barHeight + rows[n]*rowHeight + padding
		c.raw(`<rect class="f" x=".5" y="%d.5" width="%d" height="%d" rx="8"/><path class="b" d="M.5 %d.5h%d"/>`, y, recordingWidth-1, h-1, y+barHeight, recordingWidth-1)
		c.raw(`<text class="m" x="14" y="%d">%s</text>`, y+19, titles[n])
		row := y + barHeight + 20
		for i, e := range events {
			if e.terminal != n {
				continue
			}
			fmt.Fprintf(&motion, "#e%d{animation-name:a%d}@keyframes a%d{0%%{opacity:0}%.2f%%{opacity:1}}", i, i, i, 100*e.at.Seconds()/total.Seconds())
			c.raw(`<text xml:space="preserve" class="x e" id="e%d" x="14" y="%d">%s</text>`, i, row, coloured(e.line))
			row += rowHeight
		}
		y += h + gap
	}
	c.style(motion.String() + "}")
	return c.String()
}

// coloured marks what a reader looks for.
func coloured(line string) string {
	command, isCommand := strings.CutPrefix(line, "$")
	switch {
	case isCommand:
		return `<tspan class="s">$</tspan>` + span("k", command)
	case strings.HasPrefix(line, "Killed"):
		return span("d", line)
	}
	when, what, ok := strings.Cut(line, " ")
	if !ok {
		return escape(line)
	}
	kind := ""
	if strings.HasPrefix(what, "leading") {
		kind = "l"
	}
	return span("s", when) + " " + span(kind, what)
}

func span(class, text string) string {
	switch {
	case text == "":
		return ""
	case class == "":
		return escape(text)
	}
	return `<tspan class="` + class + `">` + escape(text) + `</tspan>`
}
