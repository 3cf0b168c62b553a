package cli

import (
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

// shares: the key has readers and writers.
func (r *runner) shares() bool { return r.shared || r.exclusive }

// settleSharing checks --shared and --exclusive beside the other flags.
func (r *runner) settleSharing(slots bool) error {
	switch {
	case r.shared && r.exclusive:
		return usage("--shared and --exclusive are given, want one of them")
	case r.exclusive && slots:
		return usage("--exclusive and --slots %d are given: a writer is alone, want --slots with --shared, or with neither", r.slots)
	case r.shared && slots && r.slots > rwlock.MaxReaders:
		return usage("--slots is %d, want 1 to %d with --shared", r.slots, rwlock.MaxReaders)
	case r.shares() && r.atLeast > 0:
		// Others may read all the same; and what a writer has are 17 locks, which a store
		// would have to keep without it.
		mode := "exclusive"
		if r.shared {
			mode = "shared"
		}
		return usage("--at-least %v: what --shared and --exclusive hold ends with the command; keep another key for that long around it, as in: lockkeeper run %s --once --at-least %v --keep-credentials -- lockkeeper run --%s %s -- ./command",
			r.atLeast, quoted(r.key+"-once"), r.atLeast, mode, quoted(r.key))
	case r.shared && !slots:
		r.slots = rwlock.MaxReaders
	}
	return nil
}

// sharing is the store as this command takes its key in it.
func (r *runner) sharing(l lock.Locker) (lock.Locker, error) {
	if !r.shares() {
		if r.slots > 1 {
			l = lock.Semaphore(l, r.slots)
		}
		return l, nil
	}
	rw, err := rwlock.New(l, r.slots)
	switch {
	case err != nil:
		return nil, err
	case r.shared:
		return rw.Readers(), nil
	}
	return rw.Writer(), nil
}

// nameOf is the key that lease is of, for the command: that which it was asked for, and not
// a reader's place, because the token is not the place's.
func (r *runner) nameOf(lease lock.Lease) string {
	if r.shares() {
		return r.key
	}
	return lease.Key() // with the slot
}

// describe is the hold for people.
func (r *runner) describe(lease lock.Lease) string {
	switch {
	case r.shared:
		return r.key + " as a reader"
	case r.exclusive:
		return r.key + " as the writer"
	}
	return lease.Key()
}
