package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/tonsurance/lockkeeper/lock"
)

// Describe reports on the API server that answered, and tries what only those who wait or list
// need; the rest, a write has tried.
func (s *store) Describe(ctx context.Context) lock.NodeHealth {
	node := lock.NodeHealth{Name: "kubernetes"}
	fact := func(name, value string, measures ...lock.Measure) {
		node.Facts = append(node.Facts, lock.Fact{Name: name, Value: value, Measures: measures})
	}
	fact("namespace", s.namespace)
	if u, err := url.Parse(s.api.host); err == nil {
		fact("server", u.Host)
	}
	text, _, err := s.api.call(ctx, http.MethodGet, "/version", nil, nil, http.StatusOK)
	var version struct{ GitVersion string }
	if err == nil && json.Unmarshal(text, &version) == nil && version.GitVersion != "" {
		fact("version", version.GitVersion)
	}
	if s.skew > 0 {
		fact("clock skew", s.skew.String()+" at most, as was said", lock.Measure{Name: "clock_skew_at_most_seconds", Value: s.skew.Seconds()})
	}
	if _, _, err := s.list(ctx, url.Values{"limit": {"1"}}); err != nil {
		if r, ok := errors.AsType[*refusal](err); ok && r.code == http.StatusForbidden {
			node.Warnings = append(node.Warnings, "no right to list leases: who waits is not notified, and list shows nothing")
		}
		return node
	}
	w := &watch{s: s, name: healthKey}
	stream, err := w.open(ctx)
	if err == nil {
		_ = stream.Close()
	} else if r, ok := errors.AsType[*refusal](err); ok && r.code == http.StatusForbidden {
		node.Warnings = append(node.Warnings, "no right to watch leases: who waits is not notified, and polls")
	}
	return node
}

// healthKey is what is watched for a moment, whether it is there or not.
const healthKey = "health"
