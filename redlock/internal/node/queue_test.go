package node

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

func enqueue(q *queue, name string, class Class) *Call {
	c := &Call{Class: class, Request: script.Request{Keys: script.Keys{Lock: name}}}
	q.add(c)
	return c
}

func names(batch []*Call) (names []string) {
	for _, c := range batch {
		names = append(names, c.Keys.Lock)
	}
	return names
}

func TestQueueGivesRenewalsThenReleasesThenVotes(t *testing.T) {
	var q queue
	enqueue(&q, "v1", Voting)
	enqueue(&q, "f1", Freeing)
	enqueue(&q, "v2", Voting)
	enqueue(&q, "r1", Renewing)
	enqueue(&q, "f2", Freeing)
	enqueue(&q, "r2", Renewing)
	require.Equal(t, []string{"r1", "r2", "f1", "f2"}, names(q.take(4, false)))
	enqueue(&q, "f3", Freeing)
	require.Equal(t, []string{"f3", "v1", "v2"}, names(q.take(4, false)))
	require.Empty(t, q.take(4, false))
	require.False(t, q.sending)
}

func TestQueueGivesBackOnlyWhatWasNotTaken(t *testing.T) {
	var q queue
	first, middle, last := enqueue(&q, "1", Voting), enqueue(&q, "2", Voting), enqueue(&q, "3", Voting)
	require.True(t, q.withdraw(middle))
	require.False(t, q.withdraw(middle))
	require.Equal(t, []string{"1", "3"}, names(q.take(4, false)))
	require.False(t, q.withdraw(first))
	require.False(t, q.withdraw(last))
	only := enqueue(&q, "4", Voting)
	require.True(t, q.withdraw(only))
	require.Empty(t, q.take(4, false))
}

// A Redis Cluster gets each call on its own, side by side.
func TestQueueLetsCallsOfOneLockNotOvertakeEachOther(t *testing.T) {
	var q queue
	enqueue(&q, "a", Voting)
	enqueue(&q, "a", Voting)
	enqueue(&q, "b", Voting)
	require.Equal(t, []string{"a", "b"}, names(q.take(4, true)))
	require.Empty(t, q.take(4, true))
	require.False(t, q.ended("b"), "nothing waits for it")
	enqueue(&q, "a", Freeing) // of the first
	require.Empty(t, q.take(4, true))
	require.True(t, q.ended("a"))
	batch := q.take(4, true)
	require.Equal(t, []string{"a"}, names(batch))
	require.Equal(t, Freeing, batch[0].Class)
}
