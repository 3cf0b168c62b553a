package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithy "github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

var (
	_ record.Store     = (*store)(nil)
	_ record.Lister    = (*store)(nil)
	_ record.Describer = (*store)(nil)
)

// store keeps records as objects. A version is the object's ETag. That may be a hash of the
// content, and never comes again all the same: no two records are equal, since each write of a
// term has a Seq of its own, and each term a random name.
//
// It is no record.Deleter: not every store has conditional deletes, and one that ignored the
// condition would delete a lock that is held.
type store struct {
	client *awss3.Client
	bucket string
	prefix string
	skew   time.Duration
	checks *checks
	seen   seen
}

func newStore(client *awss3.Client, bucket string, o Options) *store {
	return &store{client: client, bucket: bucket, prefix: o.Prefix, skew: o.Skew, checks: newChecks()}
}

// object is one as a GET shows it.
type object struct {
	body      []byte
	etag      string    // "": there is none
	date, put time.Time // by the store's clocks, in whole seconds; zero: not known
}

// maxBody is far more than a record has.
const maxBody = 1 << 20

// read returns an object whose ETag is that of its content. A gateway over a file system may read
// the two one after another, with a write in between; where the ETag is a hash, that shows. It may
// be none, of an object that was written under another encryption of the bucket, say: then two
// reads show it. By the end of the first one the state of the later part was there; the second one
// began after that, so if it shows the same two, neither is of an older state.
func (s *store) read(ctx context.Context, name string) (o object, err error) {
	var before object
	for range 5 {
		o, err = s.readOnce(ctx, name)
		if err != nil || o.etag == "" || !s.checks.hashes.Load() || o.hashed() || o.etag == before.etag && bytes.Equal(o.body, before.body) {
			return o, err
		}
		before = o
	}
	return object{}, fmt.Errorf("%s shows the ETag of one state of %s, and the content of another", s, name)
}

// hashed reports whether the ETag is the content's MD5, as it is of most stores.
func (o object) hashed() bool {
	sum := md5.Sum(o.body)
	return strings.Trim(o.etag, `"`) == hex.EncodeToString(sum[:])
}

func (s *store) readOnce(ctx context.Context, name string) (object, error) {
	out, err := s.client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &s.bucket, Key: &name})
	if err != nil {
		if f := failureOf(err); f.code == "NoSuchKey" {
			return object{date: f.date}, nil
		}
		return object{}, s.judge(ctx, err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(io.LimitReader(out.Body, maxBody))
	if err != nil {
		return object{}, s.judge(ctx, err)
	}
	if aws.ToString(out.ETag) == "" {
		if s.checks.passed.Load() { // others have one
			return object{}, fmt.Errorf("%w: what is stored at %q has no ETag", errOthers, name)
		}
		return object{}, s.noETag()
	}
	return object{body, *out.ETag, dateOf(out.ResultMetadata), aws.ToTime(out.LastModified)}, nil
}

// write puts an object if its ETag is still etag; "": if there is none. An error that matches
// record.ErrChanged says that nothing was written.
func (s *store) write(ctx context.Context, name string, body []byte, etag string) (newETag string, err error) {
	sum := md5.Sum(body)
	in := &awss3.PutObjectInput{
		Bucket: &s.bucket, Key: &name, Body: bytes.NewReader(body), ContentLength: aws.Int64(int64(len(body))),
		ContentMD5:  aws.String(base64.StdEncoding.EncodeToString(sum[:])),                // a bucket that retains objects takes none without
		ContentType: aws.String("application/json"), CacheControl: aws.String("no-store"), // a cache would show old states
	}
	if etag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &etag
	}
	out, err := s.client.PutObject(ctx, in)
	switch {
	case err == nil && aws.ToString(out.ETag) == "":
		return "", s.noETag()
	case err == nil:
		return *out.ETag, nil
	}
	switch f := failureOf(err); {
	// An object that is gone has no ETag to match. A conflict is what S3 says where another
	// conditional write was quicker. A 412 may be the SDK's own repetition of a request whose
	// reply was lost, meeting what the first one wrote: the engine reads back.
	case f.status == http.StatusPreconditionFailed, f.code == "ConditionalRequestConflict", f.code == "NoSuchKey" && etag != "":
		return "", record.ErrChanged
	}
	return "", s.judge(ctx, err) // applied or not, now or later
}

