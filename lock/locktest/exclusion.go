package locktest

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var exclusionCases = []testCase{
	{"AHeldKeyIsRefused", nil, aHeldKeyIsRefused},
	{"TheHolderAskingAgainIsRefused", nil, theHolderAskingAgainIsRefused},
	{"ClientsExcludeEachOther", []string{needPeer}, clientsExcludeEachOther},
	{"ConcurrentAttemptsGrantOne", nil, concurrentAttemptsGrantOne},
	{"TermsNeverOverlap", nil, termsNeverOverlap},
	{"RefusedAttemptsDisturbNothing", nil, refusedAttemptsDisturbNothing},
	{"TryAcquireNeverWaitsForAHolder", nil, tryAcquireNeverWaitsForAHolder},
	{"OtherKeysAreFree", nil, otherKeysAreFree},
	{"ClockStepsKeepExclusion", []string{needSkew}, clockStepsKeepExclusion},
}

func aHeldKeyIsRefused(c *check) {
	key := c.key("k")
	c.acquire(c.l, key, c.long())
	c.refused(c.other(), key)
	c.refused(c.other(), key)
}

func theHolderAskingAgainIsRefused(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	c.refused(c.l, key)
	c.extend(lease, c.long())
	c.refused(c.l, key)
}

func clientsExcludeEachOther(c *check) {
	key, peer := c.key("k"), c.newPeer()
	lease := c.acquire(c.l, key, c.long())
	c.refused(peer, key)
	c.release(lease)
	lease = c.acquire(peer, key, c.long())
	c.refused(c.l, key)
	c.refused(c.newPeer(), key)
	c.release(lease)
	c.free(key)
}

func concurrentAttemptsGrantOne(c *check) {
	key := c.key("k")
	lockers := []lock.Locker{c.l, c.other()}
	for round := range 5 {
		var granted atomic.Int64
		wg := c.group()
		start := make(chan struct{})
		leases := make(chan lock.Lease, 16)
		for i := range 16 {
			wg.Go(func() {
				<-start
				if lease, err := c.try(c.ctx(), lockers[i%2], key, c.long()); err == nil {
					granted.Add(1)
					leases <- lease
				}
			})
		}
		close(start)
		wg.Wait()
		if n := granted.Load(); n > 1 {
			c.fatalf("round %d: %d of 16 attempts at the same time were granted, want at most 1", round, n)
		}
		if len(leases) == 0 {
			c.free(key) // contenders may have split the votes of several nodes
			continue
		}
		c.release(<-leases)
	}
}

// termsNeverOverlap lets workers of two clients fight for one key, release it,
// extend it or let it expire, and checks what they saw.
func termsNeverOverlap(c *check) {
	const workers, grants, leftToExpire = 6, 60, 12
	key := c.key("k")
	lockers := []lock.Locker{c.l, c.other()}
	var h history
	var won atomic.Int64
	deadline := time.Now().Add(c.bound() + 20*c.ttl())
	wg := c.group()
	for i := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i))) //nolint:gosec // repeatable on purpose
			pause := func(most time.Duration) { time.Sleep(time.Duration(random.Int64N(int64(most)))) }
			for won.Load() < grants && time.Now().Before(deadline) {
				granted := h.ask()
				lease, err := c.try(c.ctx(), lockers[i%2], key, c.ttl())
				if err != nil {
					pause(c.ttl() / 25)
					continue
				}
				n := won.Add(1)
				t := granted(lease.Token(), lease.Expiry())
				pause(c.ttl() / 50)
				if n%3 == 0 && lease.Extend(c.ctx(), c.ttl()) == nil {
					// What it promised before it was extended stays promised.
					if expiry := lease.Expiry(); expiry.After(t.expires) {
						t.expires = expiry
					}
				}
				if n%leftToExpire == 0 {
					continue
				}
				t.ended = time.Now()
				_ = lease.Release(c.ctx())
			}
		})
	}
	wg.Wait()
	if n := won.Load(); n < workers {
		c.fatalf("%d workers got the key %d times in all, want progress", workers, n)
	}
	h.verify(c)
}

func refusedAttemptsDisturbNothing(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	token, expiry := lease.Token(), lease.Expiry()
	for range 20 {
		c.refused(c.other(), key)
	}
	if moved := lease.Expiry().Sub(expiry); moved.Abs() > c.ttl()/10 || lease.Token() != token {
		c.Errorf("refused attempts of others changed the lease: expiry by %v, token from %d to %d", moved, token, lease.Token())
	}
	c.extend(lease, c.long())
	c.release(lease)
	c.free(key) // a refused attempt leaves no claim behind
}

func tryAcquireNeverWaitsForAHolder(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	start := time.Now()
	c.refused(c.other(), key)
	if took := time.Since(start); took > c.long()/2 {
		c.Errorf("a refusal took %v of the holder's %v, want an answer at once", took, c.long())
	}
	if time.Now().After(lease.Expiry()) {
		c.Errorf("a refusal came only after the holder's lease had ended")
	}
}

func otherKeysAreFree(c *check) {
	for i := range 10 {
		key := c.key(fmt.Sprintf("k%d", i))
		c.acquire(c.l, key, c.long())
	}
	for i := range 10 {
		c.refused(c.other(), c.key(fmt.Sprintf("k%d", i)))
	}
}

func clockStepsKeepExclusion(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	token := lease.Token()
	c.cleanup(func() { c.h.Skew(c.t, c.l, 0) })
	for _, step := range []time.Duration{time.Hour, -time.Hour, 0} {
		c.h.Skew(c.t, c.l, step)
		c.stillHolds(lease, key)
		c.release(lease)
		lease = c.acquire(c.other(), key, c.long())
		if lease.Token() <= token {
			c.Errorf("token %d after token %d with the store's clock off by %v, want rising tokens", lease.Token(), token, step)
		}
		token = lease.Token()
	}
}
