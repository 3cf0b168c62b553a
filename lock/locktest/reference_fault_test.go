package locktest

import "time"

// What the reference store and its clients do beyond grants, for the faults and for
// ReleaseAfter.

// refSight is what an observer saw of a hold that does not change, and since when.
type refSight struct {
	hold  refHold
	since time.Time
}

// keep lets value's hold end at until, and not earlier.
func (s *refStore) keep(key, client, value string, until time.Time) (kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.name(key, client)
	h, held := s.live(name)
	switch {
	case held && h.value == value, held && s.bug == "ReleaseAfter keeps another's hold":
	case !held && s.bug == "ReleaseAfter revives a lost hold":
		h = refHold{key: key, client: client, value: value, token: s.counts[name]}
	default:
		return false
	}
	switch s.bug {
	case "ReleaseAfter frees at once":
		delete(s.holds, name)
		return true
	case "ReleaseAfter leaves the ttl":
		return true
	case "ReleaseAfter dies with its process":
		h.mortal = true
	case "ReleaseAfter keeps another's hold":
		h.value = value
	}
	h.until = until
	s.holds[name] = h
	return true
}

// bury ends the mortal holds of a client that died.
func (s *refStore) bury(client string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, h := range s.holds {
		if h.client == client && h.mortal {
			delete(s.holds, name)
		}
	}
}

// forget deletes what is kept of key, which is free.
func (s *refStore) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted = max(s.deleted, s.counts[key])
	delete(s.counts, key)
}

// silent reports whether client has seen h unchanged for its ttl, which it wrongly
// counts from when it asked.
func (s *refStore) silent(client string, h refHold, asked time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := client + h.key
	old := s.seen[at]
	if old.hold.value != h.value || old.hold.seq != h.seq {
		s.seen[at] = refSight{h, asked}
		return false
	}
	return time.Since(old.since) >= h.ttl
}

// unseen reports whether client sees a hold of key for the first time.
func (s *refStore) unseen(client, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := client + key
	h, there := s.holds[key]
	_, seen := s.seen[at]
	s.seen[at] = refSight{hold: h}
	return there && !seen
}

func (l *refLocker) isStale() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stale
}
