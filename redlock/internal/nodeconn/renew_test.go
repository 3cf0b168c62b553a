package nodeconn

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
)

// stuck is a client whose Close returns when the test ends.
type stuck struct {
	rueidis.Client
	end <-chan struct{}
}

func (s stuck) Close() { <-s.end }

func TestAClientThatDoesNotCloseHoldsUpNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dialer{}
		for range 3 {
			d.all = append(d.all, &generation{Client: stuck{end: t.Context().Done()}})
		}
		begun := time.Now()
		d.closeAll()
		require.Equal(t, closeLimit, time.Since(begun))
		d.drop(d.all[0])
		require.Equal(t, 2*closeLimit, time.Since(begun))
		require.Len(t, d.all, 2)
	})
}
