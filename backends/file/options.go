package file

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tonsurance/lockkeeper/lock"
)

// Options for [New]. nil means the defaults. A value may serve any number of
// Lockers.
type Options struct {
	// Owner names this Locker to people, in errors and in Inspect. 1 to 128
	// bytes of printable UTF-8; it need not be unique. Defaults to "host:pid".
	Owner string

	// LockTimeout bounds how long a call waits while another process is just
	// changing the same record, which takes microseconds unless that process is
	// stopped in the middle of it or the disk hangs. At least 1ms. Defaults to 1s.
	LockTimeout time.Duration

	// TrustFileSystem accepts a directory on a file system that is not known to
	// be local to this machine. Its flock must be a real one between all
	// processes that use the directory, and all of these must still run on one
	// machine under one kernel: to a second machine the first one's holds look as
	// if they were from before a reboot, that is, over. Defaults to false.
	TrustFileSystem bool

	// UntilExpiry lets a hold last until its expiry also where this process has ended,
	// as it does on stores that other machines reach: for a process that reports to
	// others until when it holds, as lockkeeper lead does. They would go on when the
	// kernel has freed the lock of the process that ended. Defaults to false: a
	// process that ends frees its locks at once.
	UntilExpiry bool

	// Lazy is for those who look: New then neither makes the directory nor asks
	// whether it can be written to, and each call says itself what it lacks. Inspect
	// and List work where the directory is mounted read-only. Defaults to false.
	Lazy bool
}

const maxOwner = 128 // bytes

func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.LockTimeout != 0 && opts.LockTimeout < time.Millisecond {
		return opts, fmt.Errorf("%w: Options.LockTimeout is %v, want 0 for the default, or at least 1ms", lock.ErrInvalid, opts.LockTimeout)
	}
	if opts.LockTimeout == 0 {
		opts.LockTimeout = time.Second
	}
	if opts.Owner == "" {
		host, err := os.Hostname()
		if err != nil || !printable(host) {
			host = "unknown-host"
		}
		opts.Owner = fmt.Sprintf("%.*s:%d", maxOwner-16, host, os.Getpid())
	}
	if len(opts.Owner) > maxOwner || !printable(opts.Owner) {
		return opts, fmt.Errorf("%w: Options.Owner is %.140q (%d bytes), want 1 to %d bytes of printable UTF-8",
			lock.ErrInvalid, opts.Owner, len(opts.Owner), maxOwner)
	}
	return opts, nil
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func checkDir(dir string) (string, error) {
	if dir == "" {
		return "", fmt.Errorf("%w: the directory is empty, want a path", lock.ErrInvalid)
	}
	// Relative paths would change their meaning with the working directory.
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("%w: directory %q: %w", lock.ErrInvalid, dir, err)
	}
	return abs, nil
}
