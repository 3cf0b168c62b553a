package locktest

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// What a locker offers is found with lock.As, as its users do.
var optionalCases = []testCase{
	{"ClosedIsErrClosed", nil, closedIsErrClosed},
	{"InspectTellsWhoHolds", nil, inspectTellsWhoHolds},
	{"ListStaysWithinThePrefix", nil, listStaysWithinThePrefix},
	{"ForceReleaseBreaksThatTermOnly", nil, forceReleaseBreaksThatTermOnly},
	{"TokensRiseAcrossForceRelease", nil, tokensRiseAcrossForceRelease},
	{"HealthSeesTheStore", nil, healthSeesTheStore},
	{"HealthSeesAnOutage", []string{needOutage}, healthSeesAnOutage},
}

// offered returns l's optional interface, or skips the case.
func offered[T any](c *check, l lock.Locker, need string) T {
	v, ok := lock.As[T](l)
	if !ok {
		c.skip(need)
	}
	return v
}

func closedIsErrClosed(c *check) {
	closer := offered[io.Closer](c, c.l, needCloser)
	lease := c.acquire(c.l, c.key("held"), c.long())
	if err := closer.Close(); err != nil {
		c.Errorf("Close: %v", err)
	}
	_, err := c.try(c.ctx(), c.l, c.key("k"), c.long())
	if !errors.Is(err, lock.ErrClosed) || errors.Is(err, lock.ErrHeld) || errors.Is(err, lock.ErrUnavailable) {
		c.Errorf("TryAcquire after Close: got %v, want an error matching lock.ErrClosed alone", show(err))
	}
	// What becomes of held leases is the backend's to say, but their methods return.
	wg := c.group()
	wg.Go(func() { _ = lease.Extend(c.ctx(), c.long()) })
	wg.Go(func() { _ = lease.Release(c.ctx()) })
	wg.Go(func() { _ = closer.Close() })
	wg.Wait()
}

// inspectShowsTheLongestTTL finds a store that keeps less than it was asked for, because it
// has a limit of its own or counts in too few bits: nobody can wait for the end of such a ttl.
func inspectShowsTheLongestTTL(c *check, inspector lock.Inspector) {
	key, longest := c.key("long"), lock.MaxTTL
	var lease lock.Lease
	for ; lease == nil; longest /= 2 {
		if longest < c.long() {
			longest = c.long()
		}
		var err error
		if lease, err = c.try(c.ctx(), c.l, key, longest); lease != nil {
			break
		}
		if longest == c.long() || !errors.Is(err, lock.ErrInvalid) { // a backend may refuse what it can't keep
			c.fatalf("TryAcquire for %v: %v", longest, err)
		}
	}
	for _, how := range []string{"acquired", "extended"} {
		var info lock.Info
		err := c.steady(func() (err error) {
			info, err = inspector.Inspect(c.ctx(), key)
			return err
		}, func(err error) bool { return err == nil })
		if least := time.Until(lease.Expiry()) - c.long()/20; err == nil && info.TTL != -1 && info.TTL < least {
			c.Errorf("a lease that was %s for %v is held for %v more, want at least until its Expiry, %v", how, longest, info.TTL, least)
		}
		if how == "acquired" { // from less, so that the hold has to grow
			c.extend(lease, c.long())
			c.extend(lease, longest)
		}
	}
	c.release(lease)
}

func inspectTellsWhoHolds(c *check) {
	inspector := offered[lock.Inspector](c, c.l, needInspector)
	key := c.key("k")
	inspect := func() (info lock.Info) {
		c.Helper()
		err := c.steady(func() (err error) {
			info, err = inspector.Inspect(c.ctx(), key)
			return err
		}, func(err error) bool { return err == nil })
		if err == nil && info.Key != c.h.FullKey(key) {
			c.Errorf("Info.Key = %q, want %q", info.Key, c.h.FullKey(key))
		}
		return info
	}
	if info := inspect(); info.Holder != "" {
		c.Errorf("a free key is held by %q", info.Holder)
	}
	lease := c.acquire(c.other(), key, c.long())
	info := inspect()
	if info.Holder == "" {
		c.Errorf("a held key has no holder, want its name")
	}
	if info.Token != 0 && info.Token != lease.Token() {
		c.Errorf("Info.Token = %d, want the lease's, %d", info.Token, lease.Token())
	}
	if least := time.Until(lease.Expiry()); info.TTL != -1 && (info.TTL < least-c.long()/20 || info.TTL > c.long()+c.long()/20) {
		c.Errorf("Info.TTL = %v with %v of %v left", info.TTL, least, c.long())
	}
	c.extend(lease, c.long()) // looking takes nothing away
	c.release(lease)
	if info := inspect(); info.Holder != "" {
		c.Errorf("a released key is held by %q", info.Holder)
	}
	inspectShowsTheLongestTTL(c, inspector)
}

