package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// git runs git in the checkout.
func (r *release) git(ctx context.Context, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Env = r.top, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s: %w\n%s", args[0], err, stderr.Bytes())
	}
	return out, nil
}

// export copies what is committed to a directory of its own: files that git ignores, or that
// nobody added, can't get into a release. With modified it takes the checkout as it stands.
func (r *release) export(ctx context.Context) error {
	top, err := r.git(ctx, nil, "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	r.top = strings.TrimSpace(string(top))
	head, err := r.git(ctx, nil, "show", "--no-patch", "--format=%H %ct", "HEAD")
	if err != nil {
		return err
	}
	commit, seconds, _ := strings.Cut(strings.TrimSpace(string(head)), " ")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("the time of commit %s: %w", commit, err)
	}
	r.commit, r.when = commit, time.Unix(unix, 0).UTC()
	changed, err := r.git(ctx, nil, "status", "--porcelain")
	if err != nil {
		return err
	}
	tree := commit
	switch {
	case len(changed) > 0 && !r.modified:
		return fmt.Errorf("the checkout has changes that are not committed, which nobody could build again:\n%s", changed)
	case len(changed) > 0:
		// An index of its own: that of the checkout stays as it is.
		index := []string{"GIT_INDEX_FILE=" + filepath.Join(r.work, "index")}
		if _, err := r.git(ctx, index, "read-tree", "HEAD"); err != nil {
			return err
		}
		if _, err := r.git(ctx, index, "add", "--all"); err != nil {
			return err
		}
		out, err := r.git(ctx, index, "write-tree")
		if err != nil {
			return err
		}
		tree, r.commit = strings.TrimSpace(string(out)), commit+"+modified"
	}
	archive, err := r.git(ctx, nil, "archive", "--format=tar", tree)
	if err != nil {
		return err
	}
	return unpack(archive, filepath.Join(r.work, "tree"))
}

// unpack writes the directories and regular files of an archive of git.
func unpack(archive []byte, to string) error {
	for in := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("%q leads out of the archive", h.Name)
		}
		path := filepath.Join(to, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeReg:
			var data []byte
			if data, err = io.ReadAll(in); err == nil {
				err = os.WriteFile(path, data, h.FileInfo().Mode().Perm())
			}
		case tar.TypeXGlobalHeader: // the commit's name
		default:
			err = fmt.Errorf("%s is neither a file nor a directory", h.Name)
		}
		if err != nil {
			return err
		}
	}
}
