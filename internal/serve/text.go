package serve

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/plain"
)

// name is a name in a page, apart from the direction of the text around it.
func name(s string) template.HTML {
	return template.HTML("<bdi>" + template.HTMLEscapeString(plain.Printable(s)) + "</bdi>")
}

// ago is a duration as people read it, in its two largest units.
func ago(d time.Duration) string {
	days := int(d / (24 * time.Hour))
	hours := int(d/time.Hour) % 24
	minutes := int(d/time.Minute) % 60
	switch {
	case days > 0:
		return fmt.Sprintf("%d d %d h", days, hours)
	case hours > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%d min %d s", minutes, int(d/time.Second)%60)
	}
	return fmt.Sprintf("%d s", int(d/time.Second))
}

// left is how long a hold has unless renewed.
func left(d time.Duration) string {
	switch {
	case d < 0:
		return "for ever"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Truncate(100*time.Millisecond).Seconds())
	}
	return ago(d)
}

// latencyText is how long a node took to answer.
func latencyText(d time.Duration) string {
	switch {
	case d <= 0:
		return "–"
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// clock is a time of the day where this process runs.
func clock(t time.Time) string { return t.Format("15:04:05") }

// tokenText is a fencing token; 0 is that the store can't tell.
func tokenText(token uint64) string {
	if token == 0 {
		return "not known"
	}
	return strconv.FormatUint(token, 10)
}

// label is the kind of an event, or a state, in words.
func label(kind string) string { return strings.ReplaceAll(kind, "_", " ") }

// holdName is a letter for each of several values of a key.
func holdName(term int) string {
	if term < 1 {
		return "–"
	}
	return string(rune('A' + (term-1)%26))
}
