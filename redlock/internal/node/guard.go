package node

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
	"github.com/tonsurance/lockkeeper/redlock/internal/server"
)

// NoGuard is the least uptime where there is no restart guard.
const NoGuard = "0"

// guard is what is known of a node's right to vote.
type guard struct {
	// durable is the run of which it was proved that the node is durable since its start.
	durable atomic.Pointer[string]
	// probing holds one token, which guards the two below: a mutex that is held over
	// I/O would stop the clock of a synctest bubble.
	probing chan struct{}
	probed  string    // the run of the last probe
	nextAt  time.Time // when to probe that run again
}

// Guard is what a script gets, to know whether the node may vote.
func (n *Node) Guard() script.Guard {
	g := script.Guard{Least: n.o.Least}
	if r := n.guard.durable.Load(); r != nil {
		g.Durable = *r
	}
	return g
}

// Voted notes what a node said of its right to vote.
func (n *Node) Voted(rep script.Reply) {
	switch {
	case rep.Kind == script.Recovering || rep.Kind == script.Prolonged:
		n.sitsOut(rep)
	case rep.Unguarded && n.o.Least != NoGuard:
		n.unguarded()
	}
}

// Probe reports whether the node was durable ever since this run began, and remembers
// it. It asks the node at most once in 5 seconds for each run.
func (n *Node) Probe(run string) bool {
	n.guard.probing <- struct{}{}
	defer func() { <-n.guard.probing }()
	if r := n.guard.durable.Load(); r != nil && *r == run {
		return true
	}
	if n.guard.probed == run && time.Now().Before(n.guard.nextAt) {
		return false
	}
	n.guard.probed, n.guard.nextAt = run, time.Now().Add(5*time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), n.o.Timeout)
	defer cancel()
	c, err := n.Conn.Client()
	if err != nil || c.Mode() == rueidis.ClientModeCluster {
		return false // any one of its servers would answer, and prove nothing of the others
	}
	conf, info, err := server.Durability(ctx, c)
	// The configuration was read before the information, and this names the run: so both
	// are of that run, since a restart in between, or after the vote, would show.
	if err != nil || info["run_id"] != run {
		return false
	}
	if err := server.ProveDurable(conf, info); err != nil {
		n.Log(slog.LevelDebug, "redis node is not proved to be durable and waits for the restart guard", "err", err)
		return false
	}
	n.guard.durable.Store(&run)
	n.Log(slog.LevelDebug, "redis node is durable and votes without waiting for the restart guard")
	return true
}
