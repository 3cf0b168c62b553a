package redlock

import (
	"crypto/rand"
	"strings"

	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

const (
	// FencePrefix begins the name of every fence counter.
	FencePrefix = "lockkeeper:fence:"
	// StandingPrefix begins the names of the queue of those who wait for a lock: see
	// [Locker.Await].
	StandingPrefix = "lockkeeper:standing:"
	// QueuePrefix begins the name of every queue of clients before direct hand-off.
	QueuePrefix = "lockkeeper:queue:"
	// WakePrefix begins the name of the channel on which a process that waits is
	// notified of grants.
	WakePrefix = "lockkeeper:wake:"
	// AgreedPrefix begins the name of the key in which the clients of a prefix agree on
	// the set of nodes, the quorum and the restart guard.
	AgreedPrefix = "lockkeeper:agreed:"
)

// The names above are repeated, so that go doc shows them. They are those of the scripts,
// or this does not compile: a map can't have one key twice.
var _ = map[bool]struct{}{
	false: {},
	FencePrefix == script.FencePrefix && StandingPrefix == script.StandingPrefix && QueuePrefix == script.QueuePrefix &&
		WakePrefix == script.WakePrefix && AgreedPrefix == script.AgreedPrefix: {},
}

// newValue is a new value of a lock for one attempt: readable, and unguessable.
func newValue(owner string) string { return owner + "/" + rand.Text() }

// holderName is the readable part of a value. A value of another library has
// none, and is not shown: anyone who knows a value can free the lock.
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
