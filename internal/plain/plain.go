// Package plain says what went wrong once, in the words of somebody at a shell, who knows
// of keys, nodes and flags, and of no package, Go name or context.
package plain

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// Error is err for people: one line, whatever is in it.
func Error(err error) string {
	var held *lock.HeldError
	switch {
	case errors.Is(err, lock.ErrLost), errors.Is(err, lock.ErrUnavailable): // a node's refusal in it is not the whole
	case errors.As(err, &held):
		return Held(held)
	}
	return Text(OneLine(err))
}

// Held is the ordinary refusal.
func Held(held *lock.HeldError) string {
	text := fmt.Sprintf("%s is held by %s", Printable(held.Key), Printable(Holder(held.Holder)))
	switch {
	case held.RetryAfter > 0 && held.Unconfirmed:
		// This store shows a dead holder only to a process that observes it for so long: one
		// that asks once and exits, over and over, would never have the key.
		return text + ", which may be dead: wait " + Short(held.RetryAfter) + " to know, as with --wait " + waitFor(held.RetryAfter)
	case held.RetryAfter > 0:
		text += ", for up to " + Short(held.RetryAfter) + " unless renewed"
	}
	return text
}

// waitFor is d as a flag takes it, in whole seconds and with one to spare.
func waitFor(d time.Duration) string {
	return (d.Truncate(time.Second) + 2*time.Second).String()
}

// undecided begins every line about a store that can't decide.
const undecided = "the store can't decide"

// libraries are the packages whose names begin errors. Such a name before a colon is cut off
// at the beginning of a part only.
const libraries = `lock|rwlock|redlock|file|memory|record|sqlite|mysql|postgres|etcd|nats|s3|kubernetes|backends|keepalive|leader`

var (
	// The way there: a package, what it was asked, and after how many attempts.
	layers = regexp.MustCompile(`(^|: |; )(?:(?:` + libraries + `): )?` +
		`(?:(?:acquire a slot of|acquire|extend|release|inspect|list|view|break|force release) "(?:[^"\\]|\\.)*"(?: \(token \d+\))?|"(?:[^"\\]|\\.)*" \(token \d+\)|(?:acquire|health|dial|list|inspect|force release|open(?: [a-z]+)?)): `)
	packages = regexp.MustCompile(`(^|[:;] |\()(?:` + libraries + `): `)
	ends     = regexp.MustCompile(`(no answer within \S+: )?(?:context deadline exceeded: )?(?:context deadline exceeded|lock: acquire timeout); the store: (context deadline exceeded)?`)
	waits    = regexp.MustCompile(`no lease within the timeout of [^,]+, after [^;]+; last (?:attempt|known): |gave up after attempt \d+ of \d+: |ended while waiting, after [^;]+; last (?:attempt|known): `)
	counts   = regexp.MustCompile(`\d+ of (\d+) nodes [a-z ]+, want (\d+): `)
	dials    = regexp.MustCompile(`dial (?:tcp|unix) \S+: (?:connect: )?`)
	units    = regexp.MustCompile(`; a number alone counts nanoseconds: write its unit, such as [\d*a-zA-Z.]+`) // flags have one
	silences = regexp.MustCompile(`(no answer within [^\s:;]+): no answer\b`)
	contexts = regexp.MustCompile(`:? ?\(?context deadline exceeded\)?`)
	options  = regexp.MustCompile(`\b(?:Acquire)?Options\.([A-Z][A-Za-z]*)`)
	capital  = regexp.MustCompile(`[A-Z]+[a-z]*`)
)

// Text takes out of a library's text what says nothing at a shell.
func Text(s string) string {
	s = waits.ReplaceAllString(s, "")
	s = ends.ReplaceAllStringFunc(s, endWords)
	s = strings.ReplaceAll(s, "lock: acquire timeout", "no answer") // net/http returns the cause of a ctx as it is
	for before := ""; before != s; {
		before, s = s, layers.ReplaceAllString(s, "$1")
	}
	for _, sentinel := range []struct{ err, says string }{
		{lock.ErrUnavailable.Error() + ": ", undecided + ": "},
		{lock.ErrUnavailable.Error(), undecided},
		{lock.ErrInvalid.Error() + ": ", ""},
		{lock.ErrRefused.Error(), "refused by the store"},
		{lock.ErrLost.Error(), "lease lost"},
		{lock.ErrClosed.Error(), "the store was closed"},
	} {
		s = strings.ReplaceAll(s, sentinel.err, sentinel.says)
	}
	s = packages.ReplaceAllString(s, "$1")
	s = counts.ReplaceAllString(s, "$2 of $1 nodes are needed: ")
	s = dials.ReplaceAllString(s, "")
	s = contexts.ReplaceAllString(s, "")
	s = Options(s)
	if first, rest, found := strings.Cut(s, undecided); found { // once is enough
		s = first + undecided + strings.ReplaceAll(rest, undecided+": ", "")
	}
	s = units.ReplaceAllString(s, "")
	s = silences.ReplaceAllString(s, "$1")
	// The last attempt's error stands beside the one that it led to.
	var parts []string
	for part := range strings.SplitSeq(s, "; ") {
		if !slices.ContainsFunc(parts, func(before string) bool { return strings.HasSuffix(before, part) }) {
			parts = append(parts, part)
		}
	}
	return strings.TrimRight(strings.Join(parts, "; "), ":; ")
}

// endWords are what is left of an attempt that its own bound ended: what the store said, or
// that it said nothing.
func endWords(s string) string {
	part := ends.FindStringSubmatch(s)
	switch {
	case part[2] == "":
		return part[1]
	case part[1] != "":
		return strings.TrimSuffix(part[1], ": ")
	}
	return "no answer"
}

// Options names an option of a library as the parameter of the store's URL.
func Options(s string) string {
	return options.ReplaceAllStringFunc(s, func(name string) string {
		_, name, _ = strings.Cut(name, ".")
		return "the store's " + strings.ToLower(strings.Join(capital.FindAllString(name, -1), "-"))
	})
}

// Holder is a holder's name for people.
func Holder(name string) string {
	if name == "" {
		return "another"
	}
	return name
}

// OneLine is err's own text in one line.
func OneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// Printable keeps a name that somebody else chose from steering a terminal.
func Printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// Visible is a line with names in it that somebody else chose: what can't be printed stands in
// Go's notation, so that it steers no terminal.
func Visible(line string) string {
	if !strings.ContainsFunc(line, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return line
	}
	var b strings.Builder
	for _, r := range line {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// Short is a duration as people read it.
func Short(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	if d < 10*time.Microsecond {
		return d.Round(10 * time.Nanosecond).String()
	}
	return d.Round(time.Microsecond).String()
}
