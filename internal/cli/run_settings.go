package cli

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/lock"
)

func defaultGrace(ttl time.Duration) time.Duration { return ttl / 5 }

// settle completes and checks the settings, before any I/O.
func (r *runner) settle(cmd *cobra.Command) error {
	var err error
	if !cmd.Flags().Changed("ttl") {
		if r.ttl, err = r.a.millisEnv("REDIS_LOCK_TTL_MS", r.ttl); err != nil {
			return err
		}
	}
	if r.ttl < leastTTL {
		return usage("--ttl (REDIS_LOCK_TTL_MS) is %v, want %v or more: in less, a machine that is busy may not start the command, renew the lease and let the guard know of it", r.ttl, leastTTL)
	}
	if err := lock.Check(r.key, r.ttl); err != nil {
		return err
	}
	if !cmd.Flags().Changed("grace") {
		r.grace = defaultGrace(r.ttl)
	}
	if err := r.checkTimes(); err != nil {
		return err
	}
	switch {
	case r.grace < leastGrace:
		return usage("--grace is %v, want %v or more: in less, what is killed may outlive the lease", r.grace, leastGrace)
	case r.wait < 0:
		return usage("--wait is %v, want more than 0", r.wait)
	case r.wait == 0 && cmd.Flags().Changed("wait"): // flock's -w 0 would not wait, others' for ever
		return usage("--wait is 0s, want more than 0; --once does not wait, and without both it waits for as long as it takes")
	case r.once && r.wait > 0:
		return usage("--once and --wait %v are given, want one of them", r.wait)
	case r.once && r.restart:
		return usage("--once and --restart are given, want one of them")
	case r.atLeast < 0:
		return usage("--at-least is %v, want 0 or more", r.atLeast)
	case r.atLeastOn != "always" && r.atLeastOn != "success":
		return usage("--at-least-on is %q, want always or success", r.atLeastOn)
	case r.atLeast == 0 && cmd.Flags().Changed("at-least-on"):
		return usage("--at-least-on is given without --at-least")
	case r.atLeast > 0 && r.restart:
		return usage("--at-least and --restart are given, want one of them")
	case r.restartDelay < 0:
		return usage("--restart-delay is %v, want 0 or more", r.restartDelay)
	case r.slots < 1 || r.slots > lock.MaxSlots:
		return usage("--slots is %d, want 1 to %d", r.slots, lock.MaxSlots)
	}
	if err := r.settleSharing(cmd.Flags().Changed("slots")); err != nil {
		return err
	}
	r.holderFrom = "--holder"
	if !cmd.Flags().Changed("holder") {
		r.holder, r.holderFrom = r.a.getenv("LOCKKEEPER_HOLDER"), "LOCKKEEPER_HOLDER"
	}
	if r.holder != "" || cmd.Flags().Changed("holder") {
		if err := checkHolder(r.holderFrom, r.holder); err != nil {
			return err
		}
	}
	if r.once {
		if r.acquire, err = r.a.onceOptions(); err != nil {
			return err
		}
	}
	return nil
}

// onceOptions are REDIS_RETRY_COUNT and REDIS_RETRY_DELAY_MS.
func (a *app) onceOptions() (lock.AcquireOptions, error) {
	o := lock.AcquireOptions{Attempts: 1}
	if s := a.getenv("REDIS_RETRY_COUNT"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > 1_000_000 {
			return o, usage("REDIS_RETRY_COUNT is %q, want a whole number, 0 to 1000000", s)
		}
		o.Attempts = n + 1
	}
	var err error
	o.Delay, err = a.millisEnv("REDIS_RETRY_DELAY_MS", 200*time.Millisecond)
	return o, err
}
