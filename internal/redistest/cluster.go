package redistest

import (
	"strconv"
	"strings"
	"testing"
)

// Cluster is a Redis Cluster of three primaries with a replica each.
type Cluster struct {
	Servers []*Server // the first three were the primaries at first

	t testing.TB
}

const slots = 16384

// StartCluster runs and forms a cluster that takes [Silence] for death, and
// returns when all its servers say that it works. args are options of them all.
func StartCluster(t testing.TB, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	args = append([]string{
		"--cluster-enabled", "yes", "--cluster-node-timeout", strconv.FormatInt(Silence.Milliseconds(), 10), "--repl-diskless-sync-delay", "0",
		"--cluster-allow-replica-migration", "no",
	}, args...)
	for range 6 {
		c.Servers = append(c.Servers, begin(t, FreeBusPort, nil, args))
	}
	for i, s := range c.Servers {
		s.Do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i > 0 {
			s.Do("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(c.Servers[0].Port()))
		}
	}
	for i, s := range c.Servers[:3] {
		s.addSlots(i*slots/3, (i+1)*slots/3)
	}
	for _, s := range c.Servers {
		s.await("six known nodes", "CLUSTER", "INFO", "cluster_known_nodes:6")
	}
	for i, s := range c.Servers[3:] {
		id := c.Servers[i].Do("CLUSTER", "MYID")
		s.await("its primary", "CLUSTER", "NODES", id)
		s.Do("CLUSTER", "REPLICATE", id)
	}
	for _, s := range c.Servers {
		s.await("a cluster that works", "CLUSTER", "INFO", "cluster_state:ok")
		s.until("three known replicas", func() (bool, string) {
			nodes := s.Do("CLUSTER", "NODES")
			return strings.Count(nodes, "slave ") == 3, nodes
		})
	}
	for _, s := range c.Servers[3:] {
		s.await("the replica's link", "INFO", "replication", "master_link_status:up")
	}
	for _, s := range c.Servers[:3] {
		s.await("its replica", "INFO", "replication", "connected_slaves:1")
	}
	return c
}

// StartClusterOfOne runs a server that is a whole cluster.
func StartClusterOfOne(t testing.TB, args ...string) *Server {
	t.Helper()
	s := begin(t, FreeBusPort, nil, append([]string{"--cluster-enabled", "yes"}, args...))
	s.addSlots(0, slots)
	s.await("a cluster that works", "CLUSTER", "INFO", "cluster_state:ok")
	return s
}

// addSlots gives the server the slots from first to before end. (Redis 6.2 has no
// ADDSLOTSRANGE.)
func (s *Server) addSlots(first, end int) {
	s.t.Helper()
	add := []string{"CLUSTER", "ADDSLOTS"}
	for slot := first; slot < end; slot++ {
		add = append(add, strconv.Itoa(slot))
	}
	s.Do(add...)
}

// Slot is the hash slot of a key.
func (c *Cluster) Slot(key string) string {
	return c.Servers[0].Do("CLUSTER", "KEYSLOT", key)
}

// AwaitOwner returns when every server that runs takes s for the primary of the slot.
func (c *Cluster) AwaitOwner(slot string, s *Server) {
	c.t.Helper()
	for _, by := range c.Servers {
		by.until("new owner of the slot", func() (bool, string) {
			return by.PID() == 0 || c.owner(by, slot) == s, "slot " + slot + " is not of " + s.Addr()
		})
	}
}

// Owner is the primary of the slot, as the first server knows it that runs.
func (c *Cluster) Owner(slot string) *Server {
	c.t.Helper()
	for _, by := range c.Servers {
		if by.PID() != 0 {
			return c.owner(by, slot)
		}
	}
	return nil
}

func (c *Cluster) owner(by *Server, slot string) *Server {
	c.t.Helper()
	n, _ := strconv.Atoi(slot)
	for line := range strings.Lines(by.Do("CLUSTER", "NODES")) {
		f := strings.Fields(line) // id, address, flags, ..., ranges of slots from the ninth on
		if len(f) < 9 || strings.Contains(f[2], "fail") {
			continue
		}
		for _, part := range f[8:] {
			from, to, ok := strings.Cut(part, "-")
			if !ok {
				to = from
			}
			low, err1 := strconv.Atoi(from)
			high, err2 := strconv.Atoi(to)
			if err1 == nil && err2 == nil && low <= n && n <= high {
				return c.at(f[1])
			}
		}
	}
	return nil
}

// Replica is the server that follows s.
func (c *Cluster) Replica(s *Server) *Server {
	c.t.Helper()
	f := strings.Fields(s.Do("CLUSTER", "REPLICAS", s.Do("CLUSTER", "MYID")))
	if len(f) < 2 {
		c.t.Fatalf("redistest: %s has no replica", s.Addr())
	}
	return c.at(f[1])
}

// at finds the server of an address as CLUSTER NODES has it.
func (c *Cluster) at(address string) *Server {
	c.t.Helper()
	addr, _, _ := strings.Cut(address, "@")
	for _, s := range c.Servers {
		if s.Addr() == addr {
			return s
		}
	}
	c.t.Fatalf("redistest: %s is none of the cluster", address)
	return nil
}
