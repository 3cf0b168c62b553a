package machineclock

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheClockGoesOnAndTheBootStays(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Skip("this system has no such clock")
	}
	first := c.Now()
	require.Positive(t, first)
	require.GreaterOrEqual(t, c.Now(), first)
	boot, err := BootID()
	require.NoError(t, err)
	require.NotEmpty(t, boot)
	again, err := BootID()
	require.NoError(t, err)
	require.Equal(t, boot, again)
}
