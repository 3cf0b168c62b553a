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
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// Exit statuses of health, which scripts know from docker/check.sh.
const (
	exitDegraded  = 1
	exitNoQuorum  = 2
	exitUnchecked = 3
)

// healthReport is what the nodes say, and what a node is called.
type healthReport struct {
	inspect.HealthJSON
	node string
}

var healthFormats = []string{"table", "wide", "lines", "json"}

func (a *app) healthCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "health",
		Short: "Report whether each node can vote, and what to change",
		Long: `Health asks each node for a real vote, on a key of its own that is freed at
once: a server that answers PING may refuse every lock all the same. For each
node it shows what it is, why it does not vote, and, after a !, what an operator
should change. With --output wide it shows all that the nodes report about
themselves: the clock is how far the node's is ahead of this machine's. The
state is one of

  votes     it answers, and would grant a lock
  waits     it restarted lately, and votes when the restart guard's time is over
  refuses   it answers, and grants none
  down      it does not answer

With --output lines there is a line a node, for scripts and logs. In JSON what
is measured is a number, with the unit in its name.

Exit status: 0 all nodes vote; 1 not all, but a quorum; 2 no quorum; 3 nothing
was checked (bad input).`,
		Example: `  lockkeeper health
  REDIS_NODES=localhost:6379,localhost:6380,localhost:6381 lockkeeper health
  lockkeeper health -o wide
  lockkeeper health --output lines
  lockkeeper health --output json | jq '.nodes[] | {name, state, facts}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.health(cmd.Context(), timeout)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "`time` for all nodes together")
	c.Flags().StringVarP(&a.output, "output", "o", "table", "`format`: "+strings.Join(healthFormats, ", "))
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(healthFormats, cobra.ShellCompDirectiveNoFileComp))
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
		err = a.printJSON(report.HealthJSON)
	case "lines":
		err = a.printHealthLines(report)
	default:
		err = a.printHealth(report)
	}
	if err != nil {
		return &status{exitUnchecked, err}
	}
	switch report.Status {
	case inspect.Degraded:
		return &status{code: exitDegraded}
	case inspect.NoQuorum:
		return &status{code: exitNoQuorum}
	}
	return nil
}

func (a *app) askHealth(ctx context.Context, timeout time.Duration) (healthReport, error) {
	var none healthReport
	if !slices.Contains(healthFormats, a.output) {
		return none, usage("--output is %q, want table, wide, lines or json", a.output)
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
	report := healthReport{inspect.Health(h), "node"}
	if _, ok := lock.As[*redlock.Locker](l); ok {
		report.node = "Redis node"
	}
	return report, nil
}

func latencyText(n inspect.NodeJSON) string {
	if n.Latency() <= 0 {
		return unknown
	}
	return short(n.Latency())
}

func (a *app) printHealth(r healthReport) error {
	var b strings.Builder
	t, more := healthTable(r, a.output == "wide")
	if a.width() > 0 && t.natural() > a.width() {
		a.writeFacts(&b, r, more)
	} else if err := t.print(a, &b); err != nil {
		return err
	}
	a.writeReasons(&b, r)
	a.writeAdvice(&b, r)
	if len(more) > 0 {
		a.writeWrapped(&b, "", "-o wide shows more: "+strings.Join(more, ", "))
	}
	fmt.Fprintf(&b, "\n%d of %d nodes vote, %d needed: ", r.Voting, len(r.Nodes), r.Quorum)
	switch r.Status {
	case inspect.Healthy:
		b.WriteString(a.paint(good, "all healthy"))
	case inspect.Degraded:
		b.WriteString(a.paint(warn, r.degraded()))
	default:
		b.WriteString(a.paint(bad, noQuorum))
	}
	_, err := fmt.Fprintln(a.out, b.String())
	return err
}

func (a *app) writeReasons(b *strings.Builder, r healthReport) {
	for _, n := range r.Nodes {
		if n.Reason != "" {
			a.writeWrapped(b, bad, printable(n.Name)+" does not vote: "+printable(n.Reason))
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
		a.writeWrapped(b, warn, "! "+whom+": "+printable(advice))
	}
}

// tableWidth is how wide what health prints is at the most, but for -o wide.
const tableWidth = 100

// writeWrapped writes a paragraph, after an empty line. colour is that of its first word.
func (a *app) writeWrapped(b *strings.Builder, colour, text string) {
	width := tableWidth
	if w := a.width(); w > 0 {
		width = min(width, w)
	}
	at := 0
	b.WriteByte('\n')
	for i, word := range strings.Fields(text) {
		n := columns(word)
		switch {
		case i == 0:
			word = a.paint(colour, word)
		case at+1+n > width:
			b.WriteString("\n  ")
			at = 2
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	b.WriteByte('\n')
}

const noQuorum = "no quorum, no lock can be taken or renewed"

func (r healthReport) degraded() string {
	return fmt.Sprintf("degraded, locks work, and losing %d more would stop them", r.Voting-r.Quorum+1)
}

// mainFacts are those of a Redis node that the table shows, and with -o wide all.
var mainFacts = []string{"version", "role", "persistence", "uptime"}

// healthTable has a row a node and a column a fact: all with wide, else what fits into
// tableWidth. more are the facts that it leaves out.
func healthTable(r healthReport, wide bool) (t *table, more []string) {
	names := factNames(r)
	all := names
	if main := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(mainFacts, name) }); !wide && len(main) == len(mainFacts) {
		names = main // the same at all times, for those who read it every day
	}
	for t = factTable(r, names); !wide && t.natural() > tableWidth && len(names) > len(mainFacts); t = factTable(r, names) {
		names = names[:len(names)-1]
	}
	return t, slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(names, name) })
}

// factNames are those of all nodes, in their order.
func factNames(r healthReport) (names []string) {
	for _, n := range r.Nodes {
		for _, f := range n.Texts {
			if f.Name != inspect.Reachable && !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		}
	}
	return names
}

func factTable(r healthReport, names []string) *table {
	t := &table{colours: map[int]string{}}
	head := []string{"NODE", "STATE", "LATENCY"}
	for _, name := range names {
		head = append(head, strings.ToUpper(name))
	}
	t.add(head...)
	for i, n := range r.Nodes {
		row := []string{n.Name, n.State, latencyText(n)}
		for _, name := range names {
			value, ok := n.Text(name)
			if !ok {
				value = unknown
			}
			row = append(row, value)
		}
		t.add(row...)
		t.colours[i+1] = stateColour(n)
	}
	return t
}

func stateColour(n inspect.NodeJSON) string {
	switch {
	case n.Votes:
		return good
	case n.State == inspect.Waits:
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
func (a *app) writeFacts(b *strings.Builder, r healthReport, without []string) {
	for i, n := range r.Nodes {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(b, "%s  %s  %s\n", printable(n.Name), a.paint(stateColour(n), n.State), latencyText(n))
		for _, f := range n.Texts {
			if f.Name != inspect.Reachable && !slices.Contains(without, f.Name) {
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
		case n.State == inspect.Waits:
			state = fmt.Sprintf("WAITING (%s)", printable(n.Reason))
		case !n.Votes:
			state = fmt.Sprintf("DOWN (%s)", printable(n.Reason))
		}
		fmt.Fprintf(&b, "Checking %s %s... %s\n", r.node, printable(n.Name), state)
	}
	fmt.Fprintf(&b, "\n%s\nHealth Check Summary\n%s\nHealthy nodes: %d / %d\n", rule, rule, r.Voting, len(r.Nodes))
	quorum := "yes"
	if r.Status == inspect.NoQuorum {
		quorum = "NO"
	}
	fmt.Fprintf(&b, "Quorum: %s (%d needed)\n", quorum, r.Quorum)
	switch r.Status {
	case inspect.Healthy:
		b.WriteString("Status: ALL NODES HEALTHY\n\nReady for distributed locking!\n")
	case inspect.Degraded:
		b.WriteString("Status: " + strings.Replace(r.degraded(), "degraded,", "DEGRADED:", 1) + "\n")
	default:
		b.WriteString("Status: " + strings.Replace(noQuorum, "no quorum,", "NO QUORUM:", 1) + "\n")
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}
