package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// asUser puts credentials where programs with the SDK have them, and nothing else there.
func asUser(t *testing.T, user, secret string) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE",
		"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", user)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	t.Setenv("AWS_CONFIG_FILE", "/nowhere")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true") // it is no host on loopback
}

func opened(t *testing.T, rest string) *Locker {
	t.Helper()
	l, err := open(t.Context(), rest)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.(*Locker).Close()) })
	return l.(*Locker)
}

func at(s *storetest.S3) string { return "//" + storetest.Bucket + "?endpoint=" + s.Endpoint() }

// goesOn repeats a request until it is no outage: a server that comes back, or a busy machine, may
// not answer in the time of one.
func goesOn(t *testing.T, request func() error) error {
	t.Helper()
	for end := time.Now().Add(50 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err := request(); !errors.Is(err, lock.ErrUnavailable) || time.Now().After(end) {
			return err
		}
	}
}

func TestALeaseSurvivesADeathOfTheServerAndASilence(t *testing.T) {
	for name, fault := range map[string]func(s *storetest.S3) (mend func()){
		"killed": func(s *storetest.S3) func() { s.Kill(); return s.Restart },
		"hung":   func(s *storetest.S3) func() { s.Pause(); return s.Resume },
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t)
			o := &Options{Record: record.Options{Timeout: 2 * time.Second, Poll: 50 * time.Millisecond}}
			l, other := locker(t, client(t, s.Endpoint()), o), locker(t, client(t, s.Endpoint()), o)
			lease, err := lock.Acquire(t.Context(), l, "k", time.Minute, nil)
			require.NoError(t, err)
			mend := fault(s)
			require.ErrorIs(t, lease.Extend(t.Context(), time.Minute), lock.ErrUnavailable)
			require.NotZero(t, lease.Expiry(), "an outage ends no lease")
			_, err = other.TryAcquire(t.Context(), "k", time.Minute)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			mend()
			require.NoError(t, goesOn(t, func() error { return lease.Extend(t.Context(), time.Minute) }))
			require.ErrorIs(t, goesOn(t, func() error {
				_, err := other.TryAcquire(t.Context(), "k", time.Minute)
				return err
			}), lock.ErrHeld)
			require.NoError(t, goesOn(t, func() error { return lease.Release(t.Context()) }))
			next, err := lock.Acquire(t.Context(), other, "k", time.Minute, nil)
			require.NoError(t, err)
			require.Greater(t, next.Token(), lease.Token())
		})
	}
}

// The request arrives, its reply does not, and the connection breaks: the SDK sends it again.
func TestRepliesThatTheNetworkLosesCostNoLock(t *testing.T) {
	s := server(t)
	proxy := redistest.NewProxy(t, s.Addr())
	o := &Options{Record: record.Options{Timeout: 2 * time.Second, Poll: 50 * time.Millisecond}}
	l, other := locker(t, client(t, "http://"+proxy.Addr()), o), locker(t, client(t, s.Endpoint()), o)
	lease, err := lock.Acquire(t.Context(), l, "k", time.Minute, nil)
	require.NoError(t, err)
	require.NoError(t, goesOn(t, func() error { return lease.Release(t.Context()) }))
	for range 3 {
		proxy.DropReplies(true)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err = l.TryAcquire(ctx, "k", time.Minute)
		cancel()
		require.Error(t, err)
		proxy.DropReplies(false)
		proxy.Reset()
		// What was applied without a reply is undone.
		within, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		lease, err = lock.Acquire(within, other, "k", time.Minute, nil)
		cancel()
		require.NoError(t, err)
		require.NoError(t, goesOn(t, func() error { return lease.Release(t.Context()) }))
	}
}

func TestObjectsThatAreDeletedByHandEndTheLeaseAndTokensRise(t *testing.T) {
	s := server(t)
	l := locker(t, client(t, s.Endpoint()), nil)
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, s.RemoveObjects())
	require.ErrorIs(t, lease.Extend(t.Context(), time.Minute), lock.ErrLost)
	next, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.Greater(t, next.Token(), lease.Token())
}