func listStaysWithinThePrefix(c *check) {
	inspector := offered[lock.Inspector](c, c.l, needInspector)
	prefix := c.key("a*[b]?/")
	for _, err := range inspector.List(c.ctx(), prefix) {
		if errors.Is(err, errors.ErrUnsupported) {
			c.skip(needList) // a store that knows only names which it is asked for
		}
	}
	inside := []string{prefix + "1", prefix + "2", prefix + "\n3", prefix}
	outside := []string{c.key("a"), c.key("axb?/1"), c.key("axb?c/1"), c.key("A*[b]?/1"), c.key("a*[b]?"), "x" + prefix}
	tokens := map[string]uint64{}
	for _, key := range inside {
		tokens[c.h.FullKey(key)] = c.acquire(c.other(), key, c.long()).Token()
	}
	for _, key := range outside {
		c.acquire(c.l, key, c.long())
	}
	c.release(c.acquire(c.l, prefix+"released", c.long()))

	seen := map[string]bool{}
	c.steady(func() error {
		clear(seen)
		for info, err := range inspector.List(c.ctx(), prefix) {
			if err != nil {
				return err
			}
			token, ok := tokens[info.Key]
			switch {
			case !ok:
				c.fatalf("List(%q) has %q, which is free or lies outside", prefix, info.Key)
			case info.Holder == "" || info.Token != 0 && info.Token != token:
				c.Errorf("List has %+v, want a holder and token %d", info, token)
			}
			seen[info.Key] = true
		}
		return nil
	}, func(err error) bool { return err == nil })
	for key := range tokens {
		if !seen[key] {
			c.Errorf("List(%q) lacks %q, which is held", prefix, key)
		}
	}
	for range inspector.List(c.ctx(), prefix) {
		break // stopping early is allowed
	}
}

func forceReleaseBreaksThatTermOnly(c *check) {
	forcer := offered[lock.ForceReleaser](c, c.l, needForceReleaser)
	key := c.key("k")
	force := func(token uint64) error {
		c.Helper()
		return c.steady(func() error { return forcer.ForceRelease(c.ctx(), key, token) },
			func(err error) bool { return err == nil || errors.Is(err, lock.ErrHeld) })
	}
	wantNil := func(err error, what string) {
		c.Helper()
		if err != nil {
			c.Errorf("ForceRelease of %s: %v, want nil", what, err)
		}
	}
	wantNil(force(0), "a free key")

	first := c.acquire(c.other(), key, c.long())
	if err := force(first.Token() + 1); !errors.Is(err, lock.ErrHeld) {
		c.Errorf("ForceRelease of a token that is not the holder's: got %v, want an error matching lock.ErrHeld", show(err))
	}
	c.stillHolds(first, key)
	wantNil(force(first.Token()), "the holder's token")
	second := c.acquire(c.other(), key, c.long())
	if err := force(first.Token()); !errors.Is(err, lock.ErrHeld) {
		c.Errorf("ForceRelease of a term that is over, while another holds: got %v, want an error matching lock.ErrHeld", show(err))
	}
	c.stillHolds(second, key)
	err := c.steady(func() error { return first.Extend(c.ctx(), c.long()) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	c.lost(err, "Extend of a lease that was broken by force")
	_ = first.Release(c.ctx())
	c.stillHolds(second, key)

	wantNil(force(0), "any holder")
	wantNil(force(second.Token()), "a term that is over")
	c.free(key)
}

func tokensRiseAcrossForceRelease(c *check) {
	forcer := offered[lock.ForceReleaser](c, c.l, needForceReleaser)
	key, tokens := c.key("k"), rising{c: c}
	for range 5 {
		tokens.next(c.acquire(c.other(), key, c.long()), "a forced release")
		c.steady(func() error { return forcer.ForceRelease(c.ctx(), key, 0) }, func(err error) bool { return err == nil })
	}
}

func healthSeesTheStore(c *check) {
	checker := offered[lock.HealthChecker](c, c.l, needHealthChecker)
	err := c.steady(func() error {
		health, err := checker.Health(c.ctx())
		switch {
		case err != nil:
			return err
		case len(health.Nodes) == 0 || health.Quorum < 1 || health.Quorum > len(health.Nodes):
			c.fatalf("Health reports %d nodes with a quorum of %d", len(health.Nodes), health.Quorum)
		case !health.HasQuorum():
			return errors.New("no quorum in a store that works")
		}
		return nil
	}, func(err error) bool { return err == nil })
	if err == nil {
		c.free(c.key("k"))
	}
}

func healthSeesAnOutage(c *check) {
	checker := offered[lock.HealthChecker](c, c.l, needHealthChecker)
	c.outage(c.l, true)
	ctx, cancel := context.WithTimeout(context.Background(), c.bound())
	defer cancel()
	if health, err := checker.Health(ctx); err == nil && health.HasQuorum() {
		c.Errorf("Health sees a quorum (%d of %d) while the store can't be reached", health.Voting(), len(health.Nodes))
	}
	c.outage(c.l, false)
	healthSeesTheStore(c)
}
