package s3

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/storetest"
)

// fake is a store of one bucket within the process, for what no real one does on request. Its
// fields are set before it is used, but for those that mu guards.
type fake struct {
	ignoreNoneMatch, ignoreMatch bool // conditions are not looked at
	writesAnyway                 bool // refuses, and writes
	noConditions                 bool // answers 501 to them
	noETag, versioned            bool
	retains                      bool          // takes no PUT without a sum of its content
	encrypted                    bool          // gives new objects an ETag that is no hash
	dateAhead                    time.Duration // Date before Last-Modified, as a proxy's clock

	mu        sync.Mutex // guards all below
	objects   map[string]fakeObject
	ahead     time.Duration // of the store's clock
	requests  map[string]int
	fail      func(*http.Request) (status int, code string) // 0: does not
	meanwhile func()                                        // called once within a GET, after it has taken the time
	tornETag  bool                                          // and has it take the ETag after the content, else before
	lose      int                                           // so many next writes are done and answered with 500
}

type fakeObject struct {
	body []byte
	put  time.Time
	tag  string // "": a hash of the body
}

func (o fakeObject) etag() string {
	if o.tag != "" {
		return o.tag
	}
	sum := md5.Sum(o.body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func newFake() *fake { return &fake{objects: map[string]fakeObject{}, requests: map[string]int{}} }

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// sent counts the requests by method, and forgets them.
func (f *fake) sent() (counts map[string]int) {
	f.set(func() { counts, f.requests = f.requests, map[string]int{} })
	return counts
}

// Do answers a client without a network.
func (f *fake) Do(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	time.Sleep(100 * time.Microsecond) // the way there and back
	w := httptest.NewRecorder()
	f.serve(w, req)
	res := w.Result()
	res.Request = req
	return res, nil
}

func (f *fake) serve(w http.ResponseWriter, req *http.Request) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests[req.Method]++
	now := time.Now().Add(f.ahead)
	w.Header().Set("Date", now.Add(f.dateAhead).UTC().Format(http.TimeFormat))
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>said the fake</Message></Error>", code)
	}
	if f.fail != nil {
		if status, code := f.fail(req); status != 0 {
			refuse(status, code)
			return
		}
	}
	if signed, err := time.Parse("20060102T150405Z", req.Header.Get("X-Amz-Date")); err != nil || now.Sub(signed).Abs() > 15*time.Minute {
		refuse(http.StatusForbidden, "RequestTimeTooSkewed")
		return
	}
	name, of := strings.CutPrefix(req.URL.Path, "/"+storetest.Bucket+"/")
	switch {
	case of:
	case req.URL.Path == "/"+storetest.Bucket:
		name = ""
	default:
		refuse(http.StatusNotFound, "NoSuchBucket")
		return
	}
	o, there := f.objects[name]
	match, noneMatch := req.Header.Get("If-Match"), req.Header.Get("If-None-Match")
	switch {
	case name == "" && req.URL.Query().Has("versioning"):
		status := ""
		if f.versioned {
			status = "<Status>Enabled</Status>"
		}
		fmt.Fprintf(w, "<VersioningConfiguration>%s</VersioningConfiguration>", status)
	case name == "" && req.URL.Query().Has("list-type"):
		f.list(w, req.URL.Query().Get("prefix"))
	case req.Method == http.MethodPut && f.noConditions && match+noneMatch != "":
		refuse(http.StatusNotImplemented, "NotImplemented")
	case req.Method == http.MethodPut && f.retains && !sumOf(body, req.Header.Get("Content-MD5")):
		refuse(http.StatusBadRequest, "InvalidRequest")
	case req.Method == http.MethodPut:
		exists := there && noneMatch != "" && !f.ignoreNoneMatch
		gone := !there && match != "" && !f.ignoreMatch
		other := there && match != "" && match != o.etag() && !f.ignoreMatch
		if !exists && !gone && !other || f.writesAnyway {
			o = fakeObject{body: body, put: now}
			if f.encrypted {
				o.tag = `"` + strings.ToLower(rand.Text()) + `"`
			}
			f.objects[name] = o
		}
		switch {
		case f.lose > 0:
			f.lose--
			refuse(http.StatusInternalServerError, "InternalError")
		case gone:
			refuse(http.StatusNotFound, "NoSuchKey")
		case exists || other:
			refuse(http.StatusPreconditionFailed, "PreconditionFailed")
		case !f.noETag:
			w.Header().Set("ETag", o.etag())
		}
	case req.Method == http.MethodGet && !there:
		refuse(http.StatusNotFound, "NoSuchKey")
	case req.Method == http.MethodGet:
		now, body := o, o.body
		if between := f.meanwhile; between != nil {
			f.meanwhile = nil
			f.mu.Unlock()
			between()
			f.mu.Lock()
			if now = f.objects[name]; !f.tornETag {
				body = now.body
			}
		}
		if !f.noETag && now.tag != "none" {
			w.Header().Set("ETag", now.etag())
		}
		w.Header().Set("Last-Modified", o.put.UTC().Format(http.TimeFormat))
		_, _ = w.Write(body)
	default:
		refuse(http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
}

func sumOf(body []byte, text string) bool {
	sum := md5.Sum(body)
	return text == base64.StdEncoding.EncodeToString(sum[:])
}

func (f *fake) list(w io.Writer, prefix string) {
	type item struct{ Key string }
	type result struct {
		XMLName  xml.Name `xml:"ListBucketResult"`
		Contents []item
	}
	var r result
	for name := range f.objects {
		if strings.HasPrefix(name, prefix) {
			r.Contents = append(r.Contents, item{name})
		}
	}
	slices.SortFunc(r.Contents, func(a, b item) int { return strings.Compare(a.Key, b.Key) })
	_ = xml.NewEncoder(w).Encode(r)
}

// client is one of the fake, as another process has it.
func (f *fake) client() *awss3.Client { return sdk("http://fake", storetest.RootUser, f) }

// sdk makes a client of the SDK; with nil, over the network.
func sdk(endpoint, user string, over awss3.HTTPClient) *awss3.Client {
	return awss3.New(awss3.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true, HTTPClient: over,
		Credentials: aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: user, SecretAccessKey: storetest.Password}, nil
		}),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	})
}

// locker of a client, which closes with the test.
func locker(t *testing.T, client *awss3.Client, o *Options) *Locker {
	t.Helper()
	l, err := New(client, storetest.Bucket, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}