const policy = `{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Principal": {"AWS": ["clerk"]}, "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::locks/lockkeeper/*"},
  {"Effect": "Allow", "Principal": {"AWS": ["clerk"]}, "Action": ["s3:ListBucket"], "Resource": "arn:aws:s3:::locks"}
]}`

func TestAUserWithTheLeastRightsCanLock(t *testing.T) {
	s := server(t)
	s.AddUser("clerk")
	admin := client(t, s.Endpoint())
	ctx := t.Context()
	asUser(t, "clerk", storetest.Password)
	_, err := opened(t, at(s)).TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "s3:GetObject and s3:PutObject on the prefix")
	_, err = admin.PutBucketPolicy(ctx, &awss3.PutBucketPolicyInput{Bucket: aws.String(storetest.Bucket), Policy: aws.String(policy)})
	require.NoError(t, err)

	l := opened(t, at(s))
	lease, err := l.TryAcquire(ctx, "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Extend(ctx, time.Minute))
	for info, err := range l.List(ctx, "") {
		require.NoError(t, err)
		require.Equal(t, "k", info.Key)
	}
	require.NoError(t, lease.Release(ctx))
	h, err := l.Health(ctx)
	require.NoError(t, err)
	require.NoError(t, h.Nodes[0].Err)
	require.Contains(t, h.Nodes[0].Facts, lock.Fact{Name: "versioning", Value: "not known"})

	_, err = opened(t, strings.Replace(at(s), "?", "/other?", 1)).TryAcquire(ctx, "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
}

func TestHealthShowsWhatTheBucketIs(t *testing.T) {
	s := server(t)
	c := client(t, s.Endpoint())
	h, err := locker(t, c, nil).Health(t.Context())
	require.NoError(t, err)
	node := h.Nodes[0]
	require.NoError(t, node.Err)
	require.Equal(t, "s3", node.Name)
	require.Empty(t, node.Warnings)
	for _, f := range []lock.Fact{{Name: "bucket", Value: storetest.Bucket}, {Name: "region", Value: "us-east-1"},
		{Name: "conditional writes", Value: "honoured"}, {Name: "ages", Value: "used, less 3s"}} {
		require.Contains(t, node.Facts, f)
	}
	f := newFake()
	f.versioned = true
	h, err = locker(t, f.client(), nil).Health(t.Context())
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(h.Nodes[0].Warnings), `noncurrent versions under "lockkeeper/"`)
}

func TestAPrivateAuthority(t *testing.T) {
	a := storetest.NewAuthority(t)
	s := storetest.StartS3TLS(long(t), a)
	asUser(t, storetest.RootUser, storetest.Password)
	lease, err := opened(t, at(s)+"&tls-ca="+a.File("ca.crt")).TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
	for _, query := range []string{"", "&tls-ca=" + storetest.NewAuthority(t).File("ca.crt")} {
		_, err := opened(t, at(s)+query).TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "certificate")
	}
	t.Setenv("AWS_CA_BUNDLE", a.File("ca.crt")) // the SDK's own
	_, err = opened(t, at(s)).TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
}

func TestMistakesOfEveryDayAreRefusedWithWhatToDo(t *testing.T) {
	s := server(t)
	for _, c := range []struct{ name, rest, user, secret, want string }{
		{"wrong bucket", "//lokcs?endpoint=" + s.Endpoint(), storetest.RootUser, storetest.Password, "make the bucket, or check its name"},
		{"wrong secret", at(s), storetest.RootUser, "hunter2", "check the secret key"},
		{"wrong user", at(s), "toor", storetest.Password, "check the credentials"},
		{"no credentials", at(s), "", "", "AWS_ACCESS_KEY_ID"},
		{"wrong region", at(s) + "&region=eu-west-1", storetest.RootUser, storetest.Password, "set the region"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asUser(t, c.user, c.secret)
			_, err := opened(t, c.rest).TryAcquire(t.Context(), "k", time.Minute)
			require.ErrorIs(t, err, lock.ErrRefused)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "hunter2")
			t.Log(err)
		})
	}
	nobody := redistest.FreePort(t)
	asUser(t, storetest.RootUser, storetest.Password)
	_, err := opened(t, fmt.Sprintf("//locks?endpoint=http://127.0.0.1:%d", nobody)).TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), "https response error")
}

