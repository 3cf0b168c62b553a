package script

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// slotText is what a Redis Cluster hashes of a key, as its specification says it.
func slotText(key string) string {
	open := strings.IndexByte(key, '{')
	if open < 0 {
		return key
	}
	length := strings.IndexByte(key[open+1:], '}')
	if length <= 0 {
		return key
	}
	return key[open+1 : open+1+length]
}

// Two locks never share a name, nor a lock and a counter, and a lock and its counter
// are in one slot where NewKeys says so.
func FuzzKeys(f *testing.F) {
	for _, seed := range [][3]string{
		{"redlock:", "a", "b"}, {"", "{a}b", "a}b"}, {"", "{}{a}", "}{a}"}, {"", "{a", "a"},
		{"p{", "a}", "a}}"}, {"", "a{b}c", "{b}"}, {"lockkeeper:", "x", "fence:{lockkeeper:x}lockkeeper:x"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, prefix, one, other string) {
		if one == "" || other == "" {
			t.Skip() // no keys
		}
		a, oneSlot := NewKeys(prefix, one)
		b, _ := NewKeys(prefix, other)
		require.Equal(t, one == other, a.Lock == b.Lock)
		require.Equal(t, one == other, a.Fence == b.Fence)
		if !strings.HasPrefix(b.Lock, FencePrefix) { // those are refused
			require.NotEqual(t, a.Fence, b.Lock)
		}
		if oneSlot {
			require.Equal(t, slotText(a.Lock), slotText(a.Fence))
		}
	})
}
