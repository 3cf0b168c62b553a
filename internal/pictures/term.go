package main

import (
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/keepalive"
)

// term draws a leader's term on the defaults of keepalive: renewed once, and then lost because
// the store is away.
func term() string {
	const (
		ttl         = 30 * time.Second
		left, scale = 150, 9.2 // pixels, and pixels for each second
		top         = 76
	)
	opts, err := (*keepalive.Options)(nil).WithDefaults(ttl)
	if err != nil {
		panic(err) // nil options are right for every ttl
	}
	renewed := opts.Interval // the second request, which succeeds
	expiry := renewed + ttl
	ends := expiry - opts.Margin
	at := func(d time.Duration) int { return left + int(d.Seconds()*scale) }
	c := newCanvas(760, 344, "A leader's term, from its first request to the next leader",
		fmt.Sprintf("With a ttl of %v the lease is renewed after %v, which moves its expiry to %v. From then on the store is away: renewals fail. At %v, a margin of %v before the expiry, the function's context ends. Only after the expiry can another copy lead.", ttl, renewed, expiry, ends, opts.Margin))
	c.text(24, 32, "start", "h", "A leader's term, and how it is lost")
	c.text(24, 52, "start", "m", fmt.Sprintf("ttl %v s, renewed each %v s, margin %v s: the defaults", ttl.Seconds(), opts.Interval.Seconds(), opts.Margin.Seconds()))

	// The moments that matter run through all rows.
	for _, m := range []struct {
		at     time.Duration
		colour string
	}{{ends, "y"}, {expiry, "r"}} {
		c.line(at(m.at), top, at(m.at), 290, m.colour+"l dash")
	}
	row := func(n int, title string) int {
		y := top + 12 + 48*n
		c.text(24, y+19, "start", "", title)
		return y
	}
	bar := func(y int, from, to time.Duration, colour, text string) {
		c.box(at(from), y, at(to)-at(from), 28, colour+"s", colour+"l")
		c.text((at(from)+at(to))/2, y+19, "middle", "", text)
	}

	y := row(0, "requests")
	for _, r := range []struct {
		at   time.Duration
		text string
	}{{0, "acquire"}, {renewed, "renew"}} {
		c.raw(`<circle class="gf" cx="%d" cy="%d" r="5"/>`, at(r.at), y+14)
		c.text(at(r.at)+11, y+19, "start", "", r.text)
	}
	for i, d := range []time.Duration{2 * renewed, 2*renewed + 3*time.Second, 2*renewed + 6*time.Second, 2*renewed + 9*time.Second} {
		x := at(d)
		c.raw(`<path class="rl" d="M%d %dl9 9m0 -9l-9 9"/>`, x-4, y+10)
		if i == 0 {
			c.text(x, y-2, "start", "m", "no answer")
		}
	}

	y = row(1, "the lease")
	bar(y, 0, ttl, "n", "")
	bar(y, renewed, expiry, "a", "ttl, from before its request")
	c.text((at(0)+at(renewed))/2, y+19, "middle", "m", "first")

	y = row(2, "the function")
	bar(y, 0, ends, "g", "runs under its context")
	bar(y, ends, expiry, "y", "")
	c.text(at(expiry)+10, y+19, "start", "m", "margin: time to stop")

	y = row(3, "another copy")
	bar(y, 0, expiry, "n", "stands by")
	bar(y, expiry, 62*time.Second, "g", "leads, larger token")

	// The axis.
	c.line(at(0), 290, at(62*time.Second), 290, "nl")
	for d := time.Duration(0); d <= 60*time.Second; d += renewed {
		c.line(at(d), 286, at(d), 294, "tl")
		c.text(at(d), 310, "middle", "m", fmt.Sprintf("%v s", d.Seconds()))
	}
	c.text(at(ends)-6, 330, "end", "", "the context ends: stop now")
	c.text(at(expiry)+6, 330, "start", "", "expiry: another may lead")
	return c.String()
}
