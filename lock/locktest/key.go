package locktest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var keyCases = []testCase{
	{"AnyNameWorks", nil, anyNameWorks},
	{"NamesNeverShareALock", nil, namesNeverShareALock},
	{"LongNamesDifferInTheLastByte", nil, longNamesDifferInTheLastByte},
	{"ManyNamesNeverCollide", nil, manyNamesNeverCollide},
	{"BadKeysAreInvalid", nil, badKeysAreInvalid},
	{"BadTTLsAreInvalid", nil, badTTLsAreInvalid},
	{"ABadTTLOnExtendIsInvalid", nil, aBadTTLOnExtendIsInvalid},
	{"InvalidInputIsNotSent", []string{needOutage}, invalidInputIsNotSent},
}

// names are keys that stores have got wrong; p keeps them apart from other
// cases'. Many are pairs that differ where some store does not look.
func names(p string) []string {
	list := []string{
		".", "..", "/", "//", "*", "?", "-", "~", "%", "%2F", "{}", "}{", "\x00", " ", "\n", // the whole name
		p, p + " ", " " + p, p + "\n", "\n" + p, p + "\r\n", p + "\t", p + "\x00", p + "\x00a", p + "\x00b",
		p + "/", p + "//", "/" + p, p + "/a", p + "//a", p + "/./a", p + "/../a", p + "/..", p + "/.", p + "\\", p + "\\a",
		p + ".", p + "..", p + ".a", "." + p, "../" + p, "../../../../tmp/" + p,
		p + "*", p + "?", p + "[a]", p + "[ab]", p + "{a}", p + "{b}", "{" + p + "}", "{" + p, p + "}", "{}" + p,
		p + "a", p + "A", p + "ab", p + "aB", p + "b", p + "worker-1", p + "worker-10", // case and prefix pairs
		p + "%", p + "%2F", p + "%2f", p + "%25", p + "+", p + "&a=b", p + "#a", p + ":", p + "::", p + ":a", p + "=", p + ",",
		p + "'", p + "''", p + "\"", p + "`", p + "$(a)", p + ";", p + "--", p + "$1", p + "%s", p + "_", p + "-",
		p + "\u00e9", p + "e\u0301", // é composed and not: equal after normalisation
		p + "\u212b", p + "\u00c5", p + "A\u030a", // the same for Å, three ways
		p + "\ufb01", p + "fi", p + "\u017f", p + "s", p + "\u212a", p + "k", p + "K", p + "\u00df", p + "ss", // compatibility and case folding
		p + "\u0130", p + "i", p + "I", p + "\u0131", p + "\u200b", p + "\u202e", p + "\ufeff", "\ufeff" + p, p + "\ufffd",
		p + "\U0001f512", p + "\U0001f513", p + "0", p + "00", p + "1", p + "01", p + "1.0", p + "1e0",
		p + "CON", p + "nul", p + "\x7f", p + "\x1b[31m",
	}
	return list
}

func anyNameWorks(c *check) {
	for _, key := range names(c.prefix) {
		lease := c.acquire(c.l, key, c.long())
		if want := c.h.FullKey(key); lease.Key() != want {
			c.Errorf("lease.Key() = %q, want %q", lease.Key(), want)
		}
		c.refused(c.other(), key)
		c.extend(lease, c.long())
		token := lease.Token()
		c.release(lease)
		lease = c.acquire(c.other(), key, c.long())
		if lease.Token() <= token {
			c.Errorf("%q: token %d after token %d, want a larger one", key, lease.Token(), token)
		}
		c.release(lease)
	}
}

func namesNeverShareALock(c *check) {
	list := names(c.prefix)
	var leases []lock.Lease
	for _, key := range list {
		leases = append(leases, apart(c, key, list[:len(leases)]))
	}
	for i, lease := range leases { // releasing one frees no other
		if i%2 == 0 {
			c.release(lease)
		}
	}
	for i, key := range list {
		if i%2 == 1 {
			c.refused(c.other(), key)
		}
	}
}

// apart acquires key while others are held, and reports when one of them is why
// it can't.
func apart(c *check, key string, held []string) lock.Lease {
	c.Helper()
	var lease lock.Lease
	err := c.steady(func() (err error) {
		lease, err = c.try(c.ctx(), c.l, key, c.long())
		return err
	}, func(err error) bool { return !errors.Is(err, lock.ErrUnavailable) })
	if err == nil {
		return lease
	}
	if !errors.Is(err, lock.ErrHeld) {
		c.fatalf("TryAcquire of %.60q: %v", key, err)
	}
	shown := held
	if len(shown) > 3 {
		shown = shown[len(shown)-3:]
	}
	c.fatalf("%.60q shares a lock with one of the %d names held (the last of them: %.200q): %v", key, len(held), shown, err)
	return nil
}

