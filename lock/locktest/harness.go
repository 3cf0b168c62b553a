package locktest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// Harness shows the suite how to reach a backend, and which faults it can cause
// there. Only New is required.
//
// Cases run one after another. Each calls New once, before any other hook, and
// hands the hooks the locker that they are about: one that New or Peer returned
// in this case. Hooks register their cleanup with t.Cleanup and report what goes
// wrong with t.Fatal. A case may call them from its own goroutine only.
type Harness struct {
	// New returns a locker. The store below it may be new or shared with earlier
	// cases, but nothing else may use it while the suite runs. Whatever New
	// starts (connections, servers, goroutines) it must end by t.Cleanup; if the
	// locker is an io.Closer, t.Cleanup should close it (a case may have closed
	// it already).
	New func(t *testing.T) lock.Locker

	// Wrap runs each case on fake time: pass synctest.Test. All that New makes
	// must then live in the bubble. nil means live time.
	Wrap func(t *testing.T, run func(t *testing.T))

	// Advance lets d pass, for time.Now and the store alike. Defaults to
	// time.Sleep, which is right for live stores and, in a bubble, for stores that
	// go by package time.
	Advance func(d time.Duration)

	// TTL is for leases that a case waits out: long enough that a few requests
	// fit into it on a busy machine (100 of them is a good measure), and short
	// because about thirty are waited out. Defaults to 1s; on live time 200ms to 500ms
	// suits most local stores.
	TTL time.Duration

	// LongTTL is for leases that must not run out during a case; no case waits
	// for it on live time. At least 5 times Cleanup, and 10 times TTL. Defaults to
	// 30s, or that if it is more.
	LongTTL time.Duration

	// Cleanup bounds how long after a failed attempt or a lost reply the store may
	// still show the key as held, and how long a Release may take on a store that
	// does not answer. Defaults to lock.DefaultReleaseTimeout.
	Cleanup time.Duration

	// FullKey gives the name that comes out (Lease.Key, HeldError.Key, Info.Key)
	// for a key that goes in, where the locker adds a prefix. Defaults to the key
	// itself.
	FullKey func(key string) string

	// Peer returns a second client of the store that l works on, which shares
	// nothing with l but the store, as another process would. Cases for two
	// clients use l twice where it is nil, and those about independence skip.
	Peer func(t *testing.T, l lock.Locker) lock.Locker

	// Delay makes the store's answer to each later request of l arrive d later;
	// whether the request or the reply is slow is the harness's choice, and of
	// several nodes at least as many as decide must be slow. 0 ends it at once for
	// later requests.
	Delay func(t *testing.T, l lock.Locker, d time.Duration)

	// LoseReply makes the store apply l's next request (acquire, extend or release)
	// while its reply never reaches l: the connection breaks or stays silent. Of
	// several nodes, at least as many replies are lost as decide. Requests after it are
	// served again.
	LoseReply func(t *testing.T, l lock.Locker)

	// Outage cuts l off from the store (of several nodes: from as many as leave no
	// quorum), so that requests fail or are not answered, until it is called with
	// false.
	Outage func(t *testing.T, l lock.Locker, on bool)

	// Break takes key away from its present holder, in the store that l works on
	// and without l knowing, as an operator's DEL or an eviction would. What the
	// store keeps to issue tokens stays.
	Break func(t *testing.T, l lock.Locker, key string)

	// Kill ends the client l, which Peer returned, as kill -9 would: nothing is
	// released. Nothing is asked of l afterwards.
	Kill func(t *testing.T, l lock.Locker)

	// Skew sets the wall clock of the store that l works on, or of the nodes that
	// it must bear without, off by d from the true time. The store's passing of
	// time goes on at the same rate. 0 puts it right.
	Skew func(t *testing.T, l lock.Locker, d time.Duration)

	// Cut makes the store apply the n-th request of l from now on (1: the next one)
	// while its reply never reaches l, as LoseReply does for the first. The function
	// that it returns ends that, and reports whether there was such a request. Of
	// several nodes, a request to all of them is one.
	Cut func(t *testing.T, l lock.Locker, n int) (hit func() bool)

	// Repeat makes each later request of l arrive at the store twice, at once or
	// later; the reply to either may be the one that l gets.
	Repeat func(t *testing.T, l lock.Locker, on bool)

	// Conflict makes the store answer l's next write as if another client had been
	// faster, which is not so: as a driver or proxy does that sends a request again.
	// For stores with conditional writes.
	Conflict func(t *testing.T, l lock.Locker)

	// StaleReads makes l read states of the store from before the call, as a replica
	// or a cache gives them; writes go to the store as it is. For stores that are read
	// apart from the write that decides.
	StaleReads func(t *testing.T, l lock.Locker, on bool)

	// Delete deletes what the store that l works on keeps of key, which nobody holds,
	// the record of its tokens included, as an operator or an expiry would.
	Delete func(t *testing.T, l lock.Locker, key string)

	// IgnoreGoroutine names goroutines that may outlive a locker, by a stack as
	// runtime.Stack prints it: those of a client that is shared on purpose.
	IgnoreGoroutine func(stack string) bool

	// AllowSkips lists what may be missing, by the name of a field above ("Delay",
	// "Wrap") or of what the locker does not offer ("Awaiter", "Watcher", "Inspector",
	// "ForceReleaser", "HealthChecker", "io.Closer", "HeldError", "Waiters",
	// "ReleaseAfter", "TokenRaiser", "Info.Waiting"). A case that skips for anything else
	// fails. nil allows every skip that the locker itself shows; []string{} allows none, which
	// is what a project's own CI should use.
	AllowSkips []string

	// OnCase is called after each case with its name ("Expiry/TheWholeTTLIsHeld") and what it
	// lacked ("Wrap"), or "" if it was not skipped: for a table of what a suite has shown.
	// Calls do not overlap. nil means that nobody asks.
	OnCase func(name, missing string)
}

