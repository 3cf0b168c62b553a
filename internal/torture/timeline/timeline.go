// Package timeline draws a history as a page for a browser: time runs to the right, in
// strips one below the other; each node, client and key has a row.
package timeline

import (
	"bufio"
	"cmp"
	"fmt"
	"html"
	"io"
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/internal/torture/history"
)

const (
	strip  = 10 * time.Second // in a strip of the whole
	width  = 1500             // px of a strip
	left   = 150              // px for the names of rows
	row    = 16               // px
	closer = 3                // so many violations are drawn closely
)

// window is a part of the run that gets a strip.
type window struct {
	history.Span
	title string
}

// Draw writes the page: each violation closely, and the strips of 10s around it, or
// all strips.
func Draw(w io.Writer, h *history.History, head string, violations []history.Violation, all bool) error {
	out := bufio.NewWriter(w)
	d := drawing{out: out, h: h, violations: violations}
	d.keys, d.leases = h.LeasesByKey()
	_, d.ops = h.OpsByKey()
	d.printf(`<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>torture, seed %d</title>
<style>body{font:13px sans-serif;margin:1em}svg{display:block;margin:4px 0 14px;background:#fff}text{font:11px sans-serif}
pre{white-space:pre-wrap;background:#fee;padding:6px}.k{display:inline-block;width:12px;height:12px;margin:0 4px 0 12px;vertical-align:middle}</style>
<h1>Torture, seed %d</h1><p>%s</p>`, h.Seed, h.Seed, html.EscapeString(head))
	d.legend()
	for i, v := range violations {
		if i == 50 {
			d.printf("<p>and %d more</p>", len(violations)-i)
			break
		}
		d.printf("<pre>VIOLATION %d, %s into the run: %s</pre>", i+1, d.since(v.At), html.EscapeString(v.String()))
	}
	for _, win := range d.windows(all) {
		d.strip(win)
	}
	d.printf("</html>\n")
	return out.Flush()
}

type drawing struct {
	out        *bufio.Writer
	h          *history.History
	violations []history.Violation

	keys   []string
	leases map[string][]history.Lease
	ops    map[string][]history.Op
}

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }

// since is a time as seconds into the run.
func (d *drawing) since(at int64) string { return fmt.Sprintf("%.6fs", float64(at-d.h.From)/1e9) }

func (d *drawing) windows(all bool) (wins []window) {
	shown := map[int64]bool{}
	add := func(n int64) {
		from := d.h.From + n*int64(strip)
		if n >= 0 && from < d.h.To && !shown[n] {
			shown[n] = true
			wins = append(wins, window{history.Span{From: from, To: from + int64(strip)}, ""})
		}
	}
	for _, v := range d.violations {
		if n := (v.At - d.h.From) / int64(strip); v.At != 0 && !all {
			add(n - 1)
			add(n)
			add(n + 1)
		}
	}
	if all {
		for n := range (d.h.To-d.h.From)/int64(strip) + 1 {
			add(n)
		}
	}
	slices.SortFunc(wins, func(a, b window) int { return cmp.Compare(a.From, b.From) })
	var close []window
	for i, v := range d.violations {
		if i == closer {
			break
		}
		for _, wide := range []time.Duration{2 * time.Second, 100 * time.Millisecond, 5 * time.Millisecond} {
			if v.At != 0 {
				close = append(close, window{history.Span{From: v.At - int64(wide/2), To: v.At + int64(wide/2)},
					fmt.Sprintf("violation %d, %v around it", i+1, wide)})
			}
		}
	}
	return append(close, wins...)
}

// colour of a client.
func colour(client int) string {
	return fmt.Sprintf("hsl(%d,65%%,%d%%)", client*137%360, 50+client%3*8)
}

// shade of a fault.
func shade(f history.Fault) string {
	switch f.Impair {
	case history.OneNode:
		if f.Kind == "" {
			return "#ddc" // it sits out its guard time
		}
		return "#633"
	case history.Process:
		return "#333"
	case history.AllPaths:
		return "#c63"
	case history.OnePath:
		return "#fb8"
	}
	return "#06c"
}

