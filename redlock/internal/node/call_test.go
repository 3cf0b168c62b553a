package node

import (
	"io"
	"testing"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
)

// To take a request that can still arrive for one that can't leaves its lock uncleaned.
func TestARequestMayArriveUnlessItIsKnownThatItDoesNot(t *testing.T) {
	require.Equal(t, MayArrive, Answer{}.Fate)
	require.Equal(t, MayArrive, AnswerOf(rueidis.NewErrorResult(io.EOF)).Fate)
	require.Equal(t, Answered, AnswerOf(rueidis.RedisResult{}).Fate)
}
