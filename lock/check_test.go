package lock_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

func TestCheckAcceptsEveryKeyWithinTheBounds(t *testing.T) {
	for _, key := range []string{"a", "{", "a b\x00\n*", "käy", strings.Repeat("k", lock.MaxKeyLen)} {
		for _, ttl := range []time.Duration{lock.MinTTL, time.Second, lock.MaxTTL} {
			require.NoError(t, lock.Check(key, ttl), "%q %v", key, ttl)
		}
	}
}

func TestCheckNamesTheInputAndTheExpectation(t *testing.T) {
	for _, c := range []struct {
		key  string
		ttl  time.Duration
		says []string
	}{
		{"", time.Second, []string{"key is empty", "1 to 512 bytes"}},
		{strings.Repeat("k", 513), time.Second, []string{"513 bytes", "at most 512"}},
		{"a\xff", time.Second, []string{`"a\xff"`, "UTF-8"}},
		{"k", 0, []string{`"k"`, "ttl is 0s", "1ms"}},
		{"k", -time.Second, []string{"ttl is -1s"}},
		{"k", lock.MinTTL - 1, []string{"ttl is", "a number alone counts nanoseconds", "5*time.Second"}},
		{"k", lock.MaxTTL + 1, []string{"ttl is", "8760h"}},
	} {
		err := lock.Check(c.key, c.ttl)
		require.ErrorIs(t, err, lock.ErrInvalid)
		for _, s := range c.says {
			require.ErrorContains(t, err, s)
		}
	}
}
