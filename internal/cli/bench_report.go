package cli

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// samples are one operation's.
type samples struct {
	took    []time.Duration
	failed  int
	reasons []reason // each text once
}

type reason struct {
	err   error
	count int
}

func (s *samples) add(d time.Duration) { s.took = append(s.took, d) }

// keptReasons bounds what a long run with ever new texts keeps.
const keptReasons = 5

func (s *samples) fail(err error) {
	s.failed++
	for i := range s.reasons {
		if s.reasons[i].err.Error() == err.Error() {
			s.reasons[i].count++
			return
		}
	}
	if len(s.reasons) < keptReasons {
		s.reasons = append(s.reasons, reason{err, 1})
	}
}

// percentile is the smallest that so many percent of the sorted times are not above.
func percentile(sorted []time.Duration, percent float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(percent/100*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// benchReport is what --output json prints. Times are in microseconds.
type benchReport struct {
	TTLMS       int64      `json:"ttl_ms"`
	Interrupted bool       `json:"interrupted"`
	Operations  []opReport `json:"operations"`
}

type opReport struct {
	Name      string         `json:"name"`
	Count     int            `json:"count"` // that succeeded
	Failed    int            `json:"failed"`
	P50       float64        `json:"p50_us"`
	P90       float64        `json:"p90_us"`
	P99       float64        `json:"p99_us"`
	Max       float64        `json:"max_us"`
	Histogram []bucketReport `json:"histogram"`
	Errors    []errorReport  `json:"errors"`
}

type bucketReport struct {
	To    float64 `json:"to_us"` // below this, and not below the one before
	Count int     `json:"count"`
}

type errorReport struct {
	Error string `json:"error"`
	Count int    `json:"count"`
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func fromMicros(us float64) time.Duration { return time.Duration(us * 1000) }

// buckets is how many bars a histogram has. All operations have the same, so that they
// can be compared, each so much wider than the one before.
const buckets = 24

// bounds are the upper ends of the buckets.
func (b *bencher) bounds() []time.Duration {
	least, most := time.Duration(math.MaxInt64), time.Duration(0)
	for i := range b.results {
		for _, d := range b.results[i].took {
			least, most = min(least, d), max(most, d)
		}
	}
	if most == 0 {
		return nil
	}
	least = max(least, 1)
	factor := math.Pow(float64(most+1)/float64(least), 1./buckets)
	var all []time.Duration
	for i := range buckets {
		all = append(all, time.Duration(float64(least)*math.Pow(factor, float64(i+1))))
	}
	all[buckets-1] = most + 1
	return all
}

func (b *bencher) report(interrupted bool) benchReport {
	r := benchReport{TTLMS: b.ttl.Milliseconds(), Interrupted: interrupted}
	bounds := b.bounds()
	for i := range b.results {
		s := &b.results[i]
		slices.Sort(s.took)
		o := opReport{
			Name: opNames[i], Count: len(s.took), Failed: s.failed,
			P50: micros(percentile(s.took, 50)), P90: micros(percentile(s.took, 90)),
			P99: micros(percentile(s.took, 99)), Max: micros(percentile(s.took, 100)),
			Histogram: []bucketReport{}, Errors: []errorReport{},
		}
		rest := s.took
		for _, end := range bounds {
			n, _ := slices.BinarySearch(rest, end)
			o.Histogram = append(o.Histogram, bucketReport{micros(end), n})
			rest = rest[n:]
		}
		for _, why := range s.reasons {
			o.Errors = append(o.Errors, errorReport{oneLine(why.err), why.count})
		}
		r.Operations = append(r.Operations, o)
	}
	return r
}

func (b *bencher) print(r benchReport) error {
	if b.a.output == "json" {
		return b.a.printJSON(r)
	}
	var t table
	t.add("OPERATION", "TIMES", "FAILED", "P50", "P90", "P99", "MAX", "HISTOGRAM")
	for _, o := range r.Operations {
		cells := []string{o.Name, fmt.Sprint(o.Count), fmt.Sprint(o.Failed)}
		for _, us := range []float64{o.P50, o.P90, o.P99, o.Max} {
			text := "-"
			if o.Count > 0 {
				text = short(fromMicros(us))
			}
			cells = append(cells, text)
		}
		t.add(append(cells, spark(o.Histogram))...)
	}
	if err := t.print(b.a, b.a.out); err != nil {
		return err
	}
	var text strings.Builder
	if bounds := b.bounds(); bounds != nil {
		factor := float64(bounds[1]) / float64(bounds[0])
		fmt.Fprintf(&text, "\nhistogram: from %s to %s, each bar %.2g times the one before\n",
			short(time.Duration(float64(bounds[0])/factor)), short(bounds[buckets-1]), factor)
	}
	for _, o := range r.Operations {
		for _, e := range o.Errors {
			fmt.Fprintf(&text, "%s %s %d times: %s\n", b.a.paint(bad, "failed:"), o.Name, e.Count, printable(e.Error))
		}
	}
	if r.Interrupted {
		text.WriteString("interrupted: this is what was measured until then\n")
	}
	_, err := fmt.Fprint(b.a.out, text.String())
	return err
}

// spark is a histogram in one line. What is not nothing can be seen.
func spark(h []bucketReport) string {
	most := 0
	for _, bucket := range h {
		most = max(most, bucket.Count)
	}
	if most == 0 {
		return ""
	}
	levels := []rune("▁▂▃▄▅▆▇█")
	var line strings.Builder
	for _, bucket := range h {
		if bucket.Count == 0 {
			line.WriteRune(' ')
			continue
		}
		line.WriteRune(levels[(bucket.Count*len(levels)-1)/most])
	}
	return line.String()
}
