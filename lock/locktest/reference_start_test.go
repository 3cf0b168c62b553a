package locktest

import (
	"context"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var _ lock.ExtendStarter = (*refLease)(nil)

// StartExtend extends in a goroutine, which ends with the extend.
func (r *refLease) StartExtend(ttl, margin time.Duration, done lock.ExtendDone) bool {
	b := r.l.bug
	if b == "the margin of a started extend is ignored" {
		margin = 0
	}
	r.mu.Lock()
	refused := lock.Check(r.key, ttl) != nil || r.releasing || r.expired() || time.Until(r.expiry) <= margin || r.stopStarted != nil
	old := r.expiry
	if refused && b != "what Extend refuses is started" {
		r.mu.Unlock()
		if b == "an extend that is not started calls done" {
			done.Extended(time.Time{}, lock.ErrLost)
		}
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stopStarted = cancel
	r.mu.Unlock()
	go func() {
		defer cancel()
		var err error
		switch b {
		case "a started extend sends nothing":
			r.mu.Lock()
			r.expiry = time.Now().Add(ttl)
			r.mu.Unlock()
		default:
			err = r.Extend(ctx, ttl)
		}
		stopped := ctx.Err() != nil
		r.mu.Lock()
		r.stopStarted = nil
		expiry, released, lost := r.expiry, r.releasing, r.lost
		r.mu.Unlock()
		switch {
		case b == "a started extend of a taken hold is an outage" && lost:
			err = fmt.Errorf("%w: connection reset", lock.ErrUnavailable)
		case b == "a started extend in an outage is a loss" && err != nil && !lost,
			b == "a stopped extend is a loss" && stopped:
			err = fmt.Errorf("%w: %q", lock.ErrLost, r.key)
		case b == "a started extend reports the old Expiry":
			expiry = old
		case b == "a started extend is forgotten at the release" && released:
			return
		case b == "a started extend is applied after the release" && released:
			time.AfterFunc(250*time.Millisecond, func() { r.l.store.grant(r.key, r.l.id, r.value, ttl) })
		}
		if err != nil {
			expiry = time.Time{}
		}
		done.Extended(expiry, err)
		if b == "a started extend reports twice" {
			done.Extended(expiry, err)
		}
	}()
	return true
}

func (r *refLease) StopExtend() {
	r.mu.Lock()
	stop := r.stopStarted
	r.mu.Unlock()
	if stop != nil && r.l.bug != "StopExtend does nothing" {
		stop()
	}
}
