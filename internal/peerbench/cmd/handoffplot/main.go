// Command handoffplot draws what peerbench's section waiters measured: hand-off time
// by number of waiters, as an SVG.
//
//	go run ./cmd/peerbench -run '^waiters$' -csv handoff.csv && go run ./cmd/handoffplot handoff.csv handoff.svg
package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"image/color"
	"io"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "handoffplot:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("want two arguments: the csv file that peerbench -csv wrote, and the svg file to write")
	}
	in, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer in.Close()
	panels, err := read(in)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	out, err := os.Create(args[1])
	if err != nil {
		return err
	}
	if err := render(out, panels); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// panel is one picture: where the waiters are, and a curve for each library.
type panel struct {
	title  string
	curves []*curve
}

type curve struct {
	library  string
	p50, p99 plotter.XYs
}

// The columns of the file, as peerbench writes them.
const (
	colLibrary = iota
	colWhere
	colWaiters
	colHandOffs
	colP50
	colP99
)

func read(in io.Reader) ([]*panel, error) {
	rows, err := csv.NewReader(in).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) < 2 || len(rows[0]) <= colP99 {
		return nil, errors.New("want a header and rows of library, where, waiters, hand-offs, p50, p99")
	}
	var panels []*panel
	for i, row := range rows[1:] {
		var v [3]float64
		for k, col := range []int{colWaiters, colP50, colP99} {
			if v[k], err = strconv.ParseFloat(row[col], 64); err != nil || v[k] <= 0 {
				return nil, fmt.Errorf("line %d: %q is %q, want a number above 0", i+2, rows[0][col], row[col])
			}
		}
		c := find(&panels, row[colWhere], row[colLibrary])
		c.p50 = append(c.p50, plotter.XY{X: v[0], Y: v[1]})
		c.p99 = append(c.p99, plotter.XY{X: v[0], Y: v[2]})
	}
	return panels, nil
}

func find(panels *[]*panel, title, library string) *curve {
	var p *panel
	for _, q := range *panels {
		if q.title == title {
			p = q
		}
	}
	if p == nil {
		p = &panel{title: title}
		*panels = append(*panels, p)
	}
	for _, c := range p.curves {
		if c.library == library {
			return c
		}
	}
	c := &curve{library: library}
	p.curves = append(p.curves, c)
	return c
}

// The Okabe-Ito palette, which colour-blind readers can distinguish.
var palette = []color.Color{
	color.RGBA{R: 0xd5, G: 0x5e, A: 0xff},
	color.RGBA{G: 0x72, B: 0xb2, A: 0xff},
	color.RGBA{G: 0x9e, B: 0x73, A: 0xff},
	color.RGBA{R: 0xcc, G: 0x79, B: 0xa7, A: 0xff},
	color.RGBA{R: 0xe6, G: 0x9f, A: 0xff},
	color.RGBA{R: 0x56, G: 0xb4, B: 0xe9, A: 0xff},
}

const (
	width  = 34 * vg.Centimeter
	height = 13 * vg.Centimeter
)

func render(out io.Writer, panels []*panel) error {
	row := make([]*plot.Plot, len(panels))
	low, high := limits(panels)
	for i, p := range panels {
		var err error
		if row[i], err = p.plot(); err != nil {
			return err
		}
		row[i].Y.Min, row[i].Y.Max = low, high // alike, so that the panels compare
	}
	canvas := vgsvg.New(width, height)
	dc := draw.New(canvas)
	dc.SetColor(color.White) // a page can be dark
	dc.Fill(dc.Rectangle.Path())
	tiles := draw.Tiles{Rows: 1, Cols: len(row), PadX: vg.Centimeter, PadLeft: vg.Points(8), PadRight: vg.Points(14), PadTop: vg.Points(8), PadBottom: vg.Points(8)}
	for i, c := range plot.Align([][]*plot.Plot{row}, tiles, dc)[0] {
		row[i].Draw(c)
	}
	_, err := canvas.WriteTo(out)
	return err
}

func (p *panel) plot() (*plot.Plot, error) {
	pl := plot.New()
	pl.Title.Text = "Waiters are " + p.title
	pl.X.Label.Text = "waiters"
	pl.Y.Label.Text = "hand-off in ms (line: p50, dashes: p99)"
	pl.X.Scale, pl.Y.Scale = plot.LogScale{}, plot.LogScale{}
	pl.X.Tick.Marker = plot.ConstantTicks{{Value: 1, Label: "1"}, {Value: 2, Label: "2"}, {Value: 5, Label: "5"},
		{Value: 10, Label: "10"}, {Value: 20, Label: "20"}, {Value: 50, Label: "50"}, {Value: 100, Label: "100"}}
	pl.Y.Tick.Marker = decades{}
	for _, style := range []*font.Font{&pl.Title.TextStyle.Font, &pl.X.Label.TextStyle.Font, &pl.Y.Label.TextStyle.Font,
		&pl.X.Tick.Label.Font, &pl.Y.Tick.Label.Font, &pl.Legend.TextStyle.Font} {
		style.Variant = "Sans"
	}
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = color.Gray{Y: 0xdd}
	pl.Add(grid)
	pl.Legend.Top, pl.Legend.Left = true, true
	pl.Legend.Padding = vg.Points(2)
	for i, c := range p.curves {
		colour := palette[i%len(palette)]
		line, dots, err := plotter.NewLinePoints(c.p50)
		if err != nil {
			return nil, err
		}
		line.Color, dots.Color = colour, colour
		line.Width = vg.Points(2)
		dots.Shape = draw.CircleGlyph{}
		dashes, err := plotter.NewLine(c.p99)
		if err != nil {
			return nil, err
		}
		dashes.Color = colour
		dashes.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		pl.Add(dashes, line, dots)
		pl.Legend.Add(c.library, line, dots)
	}
	pl.X.Min, pl.X.Max = 0.9, 1.1*pl.X.Max // a log scale must not begin at 0
	return pl, nil
}

// limits are the same for all panels, with room for the legend above.
func limits(panels []*panel) (low, high float64) {
	for _, p := range panels {
		for _, c := range p.curves {
			for i := range c.p50 {
				if y := c.p50[i].Y; low == 0 || y < low {
					low = y
				}
				high = max(high, c.p99[i].Y)
			}
		}
	}
	return low / 2, high * 60
}

// decades marks the powers of ten.
type decades struct{}

func (decades) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for v := 0.001; v <= high; v *= 10 {
		if v >= low {
			ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%.6g", v)})
		}
	}
	return ticks
}
