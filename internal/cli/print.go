package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/plain"
	"golang.org/x/term"
)

// outputFlag gives a command --output.
func (a *app) outputFlag(c *cobra.Command) {
	c.Flags().StringVarP(&a.output, "output", "o", "table", "`format`: table or json")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func (a *app) checkOutput() error {
	if a.output != "table" && a.output != "json" {
		return usage("--output is %q, want table or json", a.output)
	}
	return nil
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// terminalOf is the descriptor of a terminal.
func terminalOf(stream any) (fd int, ok bool) {
	f, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}

// width is how many columns there are; 0: as many as it takes.
func (a *app) width() int {
	fd, ok := terminalOf(a.out)
	if !ok {
		return 0
	}
	if n, err := strconv.Atoi(a.getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	n, _, err := term.GetSize(fd)
	if err != nil {
		return 0
	}
	return n
}

// Colours, by what they say.
const (
	good = "32"
	bad  = "31"
	warn = "33"
)

// paint colours s on a terminal, unless NO_COLOR or TERM forbid it.
func (a *app) paint(colour, s string) string {
	if _, ok := terminalOf(a.out); !ok || colour == "" || a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// table is rows under a heading. On a narrow terminal the widest columns are cut, tokens last:
// they differ in their last digits, and are what release --token takes.
type table struct {
	rows    [][]string
	colours map[int]string // of the row with that number, its second column
	tails   map[int]string // the same of its last column
}

func (t *table) add(cells ...string) {
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	t.rows = append(t.rows, cells)
}

// printable keeps a name that somebody else chose from steering the terminal.
func printable(s string) string { return plain.Printable(s) }

const gap = 2

func (t *table) print(a *app, w io.Writer) error {
	for _, line := range t.lines(a, a.width()) {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// widths are the columns' where nothing is cut. There are rows.
func (t *table) widths() []int {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	return widths
}

// lines are the table's, none wider than width; 0: as wide as it takes.
func (t *table) lines(a *app, width int) []string {
	if len(t.rows) == 0 {
		return nil
	}
	widths := t.widths()
	fit(widths, width, slices.IndexFunc(t.rows[0], func(heading string) bool { return heading == "TOKEN" || heading == "COUNT" }))
	var lines []string
	for n, row := range t.rows {
		var line strings.Builder
		pad := 0
		for i, cell := range row {
			cell = cut(cell, widths[i])
			if cell != "" {
				line.WriteString(strings.Repeat(" ", pad))
				pad = 0
			}
			pad += widths[i] - columns(cell) + gap
			if i == 1 {
				cell = a.paint(t.colours[n], cell)
			} else if i == len(row)-1 {
				cell = a.paint(t.tails[n], cell)
			}
			line.WriteString(cell)
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}

const (
	leastWidth = 3
	partWidth  = 8 // of a name that is cut so that the column beside it can be whole
)

// fit takes from the widest column until all fit into total, and from the last one, with that
// number, when the others are narrow. -1: there is none.
func fit(widths []int, total, last int) {
	if total == 0 {
		return
	}
	for {
		sum, widest := gap*(len(widths)-1), -1
		for i, w := range widths {
			if sum += w; i != last && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if last >= 0 && (widest < 0 || widths[widest] <= partWidth) && (widest < 0 || widths[last] >= widths[widest]) {
			widest = last
		}
		if sum <= total || widths[widest] <= leastWidth {
			return
		}
		widths[widest]--
	}
}

// short is a duration as people read it.
func short(d time.Duration) string { return plain.Short(d) }