// errOthers says that an object was not put by a client of the store, but into the directory of a
// gateway, say.
var errOthers = fmt.Errorf("%w: it is no record of lockkeeper", lock.ErrUnavailable)

func (s *store) noETag() error {
	return fmt.Errorf("%w: %s answers without an ETag; use a store that honours If-None-Match and If-Match in PUT requests", lock.ErrRefused, s)
}

// Get is strongly consistent, as S3 is within a region.
func (s *store) Get(ctx context.Context, name string) (record.Entry, error) {
	if err := s.check(ctx); err != nil {
		return record.Entry{}, err
	}
	o, err := s.readAged(ctx, name)
	if err != nil {
		return record.Entry{}, err
	}
	return s.entry(o)
}

// readAged returns an object whose time is that of its content, or that has none. A gateway may
// take the time first, of a state that is replaced before the content is read: a hold that has just
// begun would look as old as what was there before it. A read that began after another one has
// shown the same ETag has the time of no earlier state.
func (s *store) readAged(ctx context.Context, name string) (object, error) {
	shown := s.seen.last(name)
	o, err := s.read(ctx, name)
	if err != nil || o.etag == "" {
		return o, err
	}
	if o.etag != shown && s.age(o) > 1 {
		again, err := s.read(ctx, name)
		if err != nil {
			return object{}, err
		}
		if again.etag != o.etag {
			again.put = again.date // of now at least, as far as is known
		}
		o = again
	}
	s.seen.note(name, o.etag)
	return o, nil
}

// seen has the ETag that the last read of a name has shown.
type seen struct {
	mu    sync.Mutex // guards all below
	etags map[string]string
}

// maxSeen names are remembered; to forget one costs a request.
const maxSeen = 4096

func (s *seen) last(name string) (etag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.etags[name]
}

func (s *seen) note(name, etag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.etags == nil || len(s.etags) >= maxSeen {
		s.etags = map[string]string{}
	}
	s.etags[name] = etag
}

// entry is the record that an object has.
func (s *store) entry(o object) (record.Entry, error) {
	if o.etag == "" {
		return record.Entry{Time: o.date}, nil
	}
	r, err := record.Decode(o.body)
	return record.Entry{Record: r, Version: o.etag, Age: s.age(o), Time: o.date}, err
}

// age is how long ago the object was put at least: both times are of the store and cut to
// seconds, and the clocks that they come from may differ by skew. A store may stamp an object when
// its request arrives, before it is visible; that is no earlier than the holder's lease counts from.
func (s *store) age(o object) time.Duration {
	if s.skew < 0 || o.date.IsZero() || o.put.IsZero() || !s.checks.clocksAgree.Load() {
		return 0
	}
	return max(1, o.date.Sub(o.put)-time.Second-s.skew)
}

func (s *store) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	if version == "*" { // to If-Match it means any
		return "", fmt.Errorf("%w: version %q", lock.ErrInvalid, version)
	}
	if err := s.check(ctx); err != nil {
		return "", err
	}
	return s.write(ctx, name, r.Encode(), version)
}

// readers is how many objects of a listing are read at the same time.
const readers = 8

