package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is one entry of an archive. Everything is root's, and of the commit's time.
type file struct {
	name string // with slashes, relative
	data []byte
	mode fs.FileMode // 0644 if zero
	dir  bool
}

func (f file) perm() fs.FileMode {
	switch {
	case f.mode != 0:
		return f.mode
	case f.dir:
		return 0o755
	}
	return 0o644
}

// under puts files into a directory.
func under(dir string, files []file) []file {
	moved := make([]file, len(files))
	for i, f := range files {
		f.name = path.Join(dir, f.name)
		moved[i] = f
	}
	return moved
}

// withParents adds the directories that files stand in, and sorts by name, so that each
// directory stands before what is in it.
func withParents(files []file) []file {
	all := map[string]file{}
	for _, f := range files {
		for dir := path.Dir(f.name); dir != "."; dir = path.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = file{name: dir, dir: true}
			}
		}
	}
	for _, f := range files {
		all[f.name] = f
	}
	return slices.SortedFunc(maps.Values(all), func(a, b file) int { return strings.Compare(a.name, b.name) })
}

// tarball is an uncompressed archive; prefix stands before each name, "./" in a Debian package.
func tarball(when time.Time, prefix string, files []file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range withParents(files) {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: prefix + f.name, Size: int64(len(f.data)), Mode: int64(f.perm().Perm()),
			ModTime: when, Format: tar.FormatUSTAR,
		}
		if f.perm()&fs.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
		if f.dir {
			h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// gzipped has no name and no time in its header.
func gzipped(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

func tarred(when time.Time, files []file) ([]byte, error) {
	data, err := tarball(when, "", files)
	if err != nil {
		return nil, err
	}
	return gzipped(data)
}

func zipped(when time.Time, files []file) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range withParents(files) {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: when}
		h.SetMode(f.perm())
		if f.dir {
			h.Name, h.Method = h.Name+"/", zip.Store
			h.SetMode(f.perm() | fs.ModeDir)
		}
		in, err := w.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := in.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// writeSums writes the checksums of everything else, as sha256sum --check reads them.
func (r *release) writeSums() error {
	found, err := os.ReadDir(r.out) // sorted
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, e := range found {
		data, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), e.Name())
	}
	return r.write("checksums.txt", sums.Bytes(), nil)
}
