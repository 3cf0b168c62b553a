package locktest

import (
	"errors"

	"github.com/tonsurance/lockkeeper/lock"
)

// These cases run lock.Prefix over the locker, and see through the locker itself
// what its keys are in the store.
var prefixCases = []testCase{
	{"APrefixedKeyIsTheFullName", nil, aPrefixedKeyIsTheFullName},
	{"PrefixesKeepKeysApart", nil, prefixesKeepKeysApart},
	{"WatchHearsOfTheFullName", nil, watchHearsOfTheFullName},
	{"InspectAndListTellOfTheFullName", nil, inspectAndListTellOfTheFullName},
	{"ForceReleaseBreaksTheFullName", nil, forceReleaseBreaksTheFullName},
}

func aPrefixedKeyIsTheFullName(c *check) {
	prefix := c.key("tenant:")
	short, full := "k", prefix+"k"
	outer := lock.Prefix(lock.Prefix(c.l, prefix[:5]), prefix[5:])
	for _, l := range []lock.Locker{lock.Prefix(c.l, prefix), outer} {
		lease := c.acquire(c.other(), full, c.long())
		err := c.refused(l, short)
		if held, ok := errors.AsType[*lock.HeldError](err); ok && held.Key != c.h.FullKey(full) {
			c.Errorf("HeldError.Key = %q, want %q", held.Key, c.h.FullKey(full))
		}
		c.release(lease)

		c.steady(func() error {
			var err error
			lease, err = c.try(c.ctx(), l, short, c.long())
			return err
		}, func(err error) bool { return err == nil })
		if lease.Key() != c.h.FullKey(full) {
			c.Errorf("lease.Key() = %q, want %q", lease.Key(), c.h.FullKey(full))
		}
		c.stillHolds(lease, full)
		c.release(lease)
		c.free(full)
	}
}

func prefixesKeepKeysApart(c *check) {
	a, b := lock.Prefix(c.l, c.key("a:")), lock.Prefix(c.l, c.key("b:"))
	var leases []lock.Lease
	for _, l := range []lock.Locker{a, b} {
		c.steady(func() error {
			lease, err := c.try(c.ctx(), l, "k", c.long())
			if err == nil {
				leases = append(leases, lease)
			}
			return err
		}, func(err error) bool { return err == nil })
	}
	c.free(c.key("k"))
	c.stillHolds(leases[0], c.key("a:k"))
}

func watchHearsOfTheFullName(c *check) {
	prefix := c.key("tenant:")
	wake := make(chan struct{}, 1)
	l := lock.Prefix(c.l, prefix)
	lease := c.acquire(c.other(), prefix+"k", c.long())
	c.watch(c.ctx(), l, "k", wake)
	c.release(lease)
	c.awake(wake, l, "k", "a release under the full name")
}

func inspectAndListTellOfTheFullName(c *check) {
	prefix := c.key("tenant:")
	l := lock.Prefix(c.l, prefix)
	inspector := offered[lock.Inspector](c, l, needInspector)
	tokens := map[string]uint64{}
	for _, key := range []string{prefix + "k", prefix + "kk"} {
		tokens[c.h.FullKey(key)] = c.acquire(c.other(), key, c.long()).Token()
	}
	for _, key := range []string{"k" + prefix, prefix + "j", c.key("k")} { // outside
		c.acquire(c.other(), key, c.long())
	}
	same := func(info lock.Info) {
		c.Helper()
		token, ok := tokens[info.Key]
		if !ok || info.Holder == "" || info.Token != 0 && info.Token != token {
			c.Errorf("got %+v, want a holder of one of %v", info, tokens)
		}
	}
	c.steady(func() error {
		info, err := inspector.Inspect(c.ctx(), "k")
		if err == nil {
			same(info)
		}
		return err
	}, func(err error) bool { return err == nil })
	seen := map[string]bool{}
	c.steady(func() error {
		for info, err := range inspector.List(c.ctx(), "k") {
			if err != nil {
				return err
			}
			same(info)
			seen[info.Key] = true
		}
		return nil
	}, func(err error) bool { return err == nil })
	if len(seen) != len(tokens) {
		c.Errorf("List has %v, want %v", seen, tokens)
	}
}

func forceReleaseBreaksTheFullName(c *check) {
	prefix := c.key("tenant:")
	forcer := offered[lock.ForceReleaser](c, lock.Prefix(c.l, prefix), needForceReleaser)
	lease := c.acquire(c.other(), prefix+"k", c.long())
	bystander := c.acquire(c.other(), c.key("k"), c.long())
	c.steady(func() error { return forcer.ForceRelease(c.ctx(), "k", lease.Token()) }, func(err error) bool { return err == nil })
	err := c.steady(func() error { return lease.Extend(c.ctx(), c.long()) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	c.lost(err, "Extend of a lease that was broken through a prefix")
	c.stillHolds(bystander, c.key("k"))
}
