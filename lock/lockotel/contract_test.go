package lockotel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/lockotel"
)

// The dashboard, the documentation and the code use the same names.

const (
	dashboardFile = "../../docker/grafana/dashboard.json"
	docsFile      = "README.md"
)

// notInDashboard are metrics that the dashboard leaves out on purpose. There are none.
var notInDashboard = []string{}

// everything is what Prometheus gets once each thing has happened.
func everything(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	var families map[string]*dto.MetricFamily
	synctest.Test(t, func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		for _, e := range []lock.Event{
			{Kind: lock.EventAttempt}, {Kind: lock.EventAttempt, Err: lock.ErrHeld}, {Kind: lock.EventWait},
			{Kind: lock.EventExtend}, {Kind: lock.EventLost, Err: lock.ErrLost}, {Kind: lock.EventRelease},
		} {
			e.Context, e.Key = t.Context(), key
			s.Event(e)
		}
		s.Request("a:1", time.Millisecond, nil)
		s.Request("a:1", time.Second, errors.New("no answer"))
		s.Refresh("a:1")
		s.Observe(memory.New())
		_, err := s.Elector(leader.New(memory.New(), key, nil))
		require.NoError(t, err)
		stop, err := s.Health(&patient{Locker: memory.New(), health: lock.Health{Quorum: 1, Nodes: []lock.NodeHealth{{Name: "a:1", Latency: time.Millisecond}}}}, 0)
		require.NoError(t, err)
		synctest.Wait()
		families = s.gather()
		require.NoError(t, stop())
	})
	return families
}

func prometheusName(m lockotel.Metric, f *dto.MetricFamily) string {
	name := strings.ReplaceAll(m.Name, ".", "_")
	if m.Unit == "s" {
		name += "_seconds"
	}
	if f.GetType() == dto.MetricType_COUNTER {
		name += "_total"
	}
	return name
}

// byName finds the family of each metric.
func byName(t *testing.T, families map[string]*dto.MetricFamily) map[string]lockotel.Metric {
	t.Helper()
	found := map[string]lockotel.Metric{}
	for _, m := range lockotel.Metrics() {
		for name, f := range families {
			if prometheusName(m, f) == name {
				found[name] = m
			}
		}
	}
	return found
}

func TestWhatIsEmittedIsWhatMetricsLists(t *testing.T) {
	families := everything(t)
	listed := byName(t, families)
	require.Len(t, listed, len(lockotel.Metrics()), "a metric that is listed and not emitted")
	for name, f := range families {
		m, ok := listed[name]
		require.True(t, ok, "%s is emitted and not listed", name)
		require.Equal(t, m.Description, f.GetHelp())
		for _, series := range f.GetMetric() {
			var labels []string
			for _, l := range series.GetLabel() {
				if l.GetName() != "lock_store" { // of each, as lock_name
					labels = append(labels, l.GetName())
				}
			}
			want := strings.Split(strings.ReplaceAll(strings.Join(m.Attributes, " "), ".", "_"), " ")
			require.ElementsMatch(t, slices.DeleteFunc(want, func(s string) bool { return s == "" }), labels, name)
		}
	}
}

// promQL are the words of the query language that the expressions use, and the
// labels that a scrape adds.
var promQL = []string{"sum", "min", "max", "by", "rate", "increase", "histogram_quantile", "le", "job", "instance", "label_values"}

var (
	quoted   = regexp.MustCompile(`"[^"]*"`)
	ranges   = regexp.MustCompile(`\[[^\]]*\]`)
	word     = regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_:]*`)
	selector = regexp.MustCompile(`([a-z_]+)=~?"([^"$]*)"`)
)

// unknown gives the words of a PromQL expression that the code does not emit, and
// the metrics that it uses.
func unknown(families map[string]*dto.MetricFamily, expr string) (bad, used []string) {
	series, labels := map[string]string{}, map[string]bool{}
	values := map[string]bool{}
	for name, f := range families {
		series[name] = name
		if f.GetType() == dto.MetricType_HISTOGRAM {
			delete(series, name)
			series[name+"_bucket"], series[name+"_count"], series[name+"_sum"] = name, name, name
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
				values[l.GetName()+"="+l.GetValue()] = true
			}
		}
	}
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		if m[2] != "" && !values[m[1]+"="+m[2]] {
			bad = append(bad, m[0])
		}
	}
	for _, w := range word.FindAllString(ranges.ReplaceAllString(quoted.ReplaceAllString(expr, ""), ""), -1) {
		family, ok := series[w]
		switch {
		case ok:
			used = append(used, family)
		case !labels[w] && !slices.Contains(promQL, w):
			bad = append(bad, w)
		}
	}
	return bad, used
}

