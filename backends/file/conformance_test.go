//go:build linux || darwin || freebsd

package file

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/conformtest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// Each locker sees the directory through a symbolic link of its own, so that one
// can be cut off alone.
func TestConformance(t *testing.T) {
	dirs := map[*Locker]string{} // a locker's real directory
	over := func(t *testing.T, dir string) *Locker {
		link := filepath.Join(t.TempDir(), "link")
		require.NoError(t, os.Symlink(dir, link))
		l := newLocker(t, link, nil)
		l.turnTimeout = time.Second // a busy machine may take 50 ms, and then another is served before
		dirs[l] = dir
		return l
	}
	conformtest.Locks(t, "files", locktest.Harness{
		New:  func(t *testing.T) lock.Locker { return over(t, t.TempDir()) },
		Peer: func(t *testing.T, l lock.Locker) lock.Locker { return over(t, dirs[l.(*Locker)]) },
		Outage: func(t *testing.T, l lock.Locker, on bool) {
			link := l.(*Locker).dir
			_ = os.Remove(link)
			if !on {
				require.NoError(t, os.Symlink(dirs[l.(*Locker)], link))
			}
		},
		Break: func(t *testing.T, l lock.Locker, key string) {
			require.NoError(t, over(t, dirs[l.(*Locker)]).ForceRelease(t.Context(), key, 0))
		},
		Kill: func(t *testing.T, l lock.Locker) { die(t, l.(*Locker)) }, // TestAKilledProcess... has a real one
		TTL:  400 * time.Millisecond,
		// No requests are sent that could be late or lost, no wall clock decides,
		// and the kernel's clock can't be moved.
		AllowSkips: []string{"Wrap", "Delay", "LoseReply", "Skew", "Cut", "Repeat", "Conflict", "StaleReads", "Delete", "ExtendStarter"},
	})
}
