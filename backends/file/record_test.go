//go:build linux || darwin || freebsd

package file

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

func TestARebootEndsAllHoldsAndTokensRise(t *testing.T) {
	dir := t.TempDir()
	a := newLocker(t, dir, nil)
	lease := acquire(t, a, "k", long)
	after := newLocker(t, dir, nil)
	after.boot = "the next one"
	next := acquire(t, after, "k", long)
	require.Greater(t, next.Token(), lease.Token())
	f, err := after.open("k")
	require.NoError(t, err)
	defer f.close()
	r, err := f.read()
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.Reserved, r.Token)
	require.ErrorIs(t, lease.Extend(t.Context(), long), lock.ErrLost)
}

// Only what was reserved is on the disk itself. Here the record falls back to
// what it was right after the last reservation.
func TestACrashOfTheMachineNeverRepeatsAToken(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, nil)
	var disk []byte
	var reserved, last uint64
	for range 2*reserve + 10 {
		lease := acquire(t, l, "k", long)
		require.Greater(t, lease.Token(), last)
		last = lease.Token()
		release(t, lease)
		f, err := l.open("k")
		require.NoError(t, err)
		r, err := f.read()
		f.close()
		require.NoError(t, err)
		require.LessOrEqual(t, last, r.Reserved)
		if r.Reserved != reserved {
			reserved = r.Reserved
			disk, err = os.ReadFile(l.keyPath("k"))
			require.NoError(t, err)
		}
	}
	for slot := range 2 { // a torn slot more
		torn := append([]byte(nil), disk...)
		clear(torn[slot*slotSize+100 : slot*slotSize+512])
		require.NoError(t, os.WriteFile(l.keyPath("k"), torn, 0o600))
		after := newLocker(t, dir, nil)
		after.boot = "the next one"
		require.Greater(t, acquire(t, after, "k", long).Token(), last)
	}
}

func TestAReservationSurvivesInEitherSlot(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	release(t, acquire(t, l, "k", long))
	f, err := l.open("k")
	require.NoError(t, err)
	defer f.close()
	r, err := f.read()
	require.NoError(t, err)
	r.Token = r.Reserved
	require.NoError(t, reserveTokens(f.fd, &r))
	whole, err := os.ReadFile(f.path)
	require.NoError(t, err)
	for slot := range int64(2) {
		require.NoError(t, pwrite(f.fd, whole, 0))
		require.NoError(t, pwrite(f.fd, make([]byte, slotSize), slot*slotSize))
		left, err := readRecord(f.fd, "the next boot")
		require.NoError(t, err)
		require.Equal(t, r.Reserved, left.Reserved)
	}
}

func TestALostCounterStartsAboveWhatItWas(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, nil)
	lease := acquire(t, l, "k", long)
	release(t, lease)
	require.NoError(t, os.Remove(l.keyPath("k")))
	require.Greater(t, acquire(t, l, "k", long).Token(), lease.Token())
}

func TestADeletedRecordIsALostLease(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	lease := acquire(t, l, "k", long)
	require.NoError(t, os.Remove(l.keyPath("k")))
	err := lease.Extend(t.Context(), long)
	require.ErrorIs(t, err, lock.ErrLost)
	require.ErrorContains(t, err, l.keyPath("k"))
	require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
}

