package outcome

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestJoinKeepsBothAndTellsALossOnce(t *testing.T) {
	work, lost := errors.New("work failed"), fmt.Errorf("%w: taken", lock.ErrLost)
	require.NoError(t, Join(nil, nil))
	require.Equal(t, work, Join(work, nil))
	require.Equal(t, lost, Join(nil, lost))
	require.EqualError(t, Join(work, lost), "work failed; lock: lease lost: taken")
	require.ErrorIs(t, Join(work, lost), work)
	require.ErrorIs(t, Join(work, lost), lock.ErrLost)
	same := fmt.Errorf("stopped: %w", lost)
	require.Equal(t, same, Join(same, lost))
}

func TestUnlessLost(t *testing.T) {
	require.NoError(t, UnlessLost(nil))
	require.NoError(t, UnlessLost(fmt.Errorf("release: %w", lock.ErrLost)))
	require.Equal(t, context.Canceled, UnlessLost(context.Canceled))
}
