package s3

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

// What others do with a bucket: encrypt it, retain or archive its objects, put theirs into it.

// An ETag is the hash of the content with some encryptions and not with others, and a bucket's
// objects may have been written with either.
func TestABucketWhoseEncryptionChangesKeepsItsLocks(t *testing.T) {
	for _, before := range []bool{false, true} {
		f := newFake()
		f.encrypted = before
		l := locker(t, f.client(), nil)
		lease, err := l.TryAcquire(t.Context(), "held", time.Minute)
		require.NoError(t, err)
		free, err := l.TryAcquire(t.Context(), "free", time.Minute)
		require.NoError(t, err)
		require.NoError(t, free.Release(t.Context()))

		f.set(func() { f.encrypted = !before })
		fresh := locker(t, f.client(), nil)
		for _, of := range []*Locker{fresh, l} {
			_, err = of.TryAcquire(t.Context(), "held", time.Minute)
			require.ErrorIs(t, err, lock.ErrHeld)
			next, err := of.TryAcquire(t.Context(), "free", time.Minute)
			require.NoError(t, err)
			require.NoError(t, next.Release(t.Context()))
		}
		require.NoError(t, lease.Extend(t.Context(), time.Minute))
		require.NoError(t, lease.Release(t.Context()))
	}
}

// Amazon S3 asks for a sum of what is put into a bucket with a default retention.
func TestABucketThatRetainsItsObjectsKeepsLocks(t *testing.T) {
	f := newFake()
	f.retains = true
	l := locker(t, f.client(), nil)
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	require.NoError(t, lease.Extend(t.Context(), time.Minute))
	require.NoError(t, lease.Release(t.Context()))
}

func TestObjectsOfOthersBelowThePrefixAreNamedAndNotRead(t *testing.T) {
	f := newFake()
	l := locker(t, f.client(), nil)
	_, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	f.set(func() {
		for _, name := range []string{"report", "", "report.csv", "2026/11/", "k "} {
			f.objects[DefaultPrefix+name] = fakeObject{body: []byte("a,b"), put: time.Now()}
		}
		// As what somebody has put into the directory of a gateway.
		f.objects[DefaultPrefix+"beside"] = fakeObject{body: []byte("a,b"), put: time.Now(), tag: "none"}
	})
	_, err = l.TryAcquire(t.Context(), "report", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, `what is stored at "lockkeeper/report" is no record of lockkeeper`)
	_, err = l.TryAcquire(t.Context(), "beside", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, `what is stored at "lockkeeper/beside" has no ETag`)
	require.NotContains(t, err.Error(), "If-None-Match", "the store is not to blame")
	f.sent()
	n := 0
	for info, err := range l.List(t.Context(), "") {
		require.NoError(t, err)
		require.Equal(t, "k", info.Key)
		n++
	}
	require.Equal(t, 1, n)
	require.LessOrEqual(t, f.sent()[http.MethodGet], 1+2+1+1, "the listing, k, and what may be a key's")
}

func TestAPrefixThatSomeStoresTakeForAPathIsInvalid(t *testing.T) {
	for _, prefix := range []string{"a/../b/", "../", "./a/", "a/.", "a\x00/", "a\n", "\xff/"} {
		_, err := New(newFake().client(), storetest.Bucket, &Options{Prefix: prefix})
		require.ErrorIs(t, err, lock.ErrInvalid, "%q", prefix)
		require.ErrorContains(t, err, "Options.Prefix")
	}
	for _, prefix := range []string{"a/b/", "...", "ü/", "a b+c/", "a..b/", "/a/"} {
		f := newFake()
		_, err := locker(t, f.client(), &Options{Prefix: prefix}).TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err, prefix)
	}
}

// The machine has no credentials, and the address at which clouds give them to it does not
// answer: that is not the store's silence.
func TestCredentialsThatDoNotComeAreNotTheStoresSilence(t *testing.T) {
	f := newFake()
	client := awss3.New(f.client().Options(), func(o *awss3.Options) {
		o.Credentials = aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			<-ctx.Done()
			return aws.Credentials{}, ctx.Err()
		}))
	})
	_, err := locker(t, client, &Options{Record: record.Options{Timeout: 50 * time.Millisecond}}).TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "no credentials in time")
	require.ErrorContains(t, err, "AWS_ACCESS_KEY_ID")
	require.Empty(t, f.sent(), "the store was not asked")
}

// Records of a newer version are named, too.
func TestARecordOfANewerFormatIsNamed(t *testing.T) {
	f := newFake()
	l := locker(t, f.client(), nil)
	text, err := json.Marshal(map[string]any{"v": 2, "key": "k", "token": 1, "seq": 1})
	require.NoError(t, err)
	f.set(func() { f.objects[DefaultPrefix+"k"] = fakeObject{body: bytes.Clone(text), put: time.Now()} })
	_, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, `at "lockkeeper/k" has format 2`)
}
