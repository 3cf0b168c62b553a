// Package lockotel reports to OpenTelemetry what happens to locks: metrics and spans of
// attempts, waits, renewals, holds and losses, of leaders and of a store's nodes.
// It is a module of its own, so that programs without OpenTelemetry don't link it,
// and needs no more than the API: which SDK and exporter get the data is the
// program's business.
//
//	tel, err := lockotel.New(nil) // the global providers
//	nodes, err := redlock.Dial(ctx, urls, &redlock.Options{OnRequest: tel.Request, OnRefresh: tel.Refresh})
//	locker := tel.Observe(nodes)
//	stop, err := tel.Health(locker, 0)
//	elector := leader.New(locker, key, &leader.Options{
//		Keepalive: &keepalive.Options{OnLost: tel.Lost},
//	})
//	unregister, err := tel.Elector(elector)
//
// Each line is of use without the others.
//
// # Metrics
//
// Durations are histograms in seconds, whose counts are the numbers of attempts,
// renewals and so on. [Metrics] lists all of them; the package's tests see to it
// that nothing else is emitted. The attribute lock.outcome is one of
//
//	ok           it did what it was asked to
//	held         another holds the lock: a conflict
//	lost         the lease is over
//	unavailable  the store could not decide
//	canceled     the caller's context ended first
//	closed       the locker was closed
//	error        anything else
//
// The attribute lock.store names the store ([Options].Store). A key is no attribute of a metric, since there may be any number of keys:
// [Options].KeyName maps them to a bounded number of names.
//
// # Spans
//
// A call whose context carries a span gets one of its own below that: lock.attempt,
// lock.wait, lock.extend, lock.release. A hold that ends gets the span lock.hold, from
// its grant on, below the one of the call that ended it. All have the
// attributes lock.key (the full key), lock.outcome and, where there is one,
// lock.token. Calls without a span around them get none, so that a keeper that
// renews for weeks is no endless stream of traces. A wait's attempts are its siblings,
// not its children: they are reported before it.
package lockotel
