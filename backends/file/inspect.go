//go:build linux || darwin || freebsd

package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/filesystem"
	"github.com/tonsurance/lockkeeper/lock"
)

// Inspect implements [lock.Inspector]. It changes nothing.
func (l *Locker) Inspect(ctx context.Context, key string) (lock.Info, error) {
	if err := check(ctx, key, lock.MinTTL); err != nil {
		return lock.Info{}, fmt.Errorf("file: inspect: %w", err)
	}
	err := ended(ctx)
	var r record
	if err == nil {
		r, err = l.peekAt(ctx, l.keyPath(key), key)
	}
	if err == errNoFile {
		return lock.Info{Key: key}, nil
	}
	if err != nil {
		return lock.Info{}, fmt.Errorf("file: inspect %q: %w", key, err)
	}
	return l.info(r), nil
}

func (l *Locker) info(r record) lock.Info {
	left := l.left(r)
	if left == 0 {
		return lock.Info{Key: r.Key, Waiting: len(r.Queue)}
	}
	info := lock.Info{Key: r.Key, Holder: r.Holder, Token: r.Token, TTL: left, Waiting: len(r.Queue)}
	if r.Since > 0 {
		info.Held = max(0, l.clock.Now()-time.Duration(r.Since))
	}
	return info
}

// peek reads the record without the file's lock, or, if somebody is writing,
// with it.
func (f *keyFile) peek(ctx context.Context) (record, error) {
	r, err := readRecord(f.fd, f.l.boot)
	if err == nil && f.key == "" {
		f.key = r.Key
	}
	if err == nil && r.Key == f.key {
		return r, nil
	}
	if err := f.lock(ctx); err != nil {
		return r, err
	}
	return f.read()
}

// List implements [lock.Inspector]. It reads all records, those of free keys
// too. One that can't be read does not hide the others: its error comes last.
func (l *Locker) List(ctx context.Context, prefix string) iter.Seq2[lock.Info, error] {
	return func(yield func(lock.Info, error) bool) {
		if ctx == nil { // of one that has ended, what follows says so where there is something to list
			yield(lock.Info{}, fmt.Errorf("file: list: %w", ended(ctx)))
			return
		}
		entries, err := os.ReadDir(l.dir)
		if err != nil {
			yield(lock.Info{}, fmt.Errorf("file: list: %w: %w%s", kindOf(err), err, l.rights("")))
			return
		}
		var failed error
		refused := 0
		for _, entry := range entries {
			if !strings.HasPrefix(entry.Name(), keyPrefix) {
				continue
			}
			if ctx.Err() != nil {
				yield(lock.Info{}, fmt.Errorf("file: list: %w", ended(ctx)))
				return
			}
			r, err := l.peekAt(ctx, filepath.Join(l.dir, entry.Name()), "")
			switch {
			case err == errNoFile: // deleted since
				continue
			case errors.Is(err, lock.ErrRefused):
				if refused++; refused > 1 { // what is said of one is true of all
					continue
				}
				fallthrough
			case err != nil:
				failed = errors.Join(failed, fmt.Errorf("file: list: %w", err))
				continue
			}
			if !strings.HasPrefix(r.Key, prefix) {
				continue
			}
			if info := l.info(r); info.Holder != "" && !yield(info, nil) {
				return
			}
		}
		if refused > 1 {
			failed = fmt.Errorf("%w; %d more records can't be read", failed, refused-1)
		}
		if failed != nil {
			yield(lock.Info{}, failed)
		}
	}
}

// peekAt reads the record at path, which is of key unless that is empty.
func (l *Locker) peekAt(ctx context.Context, path, key string) (record, error) {
	f, err := l.openAt(path, key, true)
	if err != nil {
		return record{}, err
	}
	defer f.close()
	return f.peek(ctx)
}

// ForceRelease implements [lock.ForceReleaser].
func (l *Locker) ForceRelease(ctx context.Context, key string, token uint64) error {
	if err := check(ctx, key, lock.MinTTL); err != nil {
		return fmt.Errorf("file: force release: %w", err)
	}
	if err := l.forceRelease(ctx, key, token); err != nil {
		return fmt.Errorf("file: force release %q: %w", key, err)
	}
	return nil
}

func (l *Locker) forceRelease(ctx context.Context, key string, token uint64) error {
	if err := ended(ctx); err != nil {
		return err
	}
	f, err := l.open(key)
	if err == errNoFile {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.lock(ctx); err == errNoFile {
		return nil
	} else if err != nil {
		return err
	}
	r, err := f.read()
	if err != nil {
		return err
	}
	if held := l.held(r); held == nil || token != 0 && token != r.Token {
		return held
	}
	return f.free(&r)
}

// unreadable warns of records that can't be read: nobody can lock their keys. It reads
// them all, as List does.
func (l *Locker) unreadable(ctx context.Context) []string {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil // fileSystem or writable has said so
	}
	var first error
	bad, all := 0, 0
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), keyPrefix) {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		all++
		if _, err := l.peekAt(ctx, filepath.Join(l.dir, entry.Name()), ""); err != nil && err != errNoFile {
			bad++
			first = cmp.Or(first, err)
		}
	}
	if bad == 0 {
		return nil
	}
	why := strings.TrimPrefix(first.Error(), lock.ErrUnavailable.Error()+": ")
	return []string{fmt.Sprintf("%d of %d records can't be read, and nobody can lock their keys; the first: %s", bad, all, why)}
}

// andMore is what else fails on a full disk where changes do not overwrite.
func andMore(kind string) string {
	switch kind {
	case "zfs", "bcachefs", "apfs":
		return ", and so may renewals and releases: " + kind + " writes changes elsewhere"
	case "btrfs":
		return ", and so may renewals and releases of keys whose files are of an earlier version, or in a snapshot"
	}
	return ""
}

// What Health warns below.
const lowSpace = 1 << 20 // bytes

// Health implements [lock.HealthChecker]. The directory is the only node.
func (l *Locker) Health(ctx context.Context) (lock.Health, error) {
	if err := ended(ctx); err != nil {
		return lock.Health{}, fmt.Errorf("file: health: %w", err)
	}
	start := time.Now()
	node := lock.NodeHealth{Name: l.dir, Err: l.writable()}
	kind, trusted, stat, err := filesystem.Of(l.dir)
	node.Latency = time.Since(start)
	if node.Err == nil && err != nil {
		node.Err = fmt.Errorf("%w: %w", kindOf(err), err)
	}
	if err == nil {
		if !trusted {
			node.Warnings = append(node.Warnings, fmt.Sprintf("file system %s is not known to be local; it was accepted by TrustFileSystem", kind))
		}
		if kind == "tmpfs" || kind == "ramfs" {
			node.Warnings = append(node.Warnings, fmt.Sprintf("%s forgets token counters at a reboot; they start again above the wall clock's microseconds", kind))
		}
		if free := uint64(stat.Bavail) * uint64(stat.Bsize); free < lowSpace {
			node.Warnings = append(node.Warnings, fmt.Sprintf("%d bytes free: locks of new keys, and of a program for which there is no file yet (live.*), will fail%s", free, andMore(kind)))
		}
		if stat.Files > 0 && stat.Ffree == 0 {
			node.Warnings = append(node.Warnings, "no inodes free: locks of new keys, and of a program for which there is no file yet (live.*), will fail")
		}
		node.Warnings = append(node.Warnings, l.unreadable(ctx)...)
	}
	return lock.Health{Nodes: []lock.NodeHealth{node}, Quorum: 1}, nil
}