// List asks for names, and reads each object whose name is one of a key. What is no record is left
// out: it must not hide others.
func (s *store) List(ctx context.Context, prefix string) iter.Seq2[record.Entry, error] {
	return func(yield func(record.Entry, error) bool) {
		fail := func(err error) { yield(record.Entry{}, err) }
		if err := s.check(ctx); err != nil {
			fail(err)
			return
		}
		pages := awss3.NewListObjectsV2Paginator(s.client, &awss3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &prefix})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				fail(s.judge(ctx, err))
				return
			}
			for some := range slices.Chunk(page.Contents, readers) {
				objects, err := s.readAll(ctx, some)
				if err != nil {
					fail(err)
					return
				}
				for i, o := range objects {
					e, err := s.entry(o)
					if e.Name = aws.ToString(some[i].Key); err == nil && e.Version != "" && !yield(e, nil) {
						return
					}
				}
			}
		}
	}
}

func (s *store) readAll(ctx context.Context, listed []types.Object) ([]object, error) {
	objects, errs := make([]object, len(listed)), make([]error, len(listed))
	var wg sync.WaitGroup
	for i, o := range listed {
		if name := aws.ToString(o.Key); isName(s.prefix, name) {
			wg.Go(func() {
				if objects[i], errs[i] = s.readAged(ctx, name); errors.Is(errs[i], errOthers) {
					errs[i] = nil
				}
			})
		}
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err // one says it
		}
	}
	return objects, nil
}

// String names the bucket in errors.
func (s *store) String() string { return fmt.Sprintf("bucket %q", s.bucket) }

// Describe says what of the bucket matters to locks.
func (s *store) Describe(ctx context.Context) lock.NodeHealth {
	node := lock.NodeHealth{Name: "s3"}
	fact := func(name, value string, measures ...lock.Measure) {
		node.Facts = append(node.Facts, lock.Fact{Name: name, Value: value, Measures: measures})
	}
	warn := func(format string, args ...any) { node.Warnings = append(node.Warnings, fmt.Sprintf(format, args...)) }
	fact("bucket", s.bucket)
	if r := s.client.Options().Region; r != "" {
		fact("region", r)
	}
	if err := s.check(ctx); err != nil {
		node.Err = err
		return node
	}
	fact("conditional writes", "honoured")
	switch {
	case s.skew < 0:
		fact("ages", "not used")
	case s.checks.clocksAgree.Load():
		fact("ages", fmt.Sprintf("used, less %v", time.Second+s.skew))
	case s.checks.differ() == 0:
		fact("ages", "not used")
		warn("the store's clocks could not be compared at the start, so its ages are not used: it is slow, or sends no Date and Last-Modified")
	default:
		fact("ages", "not used")
		warn("the store's clocks differ by %v, so its ages are not used: set them, or Options.Skew; if a proxy sets the Date header, set its clock", s.checks.differ())
	}
	asked := time.Now()
	o, err := s.read(ctx, internal(s.prefix, "check"))
	if err == nil && !o.date.IsZero() {
		off := o.date.Sub(asked).Abs()
		fact("this machine's clock", fmt.Sprintf("within %v of the store's", (off+time.Second).Round(time.Second)), lock.Measure{Name: "clock_off_at_most_seconds", Value: (off + time.Second).Round(time.Second).Seconds()})
		if off > 5*time.Minute {
			warn("this machine's clock is off by %v: S3 refuses requests from 15m on", off.Round(time.Second))
		}
	}
	v, err := s.client.GetBucketVersioning(ctx, &awss3.GetBucketVersioningInput{Bucket: &s.bucket})
	switch {
	case err != nil:
		fact("versioning", "not known") // it takes a permission that a lock does not need
	case v.Status == types.BucketVersioningStatusEnabled:
		fact("versioning", "on")
		warn("the bucket is versioned, and keeps every renewal: have a lifecycle rule end noncurrent versions under %q", s.prefix)
	default:
		fact("versioning", "off")
	}
	return node
}

// dateOf is the Date of a response; zero if it has none that can be read.
func dateOf(m smithy.Metadata) time.Time {
	if r, ok := middleware.GetRawResponse(m).(*smithyhttp.Response); ok {
		return parseDate(r.Header)
	}
	return time.Time{}
}

func parseDate(h http.Header) time.Time {
	t, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t
}
