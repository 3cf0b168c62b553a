package script

import "strings"

// What the names of keys and channels begin with.
const (
	FencePrefix = "lockkeeper:fence:" // of fence counters
	QueuePrefix = "lockkeeper:queue:" // of the queues of clients before direct hand-off
	// StandingPrefix begins the names of the queue of a lock: the waiters, and what each
	// of them asked for.
	StandingPrefix = "lockkeeper:standing:"
	askedPrefix    = StandingPrefix + "asked:"
	WakePrefix     = "lockkeeper:wake:"   // of the channel on which a process is notified of grants
	AgreedPrefix   = "lockkeeper:agreed:" // of what the clients of a prefix agree on
)

// Keys are the two names that one lock has on each node.
type Keys struct {
	Lock  string // prefix + key: the holder's value, a plain string
	Fence string // the fence counter, a hash in the same hash slot
}

// NewKeys names the lock and its counter. oneSlot is false if the two can't be in
// one hash slot of a Redis Cluster.
func NewKeys(prefix, key string) (k Keys, oneSlot bool) {
	k.Lock = prefix + key
	tag, oneSlot := hashTag(k.Lock)
	// A tag has no closing brace, so the first one ends it: two locks never share
	// a counter.
	k.Fence = FencePrefix + "{" + tag + "}" + k.Lock
	return k, oneSlot
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
