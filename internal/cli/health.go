package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/lock"
)

// Exit statuses of health, which scripts know from docker/check.sh.
const (
	exitDegraded  = 1
	exitNoQuorum  = 2
	exitUnchecked = 3
)

// nodeReport and healthReport are what --output json prints.
type nodeReport struct {
	Name      string   `json:"name"`
	Votes     bool     `json:"votes"`
	Reason    string   `json:"reason,omitempty"` // why it does not vote
	LatencyMS float64  `json:"latency_ms"`
	Advice    []string `json:"advice"`
}

type healthReport struct {
	Status string       `json:"status"` // healthy, degraded, no quorum
	Voting int          `json:"voting"`
	Quorum int          `json:"quorum"`
	Nodes  []nodeReport `json:"nodes"`
}

func (a *app) healthCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "health",
		Short: "Tell whether each node can vote, and what an operator should change",
		Long: `Health asks each node for a real vote, on a key of its own that is freed at once: a
server that answers PING may refuse every lock all the same.

Exit status: 0 all nodes vote; 1 not all, but a quorum; 2 no quorum; 3 nothing was
checked (bad input).`,
		Example: `  lockkeeper health
  REDIS_NODES=localhost:6379,localhost:6380,localhost:6381 lockkeeper health
  lockkeeper health --output json | jq .nodes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.health(cmd.Context(), timeout)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "`time` for all nodes together")
	a.outputFlag(c)
	return c
}

func (a *app) health(ctx context.Context, timeout time.Duration) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	report, err := a.askHealth(ctx, timeout)
	switch {
	case errors.Is(err, lock.ErrUnavailable):
		return &status{exitNoQuorum, err}
	case err != nil && ctx.Err() == nil:
		return &status{exitUnchecked, err}
	case err != nil:
		return context.Cause(ctx)
	}
	if a.output == "json" {
		err = a.printJSON(report)
	} else {
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
	if err := a.checkOutput(); err != nil {
		return none, err
	}
	if timeout <= 0 {
		return none, usage("--timeout is %v, want more than 0", timeout)
	}
	s, err := a.store()
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	l, err := s.open(context.WithoutCancel(ctx)) // each node once: without a quorum there is nothing to wait for
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
	return reportOf(h), nil
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
		node := nodeReport{Name: n.Name, Votes: n.Err == nil, LatencyMS: float64(n.Latency.Microseconds()) / 1000, Advice: n.Warnings}
		if n.Err != nil {
			node.Reason = strings.Join(strings.Fields(n.Err.Error()), " ")
		}
		if node.Advice == nil {
			node.Advice = []string{}
		}
		r.Nodes = append(r.Nodes, node)
	}
	return r
}

func (a *app) printHealth(r healthReport) error {
	t := table{colours: map[int]string{}}
	t.add("NODE", "VOTES", "LATENCY", "WHY NOT")
	for i, n := range r.Nodes {
		votes, latency, colour := "yes", "-", good
		if !n.Votes {
			votes, colour = "no", bad
		}
		if n.LatencyMS > 0 {
			latency = short(time.Duration(n.LatencyMS * float64(time.Millisecond)))
		}
		t.add(n.Name, votes, latency, n.Reason)
		t.colours[i+1] = colour
	}
	if err := t.print(a, a.out); err != nil {
		return err
	}
	var b strings.Builder
	for _, n := range r.Nodes {
		if len(n.Advice) > 0 {
			fmt.Fprintf(&b, "\n%s\n", n.Name)
		}
		for _, advice := range n.Advice {
			fmt.Fprintf(&b, "  %s %s\n", a.paint(warn, "!"), printable(advice))
		}
	}
	fmt.Fprintf(&b, "\n%d of %d nodes vote, %d needed: ", r.Voting, len(r.Nodes), r.Quorum)
	switch r.Status {
	case "healthy":
		b.WriteString(a.paint(good, "all healthy"))
	case "degraded":
		b.WriteString(a.paint(warn, fmt.Sprintf("degraded, locks work, and losing %d more would stop them", r.Voting-r.Quorum+1)))
	default:
		b.WriteString(a.paint(bad, "no quorum, no lock can be taken or renewed"))
	}
	_, err := fmt.Fprintln(a.out, b.String())
	return err
}
