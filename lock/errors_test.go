package lock_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

func TestHeldErrorMatchesErrHeldOnlyThroughEveryLayer(t *testing.T) {
	held := &lock.HeldError{Key: "k", Holder: "host-1", RetryAfter: time.Second}
	for _, err := range []error{held, fmt.Errorf("wrapped: %w", held), errors.Join(errors.New("other"), held)} {
		require.ErrorIs(t, err, lock.ErrHeld)
		require.NotErrorIs(t, err, lock.ErrLost)
		require.NotErrorIs(t, err, lock.ErrUnavailable)
		got, ok := errors.AsType[*lock.HeldError](err)
		require.True(t, ok)
		require.Same(t, held, got)
	}
}

func TestHeldErrorSaysWhatIsKnown(t *testing.T) {
	require.EqualError(t, &lock.HeldError{Key: "k"}, `lock: "k" is held by another holder`)
	require.EqualError(t, &lock.HeldError{Key: "k", Holder: "host-1", RetryAfter: 1500 * time.Millisecond},
		`lock: "k" is held by host-1, free in 1.5s at the latest unless renewed`)
}

// Anyone who may write to the store names the holder: nothing of it may move a terminal's
// cursor, begin a line of a log, or hide what stands around it.
func TestHeldErrorEscapesWhatDoesNotPrint(t *testing.T) {
	for _, holder := range []string{"a\nlevel=ERROR", "\x1b[2Jroot", "a\u202eb", "a\u200bb", "\xff\xfe", "tab\there", "\x7f"} {
		for _, err := range []error{&lock.HeldError{Key: "k", Holder: holder}, fmt.Errorf("x: %w", &lock.HeldError{Key: "k\n", Holder: holder})} {
			require.NotContains(t, err.Error(), holder)
			require.Contains(t, err.Error(), strconv.Quote(holder))
			require.NotContains(t, err.Error(), "\n")
		}
	}
	require.Equal(t, "Ana María@host:7", (&lock.HeldError{Holder: "Ana María@host:7"}).By())
}

func TestTokenIsThatOfTheContextsLease(t *testing.T) {
	require.Zero(t, lock.Token(t.Context()))
	ctx := lock.WithToken(t.Context(), 7)
	require.Equal(t, uint64(7), lock.Token(ctx))
	child, cancel := context.WithCancel(ctx)
	defer cancel()
	require.Equal(t, uint64(7), lock.Token(child))
	require.Equal(t, uint64(9), lock.Token(lock.WithToken(child, 9)))
}

func TestHealthHasAQuorumOnlyIfEnoughNodesVote(t *testing.T) {
	down := lock.NodeHealth{Err: errors.New("down")}
	for _, c := range []struct {
		nodes  []lock.NodeHealth
		voting int
		quorum bool
	}{
		{[]lock.NodeHealth{{}, {}, {}}, 3, true},
		{[]lock.NodeHealth{{}, down, {}}, 2, true},
		{[]lock.NodeHealth{{}, down, down}, 1, false},
	} {
		h := lock.Health{Nodes: c.nodes, Quorum: 2}
		require.Equal(t, c.voting, h.Voting())
		require.Equal(t, c.quorum, h.HasQuorum())
	}
	require.False(t, lock.Health{}.HasQuorum(), "the zero Health")
}
