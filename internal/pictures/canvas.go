package main

import (
	"fmt"
	"html"
	"strings"
)

const (
	sans = `-apple-system,BlinkMacSystemFont,'Segoe UI',Helvetica,Arial,sans-serif`
	mono = `ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace`
)

// canvas is an SVG with a ground of its own, so that its text can be read wherever it stands,
// in light and dark: a page's theme and that of the system may differ.
type canvas struct {
	w, h        int
	title, desc string
	styles      strings.Builder
	body        strings.Builder
	noGround    bool
}

// The colours of GitHub's themes: t text, m muted, a, g, r, y blue, green, red, yellow for
// lines and words, and with an s their soft grounds, ns a neutral one.
const theme = `text{font:13px ` + sans + `;fill:#1f2328}.ground{fill:#fff;stroke:#d0d7de}.m{fill:#59636e}.h{font-weight:600}.c{font-family:` + mono + `;font-size:12px}
.tl{stroke:#59636e}.al{stroke:#0969da}.gl{stroke:#1a7f37}.rl{stroke:#cf222e}.yl{stroke:#9a6700}.nl{stroke:#d0d7de}.tf{fill:#59636e}.af{fill:#0969da}.gf{fill:#1a7f37}.rf{fill:#cf222e}.yf{fill:#9a6700}
.as{fill:#ddf4ff}.gs{fill:#dafbe1}.rs{fill:#ffebe9}.ys{fill:#fff8c5}.ns{fill:#f6f8fa}path,line{fill:none;stroke-width:1.5}.dash{stroke-dasharray:4 4}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117;stroke:#30363d}.m{fill:#9198a1}
.tl{stroke:#9198a1}.al{stroke:#4493f8}.gl{stroke:#3fb950}.rl{stroke:#f85149}.yl{stroke:#d29922}.nl{stroke:#3d444d}.tf{fill:#9198a1}.af{fill:#4493f8}.gf{fill:#3fb950}.rf{fill:#f85149}.yf{fill:#d29922}
.as{fill:#121d2f}.gs{fill:#12261e}.rs{fill:#2b1517}.ys{fill:#272115}.ns{fill:#161b22}}
`

func newCanvas(w, h int, title, desc string) *canvas {
	return &canvas{w: w, h: h, title: title, desc: desc}
}

// bare leaves the ground out.
func (c *canvas) bare() { c.noGround = true }

func (c *canvas) style(css string) { c.styles.WriteString(css + "\n") }

func (c *canvas) raw(format string, args ...any) { fmt.Fprintf(&c.body, format+"\n", args...) }

// text is anchored at start, middle or end; classes as theme has them.
func (c *canvas) text(x, y int, anchor, classes, text string) {
	if anchor == "start" {
		c.raw(`<text class="%s" x="%d" y="%d">%s</text>`, classes, x, y, escape(text))
		return
	}
	c.raw(`<text class="%s" x="%d" y="%d" text-anchor="%s">%s</text>`, classes, x, y, anchor, escape(text))
}

func (c *canvas) box(x, y, w, h int, fill, line string) {
	c.raw(`<rect class="%s %s" x="%d" y="%d" width="%d" height="%d" rx="6"/>`, fill, line, x, y, w, h)
}

func (c *canvas) line(x1, y1, x2, y2 int, classes string) {
	c.raw(`<line class="%s" x1="%d" y1="%d" x2="%d" y2="%d"/>`, classes, x1, y1, x2, y2)
}

// arrow has its head at the second point. colour is one letter of the theme.
func (c *canvas) arrow(x1, y1, x2, y2 int, colour, classes string) {
	c.line(x1, y1, x2, y2, colour+"l "+classes)
	// The head is a triangle, turned into the arrow's direction.
	c.raw(`<polygon class="%sf" points="0,0 -9,-4 -9,4" transform="translate(%d %d) rotate(%.1f)"/>`, colour, x2, y2, degrees(x2-x1, y2-y1))
}

// label is text on the ground, so that no line runs through it.
func (c *canvas) label(x, y int, text string) {
	w := int(6.6*float64(len([]rune(text)))) + 6
	c.raw(`<rect class="ground" style="stroke:none" x="%d" y="%d" width="%d" height="16"/>`, x-w/2, y-12, w)
	c.text(x, y, "middle", "", text)
}

func (c *canvas) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-labelledby="t d">`+"\n", c.w, c.h, c.w, c.h)
	fmt.Fprintf(&out, "<title id=\"t\">%s</title>\n<desc id=\"d\">%s</desc>\n<style>%s%s</style>\n", escape(c.title), escape(c.desc), theme, c.styles.String())
	if !c.noGround {
		fmt.Fprintf(&out, `<rect class="ground" x=".5" y=".5" width="%d" height="%d" rx="8"/>`+"\n", c.w-1, c.h-1)
	}
	out.WriteString(c.body.String())
	out.WriteString("</svg>\n")
	return out.String()
}

func escape(s string) string { return html.EscapeString(s) }
