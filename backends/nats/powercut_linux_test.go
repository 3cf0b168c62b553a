package nats

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

// disk is a file system on a loop device, whose power can be cut.
type disk struct{ image, at string }

func newDisk(t *testing.T) *disk {
	dir := t.TempDir()
	d := &disk{filepath.Join(dir, "image"), filepath.Join(dir, "mount")}
	require.NoError(t, os.Mkdir(d.at, 0o700))
	require.NoError(t, os.WriteFile(d.image, nil, 0o600))
	require.NoError(t, os.Truncate(d.image, 512<<20))
	run(t, "mkfs.ext4", "-q", "-F", d.image)
	d.mount(t)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", d.at).Run() })
	return d
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", program, args, out)
}

func (d *disk) mount(t *testing.T) { run(t, "mount", "-o", "loop", d.image, d.at) }

// cut has the file system write nothing any more, not even its journal: EXT4_IOC_SHUTDOWN
// with EXT4_GOING_FLAGS_NOLOGFLUSH.
func (d *disk) cut(t *testing.T) {
	f, err := os.Open(d.at)
	require.NoError(t, err)
	defer f.Close()
	flags := uint32(2)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), 0x8004587d, uintptr(unsafe.Pointer(&flags)))
	require.Zero(t, errno)
}

// It mounts a file system, so it runs on demand: as root, with LOCKKEEPER_POWER_CUT=1.
func TestAPowerCutForgetsLocksUnlessSyncIntervalIsAlways(t *testing.T) {
	if os.Getenv("LOCKKEEPER_POWER_CUT") == "" {
		t.Skip("mounts a file system: LOCKKEEPER_POWER_CUT is not set")
	}
	for _, interval := range []string{"", "always"} {
		t.Run("sync_interval "+interval, func(t *testing.T) {
			d := newDisk(t)
			c := storetest.StartNats(t, 1, storetest.NatsConfig{SyncInterval: interval, Dir: filepath.Join(d.at, "data")})
			l := locker(t, dialed(t, c), nil)
			var granted atomic.Int64
			var done sync.WaitGroup
			began := time.Now()
			var at []time.Duration // when each was granted
			done.Go(func() {
				for time.Since(began) < 40*time.Second {
					if _, err := l.TryAcquire(t.Context(), fmt.Sprint("k", granted.Load()), time.Hour); err != nil {
						return
					}
					at = append(at, time.Since(began))
					granted.Add(1)
					time.Sleep(time.Millisecond) // no more than some hundred a second
				}
			})
			time.Sleep(20 * time.Second)
			cut := time.Since(began)
			d.cut(t)
			c.Members[0].Kill()
			done.Wait()
			run(t, "umount", d.at)
			d.mount(t)
			c.Members[0].Restart()
			other := locker(t, dialed(t, c), nil)
			forgotten, acknowledged, oldest := 0, 0, time.Duration(0)
			for i := range granted.Load() {
				if at[i] > cut {
					break // the file system was off by then
				}
				acknowledged++
				lease, err := other.TryAcquire(t.Context(), fmt.Sprint("k", i), time.Hour)
				if err == nil {
					forgotten++
					oldest = max(oldest, cut-at[i])
					require.Positive(t, lease.Token())
				} else {
					require.ErrorIs(t, err, lock.ErrHeld)
				}
			}
			t.Logf("forgotten: %d of %d acknowledged locks, the oldest %v before the cut", forgotten, acknowledged, oldest.Round(time.Millisecond))
			if interval == "always" {
				require.Zero(t, forgotten)
			} else {
				require.NotZero(t, forgotten, "the page says that some are")
			}
		})
	}
}