func (d *drawing) legend() {
	d.printf("<p>Leases by client:")
	for c := range d.h.Clients {
		d.printf(`<span class="k" style="background:%s"></span>%d`, colour(c), c)
	}
	d.printf(`. A lease is drawn from when it was got until its release began or its validity ended; the thin line before it is the attempt.
Ticks in a key's row: <b style="color:#d00">operations refused as late</b>.<br>Faults:`)
	for _, f := range []struct {
		history.Fault
		what string
	}{
		{history.Fault{Impair: history.OneNode, Kind: "x"}, "node killed, stopped, full or silent"},
		{history.Fault{Impair: history.OneNode}, "node sits out its guard time"},
		{history.Fault{Impair: history.Process}, "client killed or stopped"},
		{history.Fault{Impair: history.AllPaths}, "cut off from all"},
		{history.Fault{Impair: history.OnePath}, "one way cut, delayed or silent"},
		{history.Fault{}, "in an instant"},
	} {
		d.printf(`<span class="k" style="background:%s"></span>%s`, shade(f.Fault), f.what)
	}
	d.printf(". Point at anything to read what it is.</p>\n")
}

// strip draws one window.
func (d *drawing) strip(win window) {
	rows := d.h.Nodes + d.h.Clients + len(d.keys)
	height := (rows + 2) * row
	scale := float64(width-left) / float64(win.To-win.From)
	x := func(at int64) float64 { return left + float64(min(max(at, win.From), win.To)-win.From)*scale }
	bar := func(y int, from, to int64, tall float64, fill, title string) {
		if to < win.From || from > win.To {
			return
		}
		d.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s</title></rect>`+"\n",
			x(from), float64(y)+(row-tall)/2, max(x(to)-x(from), 1.5), tall, fill, html.EscapeString(title))
	}
	name := func(i int, text string) int {
		y := (i + 1) * row
		d.printf(`<text x="2" y="%d">%s</text><line x1="%d" x2="%d" y1="%d" y2="%d" stroke="#eee"/>`+"\n", y+12, text, left, width, y+row, y+row)
		return y
	}
	if win.title != "" {
		d.printf("<p><b>%s</b></p>", win.title)
	}
	d.printf(`<svg width="%d" height="%d">`+"\n", width, height)
	for i := range int64(11) {
		at := win.From + (win.To-win.From)*i/10
		d.printf(`<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#ddd"/><text x="%.1f" y="11">%s</text>`+"\n", x(at), x(at), row, height, x(at)+2, d.since(at))
	}

	for n := range d.h.Nodes {
		y := name(n, fmt.Sprintf("node %d", n))
		for _, f := range d.h.Faults {
			if f.Client == -1 && (f.Node == n || f.Node == -1) {
				bar(y, f.From, f.To, 11, shade(f), d.describe(f))
			}
		}
	}
	for c := range d.h.Clients {
		y := name(d.h.Nodes+c, fmt.Sprintf("client %d", c))
		for _, f := range d.h.Faults {
			if f.Client == c {
				tall := 12.0
				if f.Impair == history.OnePath {
					tall = 5
				}
				bar(y, f.From, f.To, tall, shade(f), d.describe(f))
			}
		}
	}
	for i, key := range d.keys {
		y := name(d.h.Nodes+d.h.Clients+i, html.EscapeString(key))
		leases := d.leases[key]
		for j, l := range leases {
			if l.End() < win.From || l.Asked > win.To {
				continue
			}
			tall, at := 12.0, y
			if j > 0 && leases[j-1].End() > l.Got || j+1 < len(leases) && leases[j+1].Got < l.End() {
				tall, at = 6, y-3+j%2*6 // side by side, so that both are seen
			}
			bar(at, l.Asked, l.Got, 1.5, colour(l.Client), "")
			bar(at, l.Got, l.End(), tall, colour(l.Client), fmt.Sprintf("client %d.%d, token %d, %s to %s (%v)", l.Client, l.Run, l.Token,
				d.since(l.Got), d.since(l.End()), time.Duration(l.End()-l.Got)))
		}
		for _, o := range d.ops[key] {
			if !o.OK {
				bar(y, o.Applied, o.Applied, row, "#d00", o.String())
			}
		}
	}
	for i, v := range d.violations {
		if v.At >= win.From && v.At <= win.To {
			d.printf(`<line x1="%.1f" x2="%.1f" y1="0" y2="%d" stroke="#f00" stroke-width="1.5"><title>violation %d: %s</title></line>`+"\n",
				x(v.At), x(v.At), height, i+1, html.EscapeString(v.Rule))
		}
	}
	d.printf("</svg>\n")
}

func (d *drawing) describe(f history.Fault) string {
	kind := f.Kind
	if kind == "" {
		kind = "sits out its guard time"
	}
	text := fmt.Sprintf("%s, %s to %s (%v)", kind, d.since(f.From), d.since(f.To), f.Length())
	if f.Node >= 0 {
		text += fmt.Sprintf(", node %d", f.Node)
	}
	if f.Note != "" {
		text += ": " + f.Note
	}
	return text
}
