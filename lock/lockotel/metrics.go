package lockotel

import (
	"slices"

	"go.opentelemetry.io/otel/attribute"
)

// Metric describes one instrument.
type Metric struct {
	Name        string
	Unit        string // UCUM
	Description string
	Attributes  []string // besides lock.store, lock.name and Options.Attributes
}

// Attributes of metrics and spans.
const (
	lockName    = attribute.Key("lock.name")
	lockStore   = attribute.Key("lock.store")
	lockKey     = attribute.Key("lock.key")
	lockToken   = attribute.Key("lock.token")
	lockOutcome = attribute.Key("lock.outcome")
	waitTries   = attribute.Key("lock.wait.attempts")
	holdEnd     = attribute.Key("lock.hold.end")
	lossCause   = attribute.Key("lock.loss.cause")
	leaderState = attribute.Key("lock.leader.state")
	nodeName    = attribute.Key("lock.node.name")
	errorType   = attribute.Key("error.type")
)

// How a hold ended, and why a keeper lost its lease.
const (
	released   = "released"
	expired    = "expired"
	taken      = "taken"
	notRenewed = "not_renewed"
)

var (
	attemptDuration = Metric{"lock.attempt.duration", "s", "Time of one attempt to take a lock", []string{"lock.outcome"}}
	waitDuration    = Metric{"lock.wait.duration", "s", "Time of a whole lock.Acquire", []string{"lock.outcome"}}
	extendDuration  = Metric{"lock.extend.duration", "s", "Time of a renewal", []string{"lock.outcome"}}
	releaseDuration = Metric{"lock.release.duration", "s", "Time of a release", []string{"lock.outcome"}}
	holdDuration    = Metric{"lock.hold.duration", "s", "Time that a lease was held, reported when it ends", []string{"lock.hold.end"}}
	queueWaiting    = Metric{"lock.queue.waiting", "{request}", "Requests of this process that stand in the store's queues", nil}
	queueHandoffs   = Metric{"lock.queue.handoffs", "{lease}", "Leases that were handed over to a request that stood in a queue", nil}
	queueRefreshes  = Metric{"lock.queue.refreshes", "{request}", "Requests sent to a node again to keep a position in its queue", []string{"lock.node.name"}}
	keeperLosses    = Metric{"lock.keeper.losses", "{lease}", "Leases that a keeper lost", []string{"lock.loss.cause"}}

	leaderStates  = Metric{"lock.leader.state", "{elector}", "Electors in this state: 1 or 0 for each", []string{"lock.leader.state"}}
	leaderTerms   = Metric{"lock.leader.terms", "{term}", "Terms begun: each is a change of leader", nil}
	leaderOverdue = Metric{"lock.leader.overdue", "{elector}", "Electors whose function still runs although its term is lost", nil}

	requestDuration = Metric{"lock.node.request.duration", "s", "Time until a node answered a request, its turn in a batch included", []string{"lock.node.name", "lock.outcome"}}
	nodeVoting      = Metric{"lock.node.voting", "{node}", "Whether the node would vote when last asked: 1 or 0", []string{"lock.node.name"}}
	nodeLatency     = Metric{"lock.node.latency", "s", "Round-trip time of the last health check", []string{"lock.node.name"}}
	nodeWarnings    = Metric{"lock.node.warnings", "{warning}", "What an operator should change on the node", []string{"lock.node.name"}}
	quorumSpare     = Metric{"lock.quorum.spare", "{node}", "How many more nodes may fail: voting less quorum, negative without a quorum", nil}
)

// Metrics lists everything that is emitted, in the order of the documentation.
func Metrics() []Metric {
	return slices.Clone([]Metric{
		attemptDuration, waitDuration, extendDuration, releaseDuration, holdDuration,
		queueWaiting, queueHandoffs, queueRefreshes, keeperLosses,
		leaderStates, leaderTerms, leaderOverdue,
		requestDuration, nodeVoting, nodeLatency, nodeWarnings, quorumSpare,
	})
}
