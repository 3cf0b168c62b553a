package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// Exit statuses of health, which scripts know from docker/check.sh.
const (
	exitDegraded  = 1
	exitNoQuorum  = 2
	exitUnchecked = 3
)

// nodeReport and healthReport are what --output json prints.
type nodeReport struct {
	Name      string            `json:"name"`
	State     string            `json:"state"` // votes, waits, refuses, down
	Votes     bool              `json:"votes"`
	Reason    string            `json:"reason,omitempty"` // why it does not vote
	LatencyMS float64           `json:"latency_ms"`
	Facts     map[string]string `json:"facts,omitempty"`
	Advice    []string          `json:"advice"`

	facts []lock.Fact // in their order
}

type healthReport struct {
	Status string       `json:"status"` // healthy, degraded, no quorum
	Voting int          `json:"voting"`
	Quorum int          `json:"quorum"`
	Nodes  []nodeReport `json:"nodes"`

	node string // what a node is
}

func (a *app) healthCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "health",
		Short: "Tell whether each node can vote, and what an operator should change",
		Long: `Health asks each node for a real vote, on a key of its own that is freed at once: a
server that answers PING may refuse every lock all the same. For each node it shows
what it is, why it does not vote, and, after a !, what an operator should change. The
clock is how far the node's is ahead of this machine's. The state is one of

  votes     it answers, and would grant a lock
  waits     it restarted lately, and votes when the restart guard's time is over
  refuses   it answers, and grants none
  down      it does not answer

With --output lines there is a line a node, for scripts and logs.

Exit status: 0 all nodes vote; 1 not all, but a quorum; 2 no quorum; 3 nothing was
checked (bad input).`,
		Example: `  lockkeeper health
  REDIS_NODES=localhost:6379,localhost:6380,localhost:6381 lockkeeper health
  lockkeeper health --output lines
  lockkeeper health --output json | jq '.nodes[] | {name, state, facts}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.health(cmd.Context(), timeout)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "`time` for all nodes together")
	formats := []string{"table", "lines", "json"}
	c.Flags().StringVarP(&a.output, "output", "o", "table", "`format`: "+strings.Join(formats, ", "))
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) health(ctx context.Context, timeout time.Duration) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	report, err := a.askHealth(ctx, timeout)
	switch {
	case errors.Is(err, lock.ErrUnavailable), errors.Is(err, lock.ErrRefused):
		return &status{exitNoQuorum, err}
	case err != nil && ctx.Err() == nil:
		return &status{exitUnchecked, err}
	case err != nil:
		return context.Cause(ctx)
	}
	switch a.output {
	case "json":
		err = a.printJSON(report)
	case "lines":
		err = a.printHealthLines(report)
	default:
		err = a.printHealth(report)
	}
	if err != nil {
		return &status{exitUnchecked, err}
	}
	switch report.Status {
	case "degraded":
		return &status{code: exitDegraded}
	case "no quorum":
		return &status{code: exitNoQuorum}
	}
	return nil
}

func (a *app) askHealth(ctx context.Context, timeout time.Duration) (healthReport, error) {
	var none healthReport
	if a.output != "table" && a.output != "lines" && a.output != "json" {
		return none, usage("--output is %q, want table, lines or json", a.output)
	}
	if timeout < time.Millisecond || timeout > time.Hour {
		return none, usage("--timeout is %v, want 1ms to 1h", timeout)
	}
	s, err := a.store()
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a.sayDefault(s)
	l, err := s.openAnyway(ctx)
	if err != nil {
		return none, err
	}
	defer closeLocker(l)
	checker, ok := lock.As[lock.HealthChecker](l)
	if !ok {
		return none, fmt.Errorf("this store can't tell its health: %w", errors.ErrUnsupported)
	}
	h, err := checker.Health(ctx)
	if err != nil {
		return none, err
	}
	report := reportOf(h)
	report.node = "node"
	if _, ok := lock.As[*redlock.Locker](l); ok {
		report.node = "Redis node"
	}
	return report, nil
}

func reportOf(h lock.Health) healthReport {
	r := healthReport{Status: "healthy", Voting: h.Voting(), Quorum: h.Quorum}
	switch {
	case !h.HasQuorum():
		r.Status = "no quorum"
	case r.Voting < len(h.Nodes):
		r.Status = "degraded"
	}
	for _, n := range h.Nodes {
		node := nodeReport{Name: n.Name, State: stateOf(n), Votes: n.Err == nil, LatencyMS: float64(n.Latency.Microseconds()) / 1000, Advice: slices.Clone(n.Warnings), facts: n.Facts}
		if n.Err != nil {
			node.Reason = reasonOf(n.Err)
		}
		for _, f := range n.Facts {
			if node.Facts == nil {
				node.Facts = map[string]string{}
			}
			node.Facts[f.Name] = f.Value
		}
		if n.Latency >= slow && node.State != "down" {
			node.Advice = append(node.Advice, fmt.Sprintf("slow, it took %s to answer: clients leave out a node that takes longer than their node timeout, 1s unless they set it", short(n.Latency)))
		}
		for i, advice := range node.Advice {
			node.Advice[i] = optionWords(advice)
		}
		if node.Advice == nil {
			node.Advice = []string{}
		}
		r.Nodes = append(r.Nodes, node)
	}
	return r
}

// slow is half of redlock's node timeout.
const slow = 500 * time.Millisecond

// reachable is the fact of that name, which is shown as part of the state.
const reachable = "reachable"

// waiting begins the fact "guard" of a node that sits the restart guard out.
const waiting = "votes in "

func stateOf(n lock.NodeHealth) string {
	switch {
	case n.Err == nil:
		return "votes"
	case slices.ContainsFunc(n.Facts, func(f lock.Fact) bool { return f.Name == "guard" && strings.HasPrefix(f.Value, waiting) }):
		return "waits"
	case (errors.Is(n.Err, lock.ErrUnavailable) || errors.Is(n.Err, context.DeadlineExceeded)) && !slices.ContainsFunc(n.Facts, func(f lock.Fact) bool { return f.Name == reachable }):
		return "down" // of a store that is no quorum of Redis nodes: an outage, and no refusal
	case n.Latency > 0, slices.Contains(n.Facts, lock.Fact{Name: reachable, Value: "yes"}):
		return "refuses"
	}
	return "down"
}

// reasonOf is err in one line, with what to do about it here.
func reasonOf(err error) string {
	s := optionWords(oneLine(err))
	if errors.Is(err, lock.ErrRefused) || errors.Is(err, lock.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		s = words(err)
	}
	s = strings.Replace(s, "asks for a password", "asks for a password: set REDISCLI_AUTH, or give it in the URL", 1)
	return strings.Replace(s, "refuses the user or the password:", "refuses the user or the password: see REDIS_USER and REDISCLI_AUTH, or the URL:", 1)
}

func latencyText(n nodeReport) string {
	if n.LatencyMS <= 0 {
		return "-"
	}
	return short(time.Duration(n.LatencyMS * float64(time.Millisecond)))
}

func (a *app) printHealth(r healthReport) error {
	var b strings.Builder
	if t := healthTable(r); a.width() > 0 && t.natural() > a.width() {
		a.writeFacts(&b, r)
	} else if err := t.print(a, &b); err != nil {
		return err
	}
	a.writeReasons(&b, r)
	a.writeAdvice(&b, r)
	fmt.Fprintf(&b, "\n%d of %d nodes vote, %d needed: ", r.Voting, len(r.Nodes), r.Quorum)
	switch r.Status {
	case "healthy":
		b.WriteString(a.paint(good, "all healthy"))
	case "degraded":
		b.WriteString(a.paint(warn, r.degraded()))
	default:
		b.WriteString(a.paint(bad, noQuorum))
	}
	_, err := fmt.Fprintln(a.out, b.String())
	return err
}

func (a *app) writeReasons(b *strings.Builder, r healthReport) {
	sep := "\n"
	for _, n := range r.Nodes {
		if n.Reason != "" {
			fmt.Fprintf(b, "%s%s %s %s\n", sep, printable(n.Name), a.paint(bad, "does not vote:"), printable(n.Reason))
			sep = ""
		}
	}
}

// writeAdvice gives each piece once, with the nodes that it is for.
func (a *app) writeAdvice(b *strings.Builder, r healthReport) {
	nodes := map[string][]string{}
	var all []string
	for _, n := range r.Nodes {
		for _, advice := range n.Advice {
			if nodes[advice] == nil {
				all = append(all, advice)
			}
			nodes[advice] = append(nodes[advice], printable(n.Name))
		}
	}
	for _, advice := range all {
		whom := strings.Join(nodes[advice], ", ")
		if n := len(nodes[advice]); n > 1 && n == len(r.Nodes) {
			whom = "all nodes"
		}
		fmt.Fprintf(b, "\n%s %s: %s\n", a.paint(warn, "!"), whom, printable(advice))
	}
}

const noQuorum = "no quorum, no lock can be taken or renewed"

func (r healthReport) degraded() string {
	return fmt.Sprintf("degraded, locks work, and losing %d more would stop them", r.Voting-r.Quorum+1)
}

// healthTable has a row a node and a column a fact.
func healthTable(r healthReport) *table {
	t := &table{colours: map[int]string{}}
	var names []string
	head := []string{"NODE", "STATE", "LATENCY"}
	for _, n := range r.Nodes {
		for _, f := range n.facts {
			if f.Name != reachable && !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
				head = append(head, strings.ToUpper(f.Name))
			}
		}
	}
	t.add(head...)
	for i, n := range r.Nodes {
		row := []string{n.Name, n.State, latencyText(n)}
		for _, name := range names {
			value, ok := n.Facts[name]
			if !ok {
				value = "-"
			}
			row = append(row, value)
		}
		t.add(row...)
		t.colours[i+1] = stateColour(n)
	}
	return t
}

func stateColour(n nodeReport) string {
	switch {
	case n.Votes:
		return good
	case n.State == "waits":
		return warn
	}
	return bad
}

// natural is how wide the table is where nothing is cut.
func (t *table) natural() int {
	sum := gap * (len(t.rows[0]) - 1)
	for _, width := range t.widths() {
		sum += width
	}
	return sum
}

// writeFacts is the table for a terminal that is too narrow for it.
func (a *app) writeFacts(b *strings.Builder, r healthReport) {
	for i, n := range r.Nodes {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(b, "%s  %s  %s\n", printable(n.Name), a.paint(stateColour(n), n.State), latencyText(n))
		for _, f := range n.facts {
			if f.Name != reachable {
				fmt.Fprintf(b, "  %-12s %s\n", f.Name, printable(f.Value))
			}
		}
	}
}

// printHealthLines is what docker/check.sh prints.
func (a *app) printHealthLines(r healthReport) error {
	const rule = "======================================="
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nChecking %d %ss...\n%s\n\n", rule, len(r.Nodes), r.node, rule)
	for _, n := range r.Nodes {
		state := "UP"
		switch {
		case n.State == "waits":
			state = fmt.Sprintf("WAITING (%s)", printable(n.Reason))
		case !n.Votes:
			state = fmt.Sprintf("DOWN (%s)", printable(n.Reason))
		}
		fmt.Fprintf(&b, "Checking %s %s... %s\n", r.node, printable(n.Name), state)
	}
	fmt.Fprintf(&b, "\n%s\nHealth Check Summary\n%s\nHealthy nodes: %d / %d\n", rule, rule, r.Voting, len(r.Nodes))
	quorum := "yes"
	if r.Status == "no quorum" {
		quorum = "NO"
	}
	fmt.Fprintf(&b, "Quorum: %s (%d needed)\n", quorum, r.Quorum)
	switch r.Status {
	case "healthy":
		b.WriteString("Status: ALL NODES HEALTHY\n\nReady for distributed locking!\n")
	case "degraded":
		b.WriteString("Status: " + strings.Replace(r.degraded(), "degraded,", "DEGRADED:", 1) + "\n")
	default:
		b.WriteString("Status: " + strings.Replace(noQuorum, "no quorum,", "NO QUORUM:", 1) + "\n")
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}
