package keepalive

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// outages are those under way, in which renewals fail: one for each logger, however many
// leases write to it, so that an operator reads of an outage when it begins and when it
// ends.
var outages = struct {
	sync.Mutex // guards all below; taken after a Keeper's
	of         map[*slog.Logger]*outage
}{of: map[*slog.Logger]*outage{}}

type outage struct {
	since     time.Time
	failing   int // keepers whose last try failed
	recovered int // keepers that have renewed again
}

// failed counts k in its logger's outage, and reports whether that begins with it.
// k.mu is held.
func (k *Keeper) failed() (begins bool) {
	if k.outage != nil || !k.opts.log.Enabled(context.Background(), slog.LevelWarn) {
		return false
	}
	outages.Lock()
	defer outages.Unlock()
	o := outages.of[k.opts.log]
	if o == nil {
		o = &outage{since: time.Now()}
		outages.of[k.opts.log] = o
		begins = true
	}
	o.failing++
	k.outage = o
	return begins
}

// leaveOutage takes k out of its outage: it has renewed again, or it is over. It
// returns what to log if the outage ends with that. k.mu is held.
func (k *Keeper) leaveOutage(recovered bool) (log func()) {
	o := k.outage
	if o == nil {
		return nil
	}
	k.outage = nil
	outages.Lock()
	defer outages.Unlock()
	o.failing--
	if recovered {
		o.recovered++
	}
	if o.failing > 0 {
		return nil
	}
	delete(outages.of, k.opts.log)
	if o.recovered == 0 {
		return nil // all were lost, which is logged of each, or released
	}
	leases, took := o.recovered, time.Since(o.since)
	return func() {
		k.opts.log.Info("renewed again", "key", k.Key(), "token", k.Token(), "leases", leases, "after", took)
	}
}

// overdue logs that a function of Do runs on although its lease is lost. (Package leader
// does so by Elector.watch.)
type overdue struct {
	after time.Duration // the time that it has to return
	log   func()

	mu       sync.Mutex // guards all below
	timer    *time.Timer
	returned bool
}

// lost starts the time that the function has to return.
func (o *overdue) lost() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.returned {
		o.timer = time.AfterFunc(o.after, o.log)
	}
}

// done says that the function has returned: nothing is logged from here on.
func (o *overdue) done() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.returned = true
	if o.timer != nil {
		o.timer.Stop()
	}
}
