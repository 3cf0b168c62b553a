package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// SentinelSet is a primary with a replica, and the Sentinels that watch them.
type SentinelSet struct {
	Primary, Replica *Server // as they were at first
	Sentinels        []*Server
}

// Silence is what Sentinels and the servers of a Cluster take for death: longer than a busy
// machine keeps a server from its processor, which would be a fail-over that no test wants.
const Silence = 3 * time.Second

// MasterSet is the name under which Sentinels of this package know their primary.
const MasterSet = "lockset"

// StartSentinels runs a primary, a replica and n Sentinels, most of which must agree to
// a fail-over. They take [Silence] for death. args are options of primary
// and replica, conf lines of the Sentinels' configuration. It returns when the Sentinels
// know each other and the replica.
func StartSentinels(t testing.TB, n int, args, conf []string) *SentinelSet {
	t.Helper()
	primary := Start(t, args...)
	replica := Start(t, append([]string{"--replicaof", "127.0.0.1", fmt.Sprint(primary.Port())}, args...)...)
	primary.Do("CONFIG", "SET", "repl-diskless-sync-delay", "0")
	replica.await("the replica's link", "INFO", "replication", "master_link_status:up")
	set := &SentinelSet{Primary: primary, Replica: replica}
	for range n {
		set.Sentinels = append(set.Sentinels, begin(t, FreePort, func(base string) []string {
			lines := append([]string{
				fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d %d", MasterSet, primary.Port(), n/2+1),
				"sentinel down-after-milliseconds " + MasterSet + " " + strconv.FormatInt(Silence.Milliseconds(), 10),
				"sentinel failover-timeout " + MasterSet + " 2000",
			}, conf...)
			path := filepath.Join(base, "sentinel.conf") // it keeps its state there
			if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
				t.Fatalf("redistest: %v", err)
			}
			return []string{path, "--sentinel"}
		}, nil))
	}
	for _, s := range set.Sentinels {
		s.await("Sentinels that know each other", "INFO", "sentinel", fmt.Sprintf("slaves=1,sentinels=%d", n))
	}
	return set
}

// AwaitPrimary returns when every Sentinel says that s is the primary.
func (set *SentinelSet) AwaitPrimary(s *Server) {
	s.t.Helper()
	for _, sentinel := range set.Sentinels {
		sentinel.await("another primary", "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterSet, fmt.Sprint(s.Port()))
	}
}

// await repeats a command, whose last word is none of it, until the reply has that word.
func (s *Server) await(what string, args ...string) {
	s.t.Helper()
	last := len(args) - 1
	s.until(what, func() (bool, string) {
		reply, err := s.Try(args[:last]...)
		return err == nil && slices.Contains(words(reply), args[last]), fmt.Sprint(reply, err)
	})
}

// until waits for what a server learns by itself, or fails the test after two minutes with what
// was last seen.
func (s *Server) until(what string, done func() (ok bool, seen string)) {
	s.t.Helper()
	for deadline := time.Now().Add(upTimeout); ; time.Sleep(20 * time.Millisecond) {
		ok, seen := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("redistest: %s: no %s after %v: %s", s.Addr(), what, upTimeout, seen)
		}
	}
}

// words are the reply's words, and what follows the commas before those.
func words(reply string) (all []string) {
	for _, word := range strings.Fields(reply) {
		all = append(all, word)
		for i := range len(word) {
			if word[i] == ',' {
				all = append(all, word[i+1:])
			}
		}
	}
	return all
}