// expressions are all of a dashboard, those of its variables included.
func expressions(t *testing.T, text []byte) []string {
	t.Helper()
	var d struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Query struct{ Query string } }
		}
	}
	require.NoError(t, json.Unmarshal(text, &d))
	var all []string
	for _, p := range d.Panels {
		require.True(t, p.Type == "row" || len(p.Targets) > 0, "%s shows nothing", p.Title)
		for _, target := range p.Targets {
			require.NotEmpty(t, target.Expr, p.Title)
			all = append(all, target.Expr)
			for _, label := range regexp.MustCompile(`{{([^}]*)}}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				require.Regexp(t, `by \([^)]*\b`+label[1]+`\b`, target.Expr, "%s has no label for its legend", p.Title)
			}
		}
	}
	for _, v := range d.Templating.List {
		all = append(all, v.Query.Query)
	}
	return all
}

func TestDashboardShowsWhatIsEmitted(t *testing.T) {
	families := everything(t)
	text, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	shown := map[string]bool{}
	all := expressions(t, text)
	require.NotEmpty(t, all)
	for _, expr := range all {
		bad, used := unknown(families, expr)
		require.Empty(t, bad, "nothing emits this, in %s", expr)
		require.NotEmpty(t, used, expr)
		for _, name := range used {
			shown[name] = true
		}
	}
	for _, name := range notInDashboard {
		require.Contains(t, families, name)
		require.False(t, shown[name], "%s is in the dashboard", name)
		shown[name] = true
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(families)), slices.Collect(maps.Keys(shown)), "emitted, and neither in the dashboard nor left out by name")
}

// The check above sees a wrong metric, label and value.
func TestUnknownNamesAreSeen(t *testing.T) {
	families := everything(t)
	for expr, want := range map[string]string{
		`rate(lock_attempts_total[1m])`:                                        "lock_attempts_total",
		`sum by (lock_result) (rate(lock_attempt_duration_seconds_count[1m]))`: "lock_result",
		`lock_attempt_duration_seconds`:                                        "lock_attempt_duration_seconds",
		`lock_leader_state{lock_leader_state="standing by"}`:                   `lock_leader_state="standing by"`,
		`lock_quorum_spare{node="a"}`:                                          `node="a"`,
	} {
		bad, _ := unknown(families, expr)
		require.Contains(t, bad, want, expr)
	}
}

func TestDocumentationNamesWhatIsEmitted(t *testing.T) {
	families := everything(t)
	text, err := os.ReadFile(docsFile)
	require.NoError(t, err)
	docs := string(text)
	kinds := map[dto.MetricType]string{dto.MetricType_HISTOGRAM: "histogram", dto.MetricType_COUNTER: "counter"}
	for name, m := range byName(t, families) {
		f := families[name]
		var attributes []string
		for _, a := range m.Attributes {
			attributes = append(attributes, "`"+a+"`")
		}
		line := regexp.MustCompile("(?m)^.*\\| `" + regexp.QuoteMeta(name) + "` \\|.*$").FindString(docs)
		require.NotEmpty(t, line, "%s is not documented", name)
		cells := strings.Split(line, "|")
		require.Equal(t, " `"+m.Name+"` ", cells[1])
		require.Contains(t, cells[3], kinds[f.GetType()])
		require.Contains(t, cells[3], ", `"+m.Unit+"`")
		require.Equal(t, strings.Join(attributes, ", "), strings.TrimSpace(cells[4]), name)
	}

	known := map[string]bool{ // of spans, what keys are mapped to, and the store's name
		"lock.attempt": true, "lock.wait": true, "lock.extend": true, "lock.release": true, "lock.hold": true,
		"lock.key": true, "lock.token": true, "lock.wait.attempts": true, "lock.name": true, "lock.store": true,
	}
	for _, m := range lockotel.Metrics() {
		known[m.Name] = true
		for _, a := range m.Attributes {
			known[a] = true
		}
	}
	for _, name := range regexp.MustCompile("`(lock\\.[a-z.]+)`").FindAllStringSubmatch(docs, -1) {
		require.True(t, known[name[1]], "nothing emits %s", name[1])
	}
	for _, expr := range regexp.MustCompile("`([^`]*\\block_[a-z_]+[^`]*)`").FindAllStringSubmatch(docs, -1) {
		bad, _ := unknown(families, expr[1])
		if _, ok := families[expr[1]]; !ok { // a histogram's own name
			require.Empty(t, bad, "nothing emits this, in %s", expr[1])
		}
	}
}

// The code of the page builds, in a package that is there for the go command only.
func TestDocumentedCodeBuilds(t *testing.T) {
	text, err := os.ReadFile(docsFile)
	require.NoError(t, err)
	m := regexp.MustCompile("(?s)<!-- body: ([^\n]+) -->\n```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.Len(t, m, 1, "the page needs <!-- body: func name() --> in one line before its Go block")
	require.Equal(t, 1, strings.Count(string(text), "```go\n"))
	const path = "github.com/tonsurance/lockkeeper/"
	code := fmt.Sprintf("package documented\n\nimport (\n\t%q\n\t%q\n\t%q\n\t%q\n\t%q\n\t%q\n)\n\n%s {\n%s}\n", "context", "log/slog",
		path+"keepalive", path+"leader", path+"redlock", path+"lock/lockotel", m[0][1], m[0][2])
	dir, err := os.Getwd()
	require.NoError(t, err)
	temp := t.TempDir()
	file, overlay := filepath.Join(temp, "documented.go"), filepath.Join(temp, "overlay.json")
	require.NoError(t, os.WriteFile(file, []byte(code), 0o600))
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(dir, "documented", "documented.go"): file}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, replace, 0o600))
	out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "./documented").CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// A program that measures all this pays little for it.
func BenchmarkEvent(b *testing.B) {
	tel, err := lockotel.New(nil)
	require.NoError(b, err)
	e := lock.Event{Kind: lock.EventExtend, Context: context.Background(), Key: fmt.Sprint(key), Duration: time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		tel.Event(e)
	}
}
