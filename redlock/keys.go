package redlock

import (
	"crypto/rand"
	"strings"
)

const (
	// FencePrefix begins the name of every fence counter.
	FencePrefix = "lockkeeper:fence:"
	// QueuePrefix begins the name of every queue of waiters. scripts/release.lua has
	// it, too.
	QueuePrefix = "lockkeeper:queue:"
	// WakePrefix begins the name of the channel on which a waiting process is told
	// that it is next. scripts/release.lua has it, too.
	WakePrefix = "lockkeeper:wake:"
)

// keys are the two names that one lock has on each node.
type keys struct {
	lock  string // prefix + key: the holder's value, a plain string
	fence string // the fence counter, a hash in the same hash slot
}

// newKeys names the lock and its counter. oneSlot is false if the two can't be in
// one hash slot of a Redis Cluster.
func newKeys(prefix, key string) (k keys, oneSlot bool) {
	k.lock = prefix + key
	tag, oneSlot := hashTag(k.lock)
	// A tag has no closing brace, so the first one ends it: two locks never share
	// a counter.
	k.fence = FencePrefix + "{" + tag + "}" + k.lock
	return k, oneSlot
}

// queue names the lock and its queue of waiters: a sorted set in the same hash slot
// as the counter.
func (k keys) queue() keys {
	return keys{lock: k.lock, fence: QueuePrefix + strings.TrimPrefix(k.fence, FencePrefix)}
}

// hashTag gives what a Redis Cluster hashes of a key (Redis Cluster
// specification, "Hash tags"): what is between the first { and the next }, if it
// is not empty, else the whole key, which can itself be a tag only without a }.
func hashTag(key string) (tag string, ok bool) {
	if _, after, found := strings.Cut(key, "{"); found {
		if tag, _, found := strings.Cut(after, "}"); found && tag != "" {
			return tag, true
		}
	}
	if strings.Contains(key, "}") {
		return "", false
	}
	return key, true
}

// newValue is a new value of a lock for one attempt: readable, and unguessable.
func newValue(owner string) string { return owner + "/" + rand.Text() }

// holderName is the readable part of a value. A value of another library has
// none, and is not shown: whoever knows a value can free the lock.
func holderName(value string) string {
	i := strings.LastIndexByte(value, '/')
	if i > 0 && len(value)-i-1 == randomLen && strings.Trim(value[i+1:], base32) == "" {
		return value[:i]
	}
	return foreign
}

const (
	foreign   = "another client (not lockkeeper)"
	base32    = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" // of crypto/rand.Text
	randomLen = 26
)
