//go:build linux || darwin || freebsd

package file

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Files are tidied up so that keys with an ever-changing part, such as a job's number,
// do not fill the directory. The wall clock says which files are old: a wrong one makes
// this early or late, and never deletes what is in use.
const (
	pruneAfter = 7 * 24 * time.Hour // without a change: then a free key's file is deleted
	sweepAfter = time.Hour          // then a record without a name is nobody's any more
	tidyWait   = 100 * time.Millisecond
	tidyEvery  = time.Hour // a Locker that makes files; in a large directory all together
	crowd      = 1000      // files
	pruneBatch = 256       // deleted for one write to the disk itself
)

// tidyNow is for New. It is over soon, and what is left is for the next one.
func (l *Locker) tidyNow() {
	ctx, cancel := context.WithTimeout(context.Background(), tidyWait)
	defer cancel()
	l.tidied = time.Now()
	l.tidy(ctx)
}

// tidySoon is for those who make files. Close ends it, and waits for it.
func (l *Locker) tidySoon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || time.Since(l.tidied) < tidyEvery {
		return
	}
	l.tidied = time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	l.stopTidy = cancel
	l.tidying.Go(func() {
		defer cancel()
		l.tidy(ctx)
	})
}

// tidy deletes files that are not needed any more, until ctx ends. It begins anywhere,
// so that processes that live for a moment get through a large directory together.
func (l *Locker) tidy(ctx context.Context) {
	now := time.Now()
	if l.ours() {
		// Made before it is needed: on a disk that old keys have filled there is no room
		// for it any more, and nothing can be deleted without it. One that is there gets
		// the directory's present permissions.
		_ = l.raiseFloor(ctx, 0, time.Time{})
	}
	if floor, err := l.peekAt(ctx, l.floorPath(), ""); err == nil {
		if since := now.Sub(time.Unix(floor.Tidied, 0)); 0 <= since && since < tidyEvery {
			return
		}
	}
	dir, err := os.Open(l.dir)
	if err != nil {
		return
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil || len(names) == 0 {
		return
	}
	begin, pruned := rand.N(len(names)), false
	var batch []string // free keys' files
	var top uint64     // of their tokens
	for i := range names {
		if ctx.Err() != nil {
			break
		}
		name := names[(begin+i)%len(names)]
		path := filepath.Join(l.dir, name)
		switch {
		case strings.HasPrefix(name, newPrefix):
			if unchanged(path, now) > sweepAfter {
				// To take one of a process that is merely slow costs it one more try.
				syscall.Unlink(path)
			}
		case strings.HasPrefix(name, keyPrefix) && unchanged(path, now) > pruneAfter:
			if r, err := l.peekAt(ctx, path, ""); err == nil && l.left(r) == 0 && r.highest() <= maxFloor {
				batch, top = append(batch, path), max(top, r.highest())
			}
		}
		if len(batch) == pruneBatch {
			l.pruneAll(ctx, batch, top)
			batch, pruned = batch[:0], true
		}
	}
	l.pruneAll(ctx, batch, top)
	pruned = pruned || len(batch) > 0
	// If the time was up, and there was something, there is more for the next one.
	if len(names) > crowd && (ctx.Err() == nil || !pruned) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWait)
		defer cancel()
		_ = l.raiseFloor(ctx, 0, now)
	}
}

// ours reports whether a file that this user makes in the directory can be used by all
// who may write there.
func (l *Locker) ours() bool {
	if os.Geteuid() != l.owners.uid {
		return false
	}
	if l.owners.mode&0o060 == 0 || os.Getegid() == l.owners.gid {
		return true
	}
	groups, _ := os.Getgroups()
	return slices.Contains(groups, l.owners.gid)
}

// unchanged is for how long path's file has not been written to.
func unchanged(path string, now time.Time) time.Duration {
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
		return now.Sub(info.ModTime())
	}
	return 0
}

// pruneAll deletes the files of keys that are still free. No token is lost with them:
// the floor is on the disk itself first.
func (l *Locker) pruneAll(ctx context.Context, paths []string, top uint64) {
	// The time is up for looking; what was found is deleted all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWait)
	defer cancel()
	if len(paths) == 0 || l.raiseFloor(ctx, top, time.Time{}) != nil {
		return
	}
	for _, path := range paths {
		if l.isClosed() {
			return
		}
		if f, err := l.openAt(path, "", false); err == nil {
			f.prune(top)
			f.close()
		}
	}
}

// prune deletes one key's file under its lock. A process that opened it before, and gets the
// lock afterwards, finds that the name is gone (keyFile.verify) and makes another.
func (f *keyFile) prune(top uint64) {
	l := f.l
	if flock(f.fd, syscall.LOCK_EX) != nil {
		return // in use
	}
	f.locked = true
	if f.verify() != nil || unchanged(f.path, time.Now()) <= pruneAfter {
		return // the name is another file's now, or somebody has used it since
	}
	r, err := readRecord(f.fd, l.boot)
	if err != nil || l.keyPath(r.Key) != f.path {
		return // damaged: nobody can say who holds it
	}
	f.key = r.Key
	switch {
	case l.left(r) > 0:
	case r.Life != lifeless:
		// Ended by its expiry, its holder's death or a boot, who knows how long ago: the
		// time is counted from now on.
		if r.Boot != l.boot {
			r.nextBoot(l.boot)
		}
		_ = f.free(&r)
	case r.Boot == l.boot && slices.ContainsFunc(r.Queue, func(p position) bool { return !l.gone(p) }):
	case r.highest() <= top:
		syscall.Unlink(f.path)
	}
}

// maxFloor: a token above it was never counted up to. Its file stays, so that it is not
// where all new keys begin.
const maxFloor = maxToken / 2

func (l *Locker) floorPath() string { return filepath.Join(l.dir, floorName) }

// floor is the largest token of all files that were deleted by tidy.
func (l *Locker) floor(ctx context.Context) (uint64, error) {
	r, err := l.peekAt(ctx, l.floorPath(), "")
	if err == errNoFile {
		return 0, nil
	}
	return r.Token, err
}

// raiseFloor writes to the disk itself that tokens up to token were given. tidied, if not
// zero, is when the directory was tidied up.
func (l *Locker) raiseFloor(ctx context.Context, token uint64, tidied time.Time) error {
	for {
		f, err := l.openAt(l.floorPath(), "", false)
		if err == errNoFile {
			err = l.createAt(l.floorPath(), record{Version: version, Boot: l.boot})
			if err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if err := f.lock(ctx); err != nil {
			f.close()
			if err == errNoFile {
				continue
			}
			return err
		}
		defer f.close()
		r, err := f.read()
		if err != nil || r.Token >= token && tidied.IsZero() {
			return err
		}
		r.Boot, r.Token = l.boot, max(r.Token, token)
		if !tidied.IsZero() {
			r.Tidied = tidied.Unix()
		}
		if err := f.write(&r); err != nil {
			return err
		}
		// The slot that a power cut tears is the one of a later write: this one stays.
		if err := fsync(f.fd); err != nil {
			return f.failed(err)
		}
		return nil
	}
}
