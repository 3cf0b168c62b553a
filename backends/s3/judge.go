package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tonsurance/lockkeeper/lock"
)

// failure is what a store says of a request that it did not do.
type failure struct {
	status        int    // 0: it did not answer
	code, message string // of the protocol; "" where it has none
	date          time.Time
	region        string // in which the bucket is, if that is what was wrong
}

func failureOf(err error) (f failure) {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		f.code, f.message = api.ErrorCode(), api.ErrorMessage()
	}
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		f.status = r.HTTPStatusCode()
		if r.Response != nil && r.Response.Response != nil {
			f.date, f.region = parseDate(r.Response.Header), r.Response.Header.Get("X-Amz-Bucket-Region")
		}
	}
	return f
}

// bare reports whether it has no code of the protocol: what answered may be no such store.
func (f failure) bare() bool {
	return f.code == "" || f.code == "UnknownError" || f.code == fmt.Sprint(f.status)
}

func (f failure) String() string {
	switch {
	case f.bare():
		return fmt.Sprint(f.status, " ", http.StatusText(f.status))
	case f.message == "" || f.message == f.code:
		return fmt.Sprint(f.status, " ", f.code)
	}
	return fmt.Sprintf("%d %s: %s", f.status, f.code, strings.TrimSuffix(f.message, "."))
}

const (
	whatItSays = "the store, or what stands before it, does not take such requests"
	keyOfKMS   = "see to the key that the bucket is encrypted by, and to the right to use it"
)

// advice is what to do about an error that asking again does not mend, by the protocol's code.
var advice = map[string]string{
	"AccessDenied":                       "give these credentials s3:GetObject and s3:PutObject on the prefix, and s3:ListBucket on the bucket, without which S3 answers so for what is not there",
	"AccountProblem":                     "see to the account",
	"AllAccessDisabled":                  "see to the account",
	"AuthorizationHeaderMalformed":       "set the region: region= or AWS_REGION",
	"ExpiredToken":                       "get new credentials",
	"IllegalLocationConstraintException": "set the region: region= or AWS_REGION",
	"InvalidAccessKeyId":                 "check the credentials",
	"InvalidArgument":                    whatItSays,
	"InvalidBucketName":                  "check the bucket's name",
	"InvalidObjectState":                 "the object was archived: restore it, and except the prefix from the lifecycle rule that did it",
	"InvalidRequest":                     whatItSays,
	"InvalidToken":                       "check the session token",
	"InvalidURI":                         whatItSays,
	"KeyTooLongError":                    "take a shorter prefix",
	"KMS.DisabledException":              keyOfKMS,
	"KMS.KMSInvalidStateException":       keyOfKMS,
	"KMS.NotFoundException":              keyOfKMS,
	"NoSuchBucket":                       "make the bucket, or check its name and region",
	"NotImplemented":                     "the store does not know conditional writes: use one that honours If-None-Match and If-Match",
	"PermanentRedirect":                  "set the region: region= or AWS_REGION",
	"RequestTimeTooSkewed":               "set this machine's clock, and that of a proxy that sets the Date header",
	"SignatureDoesNotMatch":              "check the secret key, and that no proxy changes requests",
}

const giveCredentials = "give them as to every program with the AWS SDK: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of the machine or function"

// judge says what an error of the SDK means: what is not refused is an outage, which the engine
// says.
func (s *store) judge(ctx context.Context, err error) error {
	f := failureOf(err)
	what, known := advice[f.code]
	// The SDK has no type for it.
	_, noCredentials, unsigned := strings.Cut(err.Error(), "get credentials: ")
	switch {
	case known:
		if f.region != "" && strings.HasPrefix(what, "set the region") {
			what = fmt.Sprintf("set the region to %s: region= or AWS_REGION", f.region)
		}
		return fmt.Errorf("%w: %s: %s; %s", lock.ErrRefused, s, f, what)
	case f.status == http.StatusUnauthorized || f.status == http.StatusForbidden:
		return fmt.Errorf("%w: %s: %s; check the credentials and their rights", lock.ErrRefused, s, f)
	case f.status == http.StatusMovedPermanently || f.status == http.StatusMethodNotAllowed || f.status == http.StatusNotImplemented:
		return fmt.Errorf("%w: %s: %s; check that the endpoint speaks the protocol of S3", lock.ErrRefused, s, f)
	case f.bare() && (f.status == http.StatusNotFound || f.status == http.StatusBadRequest):
		return fmt.Errorf("%w: %s: %s; check that the endpoint speaks the protocol of S3", lock.ErrRefused, s, f)
	case f.status != 0:
		return fmt.Errorf("%s: %s", s, f)
	case unsigned && ctx.Err() != nil: // nothing was asked of the store yet
		return fmt.Errorf("no credentials in time: %s; %s", noCredentials, giveCredentials)
	case ctx.Err() != nil:
		return ctx.Err()
	case unsigned:
		return fmt.Errorf("%w: no credentials: %s; %s", lock.ErrRefused, noCredentials, giveCredentials)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the URL, and the SDK's words around it
	}
	return fmt.Errorf("%s: %w", s, err)
}
