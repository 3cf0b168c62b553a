package locktest

import (
	"crypto/sha256"
	"path"
	"strings"
	"sync"
	"time"
)

// bug names one mistake that the reference locker makes on purpose; "" makes none.
type bug string

// refStore is what all clients share. Its requests are applied when a quarter of the
// delay has passed.
type refStore struct {
	bug bug

	mu      sync.Mutex // guards all below
	holds   map[string]refHold
	counts  map[string]uint64
	deleted uint64          // the largest count of a record that was deleted
	dead    map[string]bool // values whose attempt was given up: their requests may come yet
	seen    map[string]refSight
	watches map[*refWatch]struct{}
	waits   map[string][]*refWait // first come, first served
	skew    time.Duration
	raised  map[string]bool // counts that go with their hold
}

type refHold struct {
	key, value, client string
	token              uint64
	until              time.Time
	ttl                time.Duration
	mortal             bool // it ends with its client
	seq                int  // counts renewals
}

func newRefStore(b bug) *refStore {
	return &refStore{bug: b, holds: map[string]refHold{}, counts: map[string]uint64{}, dead: map[string]bool{}, seen: map[string]refSight{}, watches: map[*refWatch]struct{}{}, waits: map[string][]*refWait{}}
}

// name is where key's hold is kept.
func (s *refStore) name(key, client string) string {
	switch s.bug {
	case "clients have separate stores":
		return client + key
	case "one lock for all keys":
		return "k"
	case "case-folds keys":
		return strings.ToLower(key)
	case "cleans keys as paths":
		return path.Clean(key)
	case "trims keys":
		return strings.TrimSpace(key)
	case "ends keys at NUL":
		name, _, _ := strings.Cut(key, "\x00")
		return name
	case "compares keys by prefix":
		for name := range s.holds {
			if strings.HasPrefix(key, name) || strings.HasPrefix(name, key) {
				return name
			}
		}
	case "cuts keys at 255 bytes":
		return key[:min(len(key), 255)]
	case "hashes keys to 16 bits":
		sum := sha256.Sum256([]byte(key))
		return string(sum[:2])
	case "composes accents":
		return strings.NewReplacer("e\u0301", "\u00e9", "\u212b", "\u00c5").Replace(key)
	case "flattens slashes":
		return strings.ReplaceAll(key, "/", "_")
	}
	return key
}

func (s *refStore) now() time.Time {
	if s.bug == "the store goes by its wall clock" {
		return time.Now().Add(s.skew)
	}
	return time.Now()
}

// live returns the present hold. mu is held.
func (s *refStore) live(name string) (refHold, bool) {
	h, ok := s.holds[name]
	if ok && s.bug != "never expires" && !s.now().Before(h.until) {
		delete(s.holds, name)
		if s.bug == "counts afresh after expiry" {
			delete(s.counts, name)
		}
		return h, false
	}
	return h, ok
}

func (s *refStore) grant(key, client, value string, ttl time.Duration) (refHold, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.name(key, client)
	h, held := s.live(name)
	switch {
	case !s.dead[value], s.bug == "late attempts are granted":
	case s.bug == "a late attempt takes the key":
		held = false
	default:
		return refHold{}, false
	}
	if s.bug != "a key that has a queue is anybody's" && s.bug != "nobody is handed the key" && !held && len(s.waits[name]) > 0 && !s.dead[value] {
		s.passOn(name)
		h, held = s.live(name)
	}
	if held && h.value == value && s.bug != "a doubled request is refused by itself" {
		return h, true // it was sent twice
	}
	switch {
	case s.bug == "grants held keys", s.bug == "reentrant" && h.client == client:
		held = false
	case s.bug == "checks, then sets":
		s.mu.Unlock()
		time.Sleep(time.Microsecond)
		s.mu.Lock()
	case s.bug == "a refusal robs the holder" && held:
		h.value = "?"
		s.holds[name] = h
	case s.bug == "a refusal counts afresh" && held:
		delete(s.counts, name)
	}
	if held {
		return h, false
	}
	count := name
	if s.bug == "counts for each client" {
		count = client + name
	}
	if s.bug == "keeps counts among the keys" {
		delete(s.counts, strings.TrimSuffix(name, ":fence"))
	}
	if s.bug != "counts afresh once its record is deleted" {
		s.counts[count] = max(s.counts[count], s.deleted)
	}
	s.unraise(count)
	if s.bug != "token 0" {
		s.counts[count]++
	}
	h = refHold{key: key, client: client, value: value, token: s.counts[count], ttl: ttl}
	h.until = s.now().Add(s.storeTTL(ttl))
	s.holds[name] = h
	return h, true
}

func (s *refStore) storeTTL(ttl time.Duration) time.Duration {
	switch s.bug {
	case "the store rounds ttls down to seconds":
		return max(ttl.Truncate(time.Second), time.Second)
	case "the store rounds ttls up to seconds":
		return (ttl + time.Second - 1).Truncate(time.Second)
	case "the store keeps half the ttl":
		return ttl / 2
	case "the store caps ttls at 10s":
		return min(ttl, 10*time.Second)
	case "the store caps ttls at an hour":
		return min(ttl, time.Hour)
	case "the store counts ttls in 31 bits":
		return time.Duration(uint32(ttl.Milliseconds())&(1<<31-1)) * time.Millisecond
	}
	return ttl
}

// extend reports whether value still holds key.
func (s *refStore) extend(key, client, value string, ttl time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.name(key, client)
	h, held := s.live(name)
	switch {
	case held && h.value == value, held && s.bug == "extends another's hold":
	case !held && (s.bug == "a late extend revives" || s.bug == "extend takes a free key" || s.bug == "extend revives a released lease" || s.bug == "extend ignores a Release under way"):
		h = refHold{key: key, client: client, value: value, token: s.counts[name]}
	default:
		return false
	}
	if s.bug != "extend is local only" {
		from := s.now()
		if s.bug == "extend adds to the old end" {
			from = h.until
		}
		for bug, most := range map[bug]time.Duration{"the store caps extensions at 10s": 10 * time.Second, "the store caps extensions at an hour": time.Hour} {
			if s.bug == bug {
				ttl = min(ttl, most)
			}
		}
		h.until = from.Add(s.storeTTL(ttl))
		h.seq++
		s.holds[name] = h
	}
	return true
}

// remove takes value's hold away, or any if value is "".
func (s *refStore) remove(key, client, value string) (removed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.name(key, client)
	h, held := s.live(name)
	if !held || value != "" && h.value != value {
		return false
	}
	delete(s.holds, name)
	if s.bug == "counts afresh after release" && value != "" || s.bug == "counts afresh after a loss" && value == "" {
		delete(s.counts, name)
	}
	if s.bug != "no wake on release" {
		s.wake(key)
	}
	if s.bug != "a key that has a queue is anybody's" && s.bug != "nobody is handed the key" {
		s.passOn(name)
	}
	return true
}
