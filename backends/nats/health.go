package nats

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tonsurance/lockkeeper/lock"
)

// Describe reports on the bucket, as its leader has it, and on the server that this client is
// connected to.
func (s *store) Describe(ctx context.Context) lock.NodeHealth {
	node := lock.NodeHealth{Name: "nats"}
	fact := func(name, value string, measures ...lock.Measure) {
		node.Facts = append(node.Facts, lock.Fact{Name: name, Value: value, Measures: measures})
	}
	warn := func(format string, args ...any) { node.Warnings = append(node.Warnings, fmt.Sprintf(format, args...)) }
	info, err := s.info(ctx)
	if err != nil {
		node.Err = judge(err)
	}
	if s.conn.open(ctx) == nil {
		conn := s.conn.js.Conn()
		version := conn.ConnectedServerVersion()
		if version != "" {
			fact("server", fmt.Sprintf("%s, %s", conn.ConnectedAddr(), version))
		}
		if old(version) {
			warn("the server is %s: want 2.11 or later", version)
		}
	}
	if info == nil {
		return node
	}
	fact("bucket", strings.TrimPrefix(s.stream, "KV_"))
	fact("storage", strings.ToLower(info.Config.Storage.String()))
	fact("replicas", strconv.Itoa(info.Config.Replicas), lock.Measure{Name: "replicas", Value: float64(info.Config.Replicas)})
	// No client can see it: it is a setting of the servers.
	fact("sync_interval", "not visible to clients, must be always")
	if info.Cluster != nil && info.Config.Replicas > 1 {
		fact("leader", info.Cluster.Leader)
		for _, r := range info.Cluster.Replicas {
			switch {
			case r.Offline:
				warn("replica %s is offline", r.Name)
			case r.Current:
				fact("replica "+r.Name, "current")
			default: // for a moment, or for long
				fact("replica "+r.Name, fmt.Sprintf("%d operations behind", r.Lag))
			}
		}
	}
	switch n := info.Config.Replicas; {
	case n < 3:
		warn("the bucket has %d of 3 replicas: when its server is away no lock can be had, and when its disk is lost all are forgotten", n)
	case n%2 == 0:
		warn("%d replicas survive no more failures than %d", n, n-1)
	}
	if info.Config.Storage == jetstream.MemoryStorage {
		warn("the bucket is in memory: a restart of its servers forgets all locks")
	}
	full := func(what string, has uint64, most int64) {
		if most > 0 && int64(has) >= most-most/10 {
			warn("the bucket has %d of %d %s: a full one refuses new keys; raise its limit, or prune", has, most, what)
		}
	}
	full("messages", info.State.Msgs, info.Config.MaxMsgs)
	full("bytes", info.State.Bytes, info.Config.MaxBytes)
	if err := s.fit(info.Config); err != nil && node.Err == nil {
		node.Err = err
	}
	return node
}

// old reports whether a version is before 2.11, whose handling of revisions is not that of
// the servers that this was tried with.
func old(version string) bool {
	var major, minor int
	n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor)
	return n == 2 && (major < 2 || major == 2 && minor < 11)
}
