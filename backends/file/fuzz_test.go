//go:build linux || darwin || freebsd

package file

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// FuzzRecord puts anything into a key's file, also with checksums that are right:
// nothing panics or hangs, and there is no lease that the file forbids.
func FuzzRecord(f *testing.F) {
	dir := f.TempDir()
	l, err := New(filepath.Join(dir, "seeds"), nil)
	require.NoError(f, err)
	lease, err := l.TryAcquire(f.Context(), "k", time.Hour)
	require.NoError(f, err)
	held, err := os.ReadFile(l.keyPath("k"))
	require.NoError(f, err)
	boot := l.boot
	require.NoError(f, lease.Release(f.Context()))
	free, err := os.ReadFile(l.keyPath("k"))
	require.NoError(f, err)
	require.NoError(f, l.Close())
	for _, whole := range [][]byte{held, free} {
		f.Add(whole[:slotSize], whole[slotSize:], false)
		f.Add(whole[:100], whole[slotSize:], true)
	}
	record := func(text string) []byte { return fmt.Appendf(nil, "%08x %020d %s\n", 0, 7, text) }
	for _, text := range []string{
		"", "{}", "null", "[]", `{"v":1}`, `{"v":2}`, `{"v":1,"key":"k","token":18446744073709551615}`, `{"v":1,"key":"k","token":18446744073709551616}`,
		`{"v":1,"key":"k","token":-1}`, `{"v":1,"key":"other","token":5}`, `{"v":1,"key":"k","token":5,"reserved":4,"boot":"` + boot + `"}`,
		`{"v":1,"key":"k","token":5,"reserved":9,"boot":"` + boot + `","expiry":9223372036854775807,"life":{"slot":1,"id":"abcdefghijklmn"}}`,
		`{"v":1,"key":"k","token":5,"reserved":9,"boot":"` + boot + `","expiry":9223372036854775807,"kept":true,"life":{"slot":1,"id":"abcdefghijklmn"}}`,
		`{"v":1,"key":"k","token":5,"reserved":1029,"boot":"` + boot + `","expiry":1,"kept":true}`,
		`{"v":1,"key":"k","token":5,"reserved":9,"boot":"` + boot + `","line":["1.abcdefghijkl","x"],"freed":9223372036854775807}`,
	} {
		f.Add(record(text), record(text), true)
	}
	f.Fuzz(func(t *testing.T, one, two []byte, summed bool) {
		l, err := New(filepath.Join(t.TempDir(), "locks"), &Options{LockTimeout: time.Second})
		require.NoError(t, err)
		defer func() { require.NoError(t, l.Close()) }()
		file := append(slotOf(one, summed), slotOf(two, summed)...)
		require.NoError(t, os.WriteFile(l.keyPath("k"), file, 0o600))
		before, readErr := readAgain(t, l)

		info, _ := l.Inspect(t.Context(), "k")
		for _, err := range l.List(t.Context(), "") {
			_ = err
		}
		lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
		if err != nil {
			require.Nil(t, lease)
			if readErr == nil && before.Key == "k" && l.held(before) == nil { // those in the queue delay it by their turn timeouts, not more
				require.ErrorIs(t, err, lock.ErrHeld)
				lease, err = lock.Acquire(t.Context(), l, "k", time.Hour, &lock.AcquireOptions{Timeout: 30 * time.Second})
			}
			if err != nil {
				require.False(t, readErr == nil && before.Key == "k" && l.held(before) == nil, "nobody can have the key: %v", err)
				return
			}
		}
		require.NoError(t, readErr, "a damaged record was taken for a free one")
		require.Empty(t, info.Holder)
		require.Greater(t, lease.Token(), before.Token)
		require.True(t, lease.Expiry().After(time.Now()))
		_, err = l.TryAcquire(t.Context(), "k", time.Hour)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.NoError(t, lease.Release(t.Context()))
	})
}

// slotOf is a page that begins with b, its checksum set right if summed.
func slotOf(b []byte, summed bool) []byte {
	slot := []byte(strings.Repeat(" ", slotSize))
	copy(slot, b)
	if summed {
		copy(slot, fmt.Sprintf("%08x", crc32.Checksum(slot[8:], castagnoli)))
	}
	return slot
}

func readAgain(t *testing.T, l *Locker) (record, error) {
	f, err := os.Open(l.keyPath("k"))
	require.NoError(t, err)
	defer f.Close()
	return readRecord(int(f.Fd()), l.boot)
}

func TestATurnThatBeginsInTheFutureKeepsNobodyWaiting(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	for _, freed := range []int64{1 << 62, int64(l.clock.Now()) + int64(time.Hour), 0, -1 << 62} {
		r := record{Boot: l.boot, Queue: []position{"1.abcdefghijkl"}, Freed: freed}
		require.LessOrEqual(t, l.waitsFor(&r, "2.abcdefghijkl"), 2*turnTimeout, freed)
	}
}
