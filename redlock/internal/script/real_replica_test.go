package script

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// A connection stays open at a server that was demoted, and a replica hands on what its
// primary publishes. Its listeners are not counted there: who is passed over must not be
// notified of a grant that the next one has.
func TestRealWhoIsPassedOverIsNotifiedOfNoGrantThroughAReplica(t *testing.T) {
	b := newBench(t)
	demoted := &bench{t: t, s: redistest.Start(t), k: b.k}
	demoted.c = connect(t, demoted.s, "", "")
	demoted.s.Do("REPLICAOF", "127.0.0.1", strconv.Itoa(b.s.Port()))
	require.Eventually(t, func() bool {
		return strings.Contains(demoted.s.Do("INFO", "replication"), "master_link_status:up")
	}, 30*time.Second, 10*time.Millisecond)
	old, _ := demoted.listen(WakePrefix + "A")
	pushes, _ := b.listen(WakePrefix + "B")
	b.acquire("mine")
	b.stand(waiter("A", time.Minute))
	b.stand(waiter("B", time.Second))
	b.release("mine", "")
	require.Equal(t, "vB", b.holder())
	b.pushed(pushes)
	b.s.Do("PUBLISH", WakePrefix+"A", "end") // behind all else that is replicated
	require.Equal(t, "end", <-old)
}

func TestRealWhereListenersMayNotBeCountedTheHeadIsGrantedTheLock(t *testing.T) {
	b := newBench(t)
	pushes, _ := b.listen(WakePrefix + "A")
	b.s.Do("ACL", "SETUSER", "keeper", "on", ">secret", "~*", "&*", "+@all", "-pubsub")
	b.c = connect(t, b.s, "keeper", "secret")
	b.acquire("mine")
	b.stand(waiter("A", time.Minute))
	b.release("mine", "")
	require.Equal(t, "vA", b.holder())
	require.Equal(t, "A", b.pushed(pushes).Waiter)
}