func TestADamagedRecordIsRefusedByName(t *testing.T) {
	for name, damage := range map[string]func(whole []byte) []byte{
		"empty":      func([]byte) []byte { return nil },
		"truncated":  func(b []byte) []byte { return b[:slotSize+100] },
		"zeros":      func(b []byte) []byte { return make([]byte, len(b)) },
		"first slot": func(b []byte) []byte { b[50] ^= 1; return b },
		"other slot": func(b []byte) []byte { b[slotSize+50] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLocker(t, t.TempDir(), &Options{LockTimeout: long})
			lease := acquire(t, l, "k", long)
			acquire(t, l, "good", long)
			whole, err := os.ReadFile(l.keyPath("k"))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(l.keyPath("k"), damage(append([]byte(nil), whole...)), 0o600))

			_, acquireErr := l.TryAcquire(t.Context(), "k", long)
			_, inspectErr := l.Inspect(t.Context(), "k")
			var listErr error
			var listed []string
			for info, err := range l.List(t.Context(), "") {
				if listErr = err; err == nil {
					listed = append(listed, info.Key)
				}
			}
			require.Equal(t, []string{"good"}, listed)
			for _, err := range []error{
				acquireErr, inspectErr, listErr,
				l.ForceRelease(t.Context(), "k", 0), lease.Extend(t.Context(), long), lease.Release(t.Context()),
			} {
				require.ErrorIs(t, err, lock.ErrUnavailable)
				require.NotErrorIs(t, err, lock.ErrLost)
				require.ErrorContains(t, err, l.keyPath("k"))
				require.ErrorContains(t, err, "delete the file")
			}
			// It is not written to; made whole, all is well.
			require.NoError(t, os.WriteFile(l.keyPath("k"), whole, 0o600))
			release(t, lease)
		})
	}
}

func TestARecordOfAnotherKeyIsRefused(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	release(t, acquire(t, l, "a", long))
	require.NoError(t, os.Rename(l.keyPath("a"), l.keyPath("b")))
	_, err := l.TryAcquire(t.Context(), "b", long)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, `of another key, "a"`)
}

// As a process of the first version writes it, which may run beside this one.
func TestARecordOfTheFirstVersionIsRead(t *testing.T) {
	dir := t.TempDir()
	holder, l := newLocker(t, dir, nil), newLocker(t, dir, nil)
	acquire(t, holder, "its sign of life", long)
	write := func(seq int, text string) {
		slot := slotOf(fmt.Appendf(nil, "%08x %020d %s\n", 0, seq, text), true)
		f, err := os.OpenFile(l.keyPath("k"), os.O_RDWR|os.O_CREATE, 0o600)
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteAt(slot, int64(seq%2)*slotSize)
		require.NoError(t, err)
	}
	base := `{"v":1,"key":"k","token":1700000000000005,"reserved":1700000000001024,"boot":"` + l.boot + `"`
	held := base + fmt.Sprintf(`,"holder":"a:1","expiry":%d,"life":{"slot":%d,"inode":%d,"id":"%s"}`,
		l.recordExpiry(long), holder.life.Slot, holder.life.Inode, holder.life.ID)
	write(1, base+"}")
	write(2, held+`,"line":["7.ABCDEFGHIJKL"]}`)
	require.Equal(t, "a:1", refused(t, l, "k").Holder)
	die(t, holder)
	lease := acquire(t, l, "k", long)
	require.EqualValues(t, 1700000000000006, lease.Token())
	release(t, lease)

	// And what this one writes has no field that it does not need.
	text, err := os.ReadFile(l.keyPath("k"))
	require.NoError(t, err)
	require.NotContains(t, string(text), "kept")
	require.NotContains(t, string(text), "tidied")
}

func TestALaterFormatIsRefused(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	release(t, acquire(t, l, "k", long))
	f, err := l.open("k")
	require.NoError(t, err)
	defer f.close()
	r, err := f.read()
	require.NoError(t, err)
	r.Version++
	require.NoError(t, writeRecord(f.fd, &r))
	_, err = l.TryAcquire(t.Context(), "k", long)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "version 2, want 1")
}

func TestTheLongestRecordFits(t *testing.T) {
	l := newLocker(t, t.TempDir(), &Options{Owner: strings.Repeat(`"`, maxOwner)})
	l.boot = strings.Repeat("b", 64)
	key := strings.Repeat("\x01", lock.MaxKeyLen)
	acquire(t, l, key, lock.MaxTTL)
	require.Equal(t, key, refused(t, l, key).Key)
}
