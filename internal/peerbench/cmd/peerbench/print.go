package main

import (
	"fmt"
	"slices"
	"time"
)

// quantile of durations, from 0 to 1; 0 if there are none.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func ratio(a, b time.Duration) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// long prints a duration with three digits or so.
func long(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", ms(d))
	case d >= time.Millisecond || d <= -time.Millisecond:
		return fmt.Sprintf("%.2f ms", ms(d))
	default:
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	}
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// goal is what the project wants of itself, beside what was measured.
type goal struct {
	want, got string
	met       bool
}

func (b *bench) goals(goals []goal) {
	b.printf("\n| goal | measured | |\n|---|---|---|\n")
	for _, g := range goals {
		verdict := "met"
		if !g.met {
			verdict = "**missed**"
		}
		b.printf("| %s | %s | %s |\n", g.want, g.got, verdict)
	}
}
