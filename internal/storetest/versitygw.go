package storetest

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Bucket is the one that each S3 server here has.
const Bucket = "locks"

// RootUser is its administrator's access key; the secret is [Password], as of every user.
const RootUser = "root"

// S3 is a versitygw server: S3 over a directory.
type S3 struct {
	*Server
	program, scheme string
}

// built is a program that make servers builds of its Go module into the user's cache.
func built(name string) (path string, ok bool) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", false
	}
	found, _ := filepath.Glob(filepath.Join(cache, "lockkeeper", name+"-v*"))
	for _, path := range found {
		if filepath.Ext(path) != ".part" {
			return path, true
		}
	}
	return "", false
}

func versityProgram(t testing.TB) string {
	t.Helper()
	path, ok := built("versitygw")
	if !ok {
		missing(t, "versitygw server")
	}
	return path
}

// S3Version is "versitygw v1.8.0"; it skips or fails a test without the server.
func S3Version(t testing.TB) string {
	t.Helper()
	_, version, _ := strings.Cut(filepath.Base(versityProgram(t)), "-")
	return "versitygw " + version
}

// StartS3 starts a server over http.
func StartS3(t testing.TB) *S3 {
	t.Helper()
	return startS3(t, "http")
}

// StartS3TLS starts one over https, whose certificate is of a.
func StartS3TLS(t testing.TB, a *Authority) *S3 {
	t.Helper()
	a.Issue(t, Certificate{Name: "s3"})
	return startS3(t, "https", "--cert", a.File("s3.crt"), "--key", a.File("s3.key"))
}

func startS3(t testing.TB, scheme string, args ...string) *S3 {
	t.Helper()
	program := versityProgram(t)
	s := &S3{newServer(t, "versitygw"), program, scheme}
	data, users := filepath.Join(s.dir, "data"), filepath.Join(s.dir, "users")
	must(t, os.MkdirAll(filepath.Join(data, Bucket), 0o755))
	must(t, os.MkdirAll(users, 0o755))
	s.command = func() *exec.Cmd {
		all := append([]string{"--port", s.Addr(), "--quiet", "--keep-alive", "--iam-dir", users}, args...)
		cmd := exec.Command(program, append(all, "posix", data)...)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+RootUser, "ROOT_SECRET_KEY="+Password)
		return cmd
	}
	s.ready = s.accepts
	s.Restart()
	return s
}

// Endpoint is the server's URL.
func (s *S3) Endpoint() string { return s.scheme + "://" + s.Addr() }

// AddUser makes a user who may nothing until a bucket's policy says otherwise.
func (s *S3) AddUser(name string) {
	s.t.Helper()
	cmd := exec.Command(s.program, "admin", "--access", RootUser, "--secret", Password, "--endpoint-url", s.Endpoint(),
		"create-user", "--access", name, "--secret", Password, "--role", "user")
	if text, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("storetest: make user %s: %v: %s", name, err, text)
	}
}

// RemoveObjects deletes every object of the bucket behind the server's back, as an operator
// may who cleans up.
func (s *S3) RemoveObjects() error {
	bucket := filepath.Join(s.dir, "data", Bucket)
	return filepath.WalkDir(bucket, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // replaced meanwhile
			return nil
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), "."): // the server's own
			return filepath.SkipDir
		case entry.IsDir(): // a prefix, in which the server may just be making an object
			return nil
		}
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}
