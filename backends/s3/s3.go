package s3

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

// What holds where an option is not given.
const (
	DefaultPrefix = "lockkeeper/"
	DefaultPoll   = time.Second
	DefaultSkew   = 2 * time.Second
)

// Options for [New]. nil means the defaults.
type Options struct {
	// Prefix begins the key of each object. Up to 200 bytes of UTF-8, without control
	// characters, and without "." and ".." between slashes. Defaults to "lockkeeper/".
	Prefix string

	// Skew is by how much the clocks of the store's servers, and of proxies before them that
	// set the Date header, can differ at most. It is taken off each age that the store reports,
	// and so makes a takeover after a crash later. Larger differences are looked for at the
	// start, to two seconds. 1ms to 1h; -1 means that no clock of the store is relied on: a hold
	// ends a ttl after each Locker has first seen it. Defaults to 2s.
	Skew time.Duration

	// Record are the engine's. Names is ignored, and Poll defaults to 1s: each look is a request
	// that is paid for.
	Record record.Options
}

// Locker locks by objects of one bucket. It is safe for concurrent use.
type Locker struct {
	*record.Locker
	close func() // connections that it made
}

// New makes a Locker over a client, which stays the caller's. It asks nothing of the store: the
// first use tries whether it honours conditional writes. bucket may be the ARN of an access point,
// but not of a multi-region one.
func New(client *awss3.Client, bucket string, o *Options) (*Locker, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Prefix == "" {
		opts.Prefix = DefaultPrefix
	}
	if opts.Skew == 0 {
		opts.Skew = DefaultSkew
	}
	if opts.Record.Poll == 0 {
		opts.Record.Poll = DefaultPoll
	}
	switch {
	case client == nil:
		return nil, fmt.Errorf("s3: %w: the client is nil", lock.ErrInvalid)
	case bucket == "":
		return nil, fmt.Errorf("s3: %w: the bucket's name is empty", lock.ErrInvalid)
	case strings.HasPrefix(bucket, "arn:") && strings.HasSuffix(bucket, ".mrap"):
		return nil, fmt.Errorf("s3: %w: the bucket is a multi-region access point, whose buckets are copies of each other that lag: two processes could hold one lock; want a bucket of one region", lock.ErrInvalid)
	case len(opts.Prefix) > maxPrefix:
		return nil, fmt.Errorf("s3: %w: Options.Prefix has %d bytes, want up to %d", lock.ErrInvalid, len(opts.Prefix), maxPrefix)
	case !isPrefix(opts.Prefix):
		return nil, fmt.Errorf("s3: %w: Options.Prefix is %.80q, want UTF-8 without control characters, and no part between slashes that is . or ..: some stores take those for paths", lock.ErrInvalid, opts.Prefix)
	case opts.Skew != -1 && (opts.Skew < time.Millisecond || opts.Skew > time.Hour):
		return nil, fmt.Errorf("s3: %w: Options.Skew is %v, want 1ms to 1h, or -1", lock.ErrInvalid, opts.Skew)
	}
	opts.Record.Names = names(opts.Prefix)
	l, err := record.New(newStore(client, bucket, opts), &opts.Record)
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	return &Locker{l, func() {}}, nil
}

// Close ends what is under way, as record.Locker's Close says.
func (l *Locker) Close() error {
	err := l.Locker.Close()
	l.close()
	return errors.Join(err)
}

const maxPrefix = 200 // bytes

func isPrefix(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) &&
		!slices.ContainsFunc(strings.Split(s, "/"), func(part string) bool { return part == "." || part == ".." })
}

func safe(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// names have neither slashes nor dots, which stores over a file system take for paths, and are no
// longer than such a store's file can be called.
func names(prefix string) record.Names {
	return record.Names{Prefix: prefix, Max: len(prefix) + 200, Escape: '~', Safe: safe}
}

// isName reports whether an object can be that of a key.
func isName(prefix, name string) bool {
	key := strings.TrimPrefix(name, prefix)
	return key != "" && !strings.HasPrefix(name, internal(prefix, "")) &&
		!strings.ContainsFunc(key, func(r rune) bool { return r >= utf8.RuneSelf || r != '~' && !safe(byte(r)) })
}

// internal is the name of an object that is no key's: no name of one has two escapes and a word.
func internal(prefix, what string) string { return prefix + "~~" + what }
