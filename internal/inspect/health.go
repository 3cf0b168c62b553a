package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/lock"
)

// States of a store, in HealthJSON.
const (
	Healthy  = "healthy"
	Degraded = "degraded"
	NoQuorum = "no quorum"
)

// States of a node, in NodeJSON.
const (
	Votes   = "votes"   // it answers, and would grant a lock
	Waits   = "waits"   // it restarted lately, and votes when the restart guard's time is over
	Refuses = "refuses" // it answers, and grants none
	Down    = "down"    // it does not answer
)

// HealthJSON is a store's health.
type HealthJSON struct {
	Status string     `json:"status"` // Healthy, Degraded, NoQuorum
	Voting int        `json:"voting"`
	Quorum int        `json:"quorum"`
	Nodes  []NodeJSON `json:"nodes"`
}

// NodeJSON is one node's part of it. Its facts are words, such as "version", and numbers
// with the unit in their names, such as "uptime_seconds". A measure that is not known is a
// word that says so, under its name without a unit.
type NodeJSON struct {
	Name      string         `json:"name"`
	State     string         `json:"state"` // Votes, Waits, Refuses, Down
	Votes     bool           `json:"votes"`
	Reason    string         `json:"reason,omitempty"` // why it does not vote, for people
	LatencyMS *float64       `json:"latency_ms,omitempty"`
	Facts     map[string]any `json:"facts,omitempty"`
	Advice    []string       `json:"advice"` // for people

	Texts []lock.Fact `json:"-"` // the facts for people, in the order to show them
}

// Latency is of the question; 0: there was no answer.
func (n NodeJSON) Latency() time.Duration {
	if n.LatencyMS == nil {
		return 0
	}
	return time.Duration(*n.LatencyMS * float64(time.Millisecond))
}

// Text is the fact of that name for people.
func (n NodeJSON) Text(name string) (string, bool) {
	i := slices.IndexFunc(n.Texts, func(f lock.Fact) bool { return f.Name == name })
	if i < 0 {
		return "", false
	}
	return n.Texts[i].Value, true
}

// Reachable is the fact of that name, which the state says as well.
const Reachable = "reachable"

// waiting begins the fact "guard" of a node that sits the restart guard out.
const waiting = "votes in "

// slow is half of redlock's node timeout.
const slow = 500 * time.Millisecond

// Health is h for people and programs.
func Health(h lock.Health) HealthJSON {
	r := HealthJSON{Status: Healthy, Voting: h.Voting(), Quorum: h.Quorum, Nodes: []NodeJSON{}}
	switch {
	case !h.HasQuorum():
		r.Status = NoQuorum
	case r.Voting < len(h.Nodes):
		r.Status = Degraded
	}
	for _, n := range h.Nodes {
		r.Nodes = append(r.Nodes, node(n))
	}
	return r
}

func node(n lock.NodeHealth) NodeJSON {
	r := NodeJSON{Name: n.Name, State: stateOf(n), Votes: n.Err == nil, Facts: factsJSON(n.Facts), Advice: []string{}, Texts: n.Facts}
	if n.Err != nil {
		r.Reason = reasonOf(n.Err)
	}
	if n.Latency > 0 {
		ms := float64(n.Latency.Microseconds()) / 1000
		r.LatencyMS = &ms
	}
	advice := slices.Clone(n.Warnings)
	if n.Latency >= slow && r.State != Down {
		advice = append(advice, fmt.Sprintf("slow, it took %s to answer: clients leave out a node that takes longer than their node timeout, 1s unless they set it", plain.Short(n.Latency)))
	}
	for _, s := range advice {
		r.Advice = append(r.Advice, plain.Options(s))
	}
	return r
}

// factsJSON are facts for programs.
func factsJSON(facts []lock.Fact) map[string]any {
	if len(facts) == 0 {
		return nil
	}
	all := map[string]any{}
	for _, f := range facts {
		if len(f.Measures) == 0 {
			all[strings.ReplaceAll(f.Name, " ", "_")] = f.Value
		}
		for _, n := range f.Measures {
			all[n.Name] = n.Value
		}
	}
	return all
}

func stateOf(n lock.NodeHealth) string {
	reachable := slices.IndexFunc(n.Facts, func(f lock.Fact) bool { return f.Name == Reachable })
	switch {
	case n.Err == nil:
		return Votes
	case slices.ContainsFunc(n.Facts, func(f lock.Fact) bool { return f.Name == "guard" && strings.HasPrefix(f.Value, waiting) }):
		return Waits
	case (errors.Is(n.Err, lock.ErrUnavailable) || errors.Is(n.Err, context.DeadlineExceeded)) && reachable < 0:
		return Down // of a store that is no quorum of Redis nodes: an outage, and no refusal
	case n.Latency > 0, reachable >= 0 && n.Facts[reachable].Value == "yes":
		return Refuses
	}
	return Down
}

// reasonOf is err in one line, with what to do about it at a shell.
func reasonOf(err error) string {
	s := plain.Options(plain.OneLine(err))
	if errors.Is(err, lock.ErrRefused) || errors.Is(err, lock.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		s = plain.Error(err)
	}
	s = strings.Replace(s, "asks for a password", "asks for a password: set REDISCLI_AUTH, or give it in the URL", 1)
	return strings.Replace(s, "refuses the user or the password:", "refuses the user or the password: see REDIS_USER and REDISCLI_AUTH, or the URL:", 1)
}
