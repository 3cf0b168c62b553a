package redlock

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

func enqueue(q *queue, name string, class class) *call {
	c := &call{class: class, Request: script.Request{Keys: script.Keys{Lock: name}}}
	q.add(c)
	return c
}

func names(batch []*call) (names []string) {
	for _, c := range batch {
		names = append(names, c.Keys.Lock)
	}
	return names
}

func TestQueueGivesRenewalsThenReleasesThenVotes(t *testing.T) {
	var q queue
	enqueue(&q, "v1", voting)
	enqueue(&q, "f1", freeing)
	enqueue(&q, "v2", voting)
	enqueue(&q, "r1", renewing)
	enqueue(&q, "f2", freeing)
	enqueue(&q, "r2", renewing)
	require.Equal(t, []string{"r1", "r2", "f1", "f2"}, names(q.take(4, false)))
	enqueue(&q, "f3", freeing)
	require.Equal(t, []string{"f3", "v1", "v2"}, names(q.take(4, false)))
	require.Empty(t, q.take(4, false))
	require.False(t, q.sending)
}

func TestQueueGivesBackOnlyWhatWasNotTaken(t *testing.T) {
	var q queue
	first, middle, last := enqueue(&q, "1", voting), enqueue(&q, "2", voting), enqueue(&q, "3", voting)
	require.True(t, q.withdraw(middle))
	require.False(t, q.withdraw(middle))
	require.Equal(t, []string{"1", "3"}, names(q.take(4, false)))
	require.False(t, q.withdraw(first))
	require.False(t, q.withdraw(last))
	only := enqueue(&q, "4", voting)
	require.True(t, q.withdraw(only))
	require.Empty(t, q.take(4, false))
}

// A Redis Cluster gets each call on its own, side by side.
func TestQueueLetsCallsOfOneLockNotOvertakeEachOther(t *testing.T) {
	var q queue
	enqueue(&q, "a", voting)
	enqueue(&q, "a", voting)
	enqueue(&q, "b", voting)
	require.Equal(t, []string{"a", "b"}, names(q.take(4, true)))
	require.Empty(t, q.take(4, true))
	require.False(t, q.ended("b"), "nothing waits for it")
	enqueue(&q, "a", freeing) // of the first
	require.Empty(t, q.take(4, true))
	require.True(t, q.ended("a"))
	batch := q.take(4, true)
	require.Equal(t, []string{"a"}, names(batch))
	require.Equal(t, freeing, batch[0].class)
}

// Nothing needs to be cleaned up at a node that could not be connected to.
func TestARequestWithoutAConnectionWasNeverSent(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.NoError(t, ln.Close()) // nobody listens there now
	l, err := Dial(t.Context(), []string{"redis://" + addr}, &Options{Lazy: true})
	require.NoError(t, err)
	h, err := l.newHold(t.Context(), "k", ttl)
	require.NoError(t, err)
	require.ErrorIs(t, h.acquire(t.Context(), ttl), lock.ErrUnavailable)
	require.NoError(t, l.Close())
	h.mu.Lock()
	defer h.mu.Unlock()
	require.False(t, h.slots[0].asked)
	require.False(t, h.slots[0].doubt)
}
