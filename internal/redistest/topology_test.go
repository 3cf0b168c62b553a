package redistest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSentinelsFailOverToTheReplica(t *testing.T) {
	set := StartSentinels(t, 3, nil, nil)
	set.AwaitPrimary(set.Primary)
	set.Primary.Kill()
	set.AwaitPrimary(set.Replica)
	require.Contains(t, set.Replica.Do("ROLE"), "master")
}

func TestClusterFailsOverToTheReplica(t *testing.T) {
	c := StartCluster(t)
	slot := c.Slot("k")
	primary := c.Owner(slot)
	replica := c.Replica(primary)
	c.AwaitOwner(slot, primary)
	primary.Kill()
	c.AwaitOwner(slot, replica)
	require.Equal(t, "OK", replica.Do("SET", "k", "v"))
	_, err := c.Servers[5].Try("SET", "k", "v")
	if c.Servers[5] != replica {
		require.ErrorContains(t, err, "MOVED "+slot)
	}
}
