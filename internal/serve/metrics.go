package serve

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tonsurance/lockkeeper/redlock"
)

// metrics answers in Prometheus' text format. What is not known is left out. No key and
// no holder is a label: there may be as many as they like.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	f := s.feed.frame()
	var m metricText
	m.gauge("lockkeeper_store_available", "Whether the store said who holds what when it was asked last.", yes(f.read && f.err == nil))
	m.gauge("lockkeeper_store_question_seconds", "How long the last question who holds what took.", f.took.Seconds())
	if f.read {
		m.gauge("lockkeeper_store_answered_timestamp_seconds", "When the store last said who holds what.", float64(f.answered.UnixMilli())/1000)
		m.gauge("lockkeeper_store_incomplete", "Whether some locks could not be read.", yes(f.partial != nil))
		held := map[string]int{string(redlock.StateHeld): 0}
		for _, l := range f.locks {
			held[string(l.State())]++
		}
		m.head("lockkeeper_locks", "gauge", "Names in the store that are not free, by how they stand.")
		for _, state := range slices.Sorted(maps.Keys(held)) {
			m.sample("lockkeeper_locks", float64(held[state]), "state", state)
		}
		if f.queued {
			m.gauge("lockkeeper_waiters", "Who stands in the queues of keys.", float64(f.waiting))
		}
	}
	if f.checked && f.health.Err == nil {
		m.gauge("lockkeeper_nodes", "Nodes of the store.", float64(len(f.health.Health.Nodes)))
		m.gauge("lockkeeper_nodes_voting", "Nodes that would vote.", float64(f.health.Health.Voting))
		m.gauge("lockkeeper_quorum", "Nodes that must vote for a decision.", float64(f.health.Health.Quorum))
		m.head("lockkeeper_node_votes", "gauge", "Whether a node would vote.")
		for _, n := range f.health.Health.Nodes {
			m.sample("lockkeeper_node_votes", yes(n.Votes), "node", n.Name)
		}
		m.head("lockkeeper_node_latency_seconds", "gauge", "How long a node took to answer.")
		for _, n := range f.health.Health.Nodes {
			if n.Latency() > 0 {
				m.sample("lockkeeper_node_latency_seconds", n.Latency().Seconds(), "node", n.Name)
			}
		}
	}
	m.head("lockkeeper_events_total", "counter", "What was seen to happen.")
	for _, kind := range slices.Sorted(maps.Keys(f.counts)) {
		m.sample("lockkeeper_events_total", float64(f.counts[kind]), "event", kind)
	}
	m.gauge("lockkeeper_serve_streams", "Pages that are open.", float64(s.streams.Load()))
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(m.Bytes())
}

// metricText writes Prometheus' text format, version 0.0.4.
type metricText struct{ bytes.Buffer }

func (m *metricText) head(name, kind, help string) {
	fmt.Fprintf(m, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (m *metricText) gauge(name, help string, value float64) {
	m.head(name, "gauge", help)
	m.sample(name, value)
}

// labelText escapes a label's value. It is UTF-8.
var labelText = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// sample writes a value with labels, name and value in turn.
func (m *metricText) sample(name string, value float64, labels ...string) {
	m.WriteString(name)
	for i := 0; i < len(labels); i += 2 {
		m.WriteString([]string{"{", ","}[min(i, 1)])
		fmt.Fprintf(m, `%s="%s"`, labels[i], labelText.Replace(strings.ToValidUTF8(labels[i+1], "�")))
	}
	if len(labels) > 0 {
		m.WriteByte('}')
	}
	m.WriteByte(' ')
	m.WriteString(strconv.FormatFloat(value, 'g', -1, 64))
	m.WriteByte('\n')
}

func yes(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