func TestURLs(t *testing.T) {
	asUser(t, storetest.RootUser, storetest.Password)
	for _, rest := range []string{"", "b", "//", "//key:s3cret@b", "//b:99", "//b?tabel=x", "//b?endpoint=h:9000", "//b?endpoint=http://u:s3cret@h", "//b?endpoint=http://h/path",
		"//b?region=x&tls-ca=/missing", "//b?endpoint=http://h&tls-cert=/a", "//b#x", "//b?region=x&skew=-5s", "//b?region=x&skew=5ns", "//b?region=x&skew=2h", "//b?region=x&poll=1", "//b/" + strings.Repeat("x", 200) + "?region=x", "//b%zz"} {
		_, err := open(t.Context(), rest)
		require.ErrorIs(t, err, lock.ErrInvalid, rest)
		require.NotContains(t, err.Error(), "s3cret")
	}
	_, err := open(t.Context(), "//b")
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "AWS_REGION")
	t.Setenv("AWS_REGION", "eu-west-1")
	for rest, want := range map[string]address{
		"//b":                                     {bucket: "b"},
		"//b/team/locks/?skew=off&poll=5s":        {bucket: "b", options: Options{Prefix: "team/locks/", Skew: -1, Record: record.Options{Poll: 5 * time.Second}}},
		"//b?endpoint=https://h:1&region=r":       {bucket: "b", endpoint: "https://h:1", region: "r"},
		"//b?path-style=false&profile=p&skew=10s": {bucket: "b", profile: "p", pathStyle: aws.Bool(false), options: Options{Skew: 10 * time.Second}},
	} {
		a, err := parse(rest)
		require.NoError(t, err)
		require.Equal(t, want, a)
		if a.profile == "" {
			opened(t, rest)
		}
	}
	_, err = open(t.Context(), "//b?profile=nosuch")
	require.ErrorIs(t, err, lock.ErrInvalid)
}

func TestOptionsThatCanNotWorkAreRefused(t *testing.T) {
	c := newFake().client()
	for _, o := range []*Options{{Skew: -2}, {Skew: 5}, {Skew: 2 * time.Hour}, {Prefix: strings.Repeat("x", 201)}, {Record: record.Options{Poll: 1}}} {
		_, err := New(c, "b", o)
		require.ErrorIs(t, err, lock.ErrInvalid)
	}
	_, err := New(nil, "b", nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = New(c, "", nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = New(c, "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
}

// A client of net/http makes a GET of a PUT that is redirected, and that would succeed.
func TestARedirectThatWouldMakeAReadOfAWriteIsNotFollowed(t *testing.T) {
	for status, follow := range map[int]bool{301: false, 302: false, 303: false, 307: true, 308: true} {
		err := sameMethod(&http.Request{Response: &http.Response{StatusCode: status}}, nil)
		require.Equal(t, follow, err == nil, status)
	}
}

func TestALeaderIsFollowedByAnother(t *testing.T) {
	s := server(t)
	o := &Options{Record: record.Options{Poll: 50 * time.Millisecond}}
	a, b := locker(t, client(t, s.Endpoint()), o), locker(t, client(t, s.Endpoint()), o)
	leads := make(chan string)
	run := func(ctx context.Context, l lock.Locker, who string) {
		_ = leader.Run(ctx, l, "oracle", func(ctx context.Context) error {
			select {
			case leads <- who:
				<-ctx.Done()
			case <-ctx.Done():
			}
			return nil
		}, nil)
	}
	first, end := context.WithCancel(t.Context())
	go run(first, a, "a")
	require.Equal(t, "a", <-leads)
	second, done := context.WithCancel(t.Context())
	defer done()
	go run(second, b, "b")
	end()
	require.Equal(t, "b", <-leads)
}
