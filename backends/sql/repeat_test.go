package sql

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// At strict isolation many who come at once are rolled back again and again.
func TestAStatementThatIsRolledBackIsMadeAgainForAsLongAsARequestMayTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{}
		left := 60
		err := s.with(t.Context(), func() error {
			if left--; left >= 0 {
				return fmt.Errorf("%w: try again", ErrRolledBack)
			}
			return nil
		})
		require.NoError(t, err)

		always := func() error { return ErrRolledBack }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, s.with(ctx, always), ErrRolledBack)
		require.LessOrEqual(t, time.Since(began), time.Second)
		require.ErrorIs(t, s.with(t.Context(), always), ErrRolledBack, "it ends without a context's end, too")
		require.Less(t, time.Since(began), 10*time.Second)
	})
}