// What a case can need. The names are those that AllowSkips takes.
const (
	needWrap          = "Wrap"
	needPeer          = "Peer"
	needDelay         = "Delay"
	needLoseReply     = "LoseReply"
	needOutage        = "Outage"
	needBreak         = "Break"
	needKill          = "Kill"
	needSkew          = "Skew"
	needAwaiter       = "Awaiter"
	needWatcher       = "Watcher"
	needInspector     = "Inspector"
	needList          = "Inspector.List"
	needForceReleaser = "ForceReleaser"
	needHealthChecker = "HealthChecker"
	needCloser        = "io.Closer"
	needHeldError     = "HeldError"
	needWaiters       = "Waiters"
	needReleaseAfter  = "ReleaseAfter"
	needTokenRaiser   = "TokenRaiser"
	needExtendStarter = "ExtendStarter"
	needWaiting       = "Info.Waiting"
	needCut           = "Cut"
	needRepeat        = "Repeat"
	needConflict      = "Conflict"
	needStaleReads    = "StaleReads"
	needDelete        = "Delete"
)

var needs = []string{
	needWrap, needPeer, needDelay, needLoseReply, needOutage, needBreak, needKill, needSkew,
	needCut, needRepeat, needConflict, needStaleReads, needDelete,
	needAwaiter, needWatcher, needInspector, needList, needForceReleaser, needHealthChecker, needCloser, needHeldError, needWaiters, needReleaseAfter, needTokenRaiser, needExtendStarter, needWaiting,
}

// withDefaults returns h filled up, or what is wrong with it.
func (h Harness) withDefaults() (Harness, error) {
	if h.New == nil {
		return h, fmt.Errorf("locktest: Harness.New is nil, want a function that returns a locker")
	}
	for _, name := range []struct {
		field string
		value time.Duration
	}{{"TTL", h.TTL}, {"LongTTL", h.LongTTL}, {"Cleanup", h.Cleanup}} {
		if name.value < 0 {
			return h, fmt.Errorf("locktest: Harness.%s is %v, want 0 or more", name.field, name.value)
		}
	}
	if h.TTL == 0 {
		h.TTL = time.Second
	}
	if h.Cleanup == 0 {
		h.Cleanup = lock.DefaultReleaseTimeout
	}
	least := max(5*h.Cleanup, 10*h.TTL)
	if h.LongTTL == 0 {
		h.LongTTL = max(30*time.Second, least)
	}
	switch {
	case h.TTL < 20*lock.MinTTL:
		return h, fmt.Errorf("locktest: Harness.TTL is %v, want at least %v", h.TTL, 20*lock.MinTTL)
	case h.LongTTL < least || h.LongTTL > lock.MaxTTL:
		return h, fmt.Errorf("locktest: Harness.LongTTL is %v, want %v (5 times Cleanup, 10 times TTL) to %v", h.LongTTL, least, lock.MaxTTL)
	}
	if h.Advance == nil {
		h.Advance = time.Sleep
	}
	if h.FullKey == nil {
		h.FullKey = func(key string) string { return key }
	}
	for _, name := range h.AllowSkips {
		if !slices.Contains(needs, name) {
			return h, fmt.Errorf("locktest: Harness.AllowSkips has %q, want some of: %s", name, strings.Join(needs, ", "))
		}
	}
	return h, nil
}

// lacks returns the first of a case's needs that h does not meet, or "". What
// the locker itself offers is seen only when the case runs.
func (h *Harness) lacks(want []string) string {
	has := map[string]bool{
		needWrap: h.Wrap != nil, needPeer: h.Peer != nil, needDelay: h.Delay != nil,
		needLoseReply: h.LoseReply != nil, needOutage: h.Outage != nil, needBreak: h.Break != nil,
		needKill: h.Kill != nil, needSkew: h.Skew != nil,
		needCut: h.Cut != nil, needRepeat: h.Repeat != nil, needConflict: h.Conflict != nil,
		needStaleReads: h.StaleReads != nil, needDelete: h.Delete != nil,
	}
	for _, name := range want {
		if !has[name] {
			return name
		}
	}
	return ""
}

func (h *Harness) allowsSkip(name string) bool {
	return h.AllowSkips == nil || slices.Contains(h.AllowSkips, name)
}