// longest is the length of the longest key that can go in.
func (c *check) longest() int { return lock.MaxKeyLen - (len(c.h.FullKey("k")) - 1) }

func longNamesDifferInTheLastByte(c *check) {
	fill := strings.Repeat("x", c.longest()-len(c.prefix)-1)
	wide := strings.Repeat("\u00e9", (c.longest()-len(c.prefix))/2-1)
	var held []string
	for _, key := range []string{
		c.prefix + fill + "a", c.prefix + fill + "b", c.prefix + fill + "/", c.prefix + fill,
		c.prefix + wide + "\u00e9", c.prefix + wide + "\u00e8", c.prefix + wide,
		c.prefix + strings.Repeat("/", len(fill)), c.prefix + strings.Repeat("/", len(fill)-1), c.prefix + strings.Repeat("\x00", len(fill)),
	} {
		lease := apart(c, key, held)
		if want := c.h.FullKey(key); lease.Key() != want {
			c.Errorf("a key of %d bytes came back as one of %d bytes", len(want), len(lease.Key()))
		}
		held = append(held, key)
	}
	for _, key := range held {
		c.refused(c.other(), key)
	}
}

// manyNamesNeverCollide holds so many keys that a short hash (16 bits) in place
// of the name would show for sure.
func manyNamesNeverCollide(c *check) {
	const workers, each = 8, 150
	wg := c.group()
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				key := c.key(fmt.Sprintf("%d-%d", w, i))
				deadline := time.Now().Add(c.bound())
				for {
					_, err := c.try(c.ctx(), c.l, key, c.long())
					if err == nil {
						break
					}
					if errors.Is(err, lock.ErrUnavailable) && time.Now().Before(deadline) {
						time.Sleep(c.poll())
						continue
					}
					c.Errorf("%q, which nobody holds, while up to %d others are held: %v", key, workers*each-1, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

var badKeys = map[string]string{
	"empty":                           "",
	"one byte too long":               strings.Repeat("k", lock.MaxKeyLen+1),
	"one byte too long, of two-bytes": strings.Repeat("\u00e9", lock.MaxKeyLen/2) + "k",
	"much too long":                   strings.Repeat("k", 1<<20),
	"invalid UTF-8":                   "k\xff",
	"half a character":                "k\xc3",
	"a surrogate":                     "k\xed\xa0\x80",
	"an overlong NUL":                 "k\xc0\x80",
}

func badTTLs(c *check) []time.Duration {
	return []time.Duration{0, -1, -time.Second, -c.long(), lock.MinTTL - 1, 1, lock.MaxTTL + 1, 1<<63 - 1, -1 << 63}
}

// invalid checks that err is about the input.
func (c *check) invalid(err error, what string, args ...any) {
	c.Helper()
	if !errors.Is(err, lock.ErrInvalid) {
		c.Errorf("%s: got %v, want an error matching lock.ErrInvalid", fmt.Sprintf(what, args...), show(err))
	}
}

func badKeysAreInvalid(c *check) {
	for what, key := range badKeys {
		if key == "" && c.h.FullKey("") != "" {
			continue // a prefix of its own makes it a name
		}
		_, err := c.try(c.ctx(), c.l, key, c.long())
		c.invalid(err, "a key that is %s", what)
		if err != nil && len(err.Error()) > 1<<10 {
			c.Errorf("the error about a key that is %s has %d bytes, want the input cut", what, len(err.Error()))
		}
	}
}

func badTTLsAreInvalid(c *check) {
	held, free := c.key("held"), c.key("free")
	lease := c.acquire(c.l, held, c.long())
	for _, ttl := range badTTLs(c) {
		for _, key := range []string{held, free} {
			_, err := c.try(c.ctx(), c.l, key, ttl)
			c.invalid(err, "a ttl of %v", ttl)
		}
	}
	c.stillHolds(lease, held)
	c.free(free)
}

func aBadTTLOnExtendIsInvalid(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	before := lease.Expiry()
	for _, ttl := range badTTLs(c) {
		err := lease.Extend(c.ctx(), ttl)
		c.invalid(err, "Extend by %v", ttl)
		wantUnchanged(c, lease, before, err)
	}
	c.stillHolds(lease, key)
}

func invalidInputIsNotSent(c *check) {
	lease := c.acquire(c.l, c.key("k"), c.long())
	c.outage(c.l, true)
	for what, key := range badKeys {
		if key != "" {
			_, err := c.try(c.ctx(), c.l, key, c.long())
			c.invalid(err, "a key that is %s, while the store can't be reached", what)
		}
	}
	for _, ttl := range badTTLs(c) {
		_, err := c.try(c.ctx(), c.l, c.key("free"), ttl)
		c.invalid(err, "a ttl of %v, while the store can't be reached", ttl)
		c.invalid(lease.Extend(c.ctx(), ttl), "Extend by %v, while the store can't be reached", ttl)
	}
}
