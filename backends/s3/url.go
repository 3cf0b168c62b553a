package s3

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/internal/registry"
	"github.com/tonsurance/lockkeeper/internal/tlsfile"
	"github.com/tonsurance/lockkeeper/internal/urlparams"
	"github.com/tonsurance/lockkeeper/lock"
)

func init() { registry.Register("s3", open) }

// address is what a URL says.
type address struct {
	bucket, endpoint, region, profile string
	pathStyle                         *bool // nil: not said
	tlsCA, tlsCert, tlsKey            string
	options                           Options
}

// open takes //bucket/prefix?endpoint=&region=... Credentials are those that the SDK finds.
func open(ctx context.Context, rest string) (lock.Locker, error) {
	a, err := parse(rest)
	if err != nil {
		return nil, err
	}
	client, closeIdle, err := a.client(ctx)
	if err != nil {
		return nil, err
	}
	l, err := New(client, a.bucket, &a.options)
	if err != nil {
		closeIdle()
		return nil, err
	}
	l.close = closeIdle
	return l, nil
}

func parse(rest string) (a address, err error) {
	u, err := url.Parse("s3:" + rest)
	if err != nil {
		return a, urlparams.ErrNoURL
	}
	if u.User != nil {
		return a, fmt.Errorf("%w: credentials are not taken from the URL: give them as to every program with the AWS SDK, by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of the machine or function", lock.ErrInvalid)
	}
	if u.Opaque != "" || u.Host == "" || u.Port() != "" {
		return a, fmt.Errorf("%w: want s3://bucket/prefix and parameters; another store's address is endpoint=https://host", lock.ErrInvalid)
	}
	p, err := urlparams.Parse(u.RawQuery, u.Fragment)
	if err != nil {
		return a, err
	}
	a = address{bucket: u.Host, endpoint: p.Text("endpoint"), region: p.Text("region"), profile: p.Text("profile"), tlsCA: p.Text("tls-ca"), tlsCert: p.Text("tls-cert"), tlsKey: p.Text("tls-key")}
	if prefix := strings.Trim(u.Path, "/"); prefix != "" {
		a.options.Prefix = prefix + "/"
	}
	if p.Has("path-style") {
		a.pathStyle = aws.Bool(p.Flag("path-style"))
	} else {
		p.Text("path-style") // so that it is known
	}
	a.options.Skew = urlparams.Read(p, "skew", "a duration such as 500ms, or off", func(s string) (time.Duration, error) {
		if s == "off" {
			return -1, nil
		}
		d, err := time.ParseDuration(s)
		if err == nil && d < 0 {
			return 0, strconv.ErrRange
		}
		return d, err
	})
	a.options.Record = record.Options{Owner: p.Text("owner"), Poll: p.Duration("poll"), Grace: p.Duration("grace")}
	if err := p.Done(); err != nil {
		return a, err
	}
	if !isEndpoint(a.endpoint) {
		// It may have a password, so it is not quoted.
		return a, fmt.Errorf("%w: parameter endpoint, want a URL such as https://minio.example.org:9000, without credentials, path or parameters", lock.ErrInvalid)
	}
	return a, nil
}

// isEndpoint reports that s can be the address of a store; "": the SDK's own.
func isEndpoint(s string) bool {
	u, err := url.Parse(s)
	return s == "" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil &&
		strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
}

// client makes one as programs with the AWS SDK do: what the URL does not say is found in the
// environment, in the files of ~/.aws, or asked of the machine.
func (a address) client(ctx context.Context) (_ *awss3.Client, closeIdle func(), err error) {
	var load []func(*config.LoadOptions) error
	if a.region != "" {
		load = append(load, config.WithRegion(a.region))
	}
	if a.profile != "" {
		load = append(load, config.WithSharedConfigProfile(a.profile))
	}
	load = append(load,
		// Checksums in trailers are not known to every store; the signature covers a record anyway.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired))
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the AWS SDK's configuration: %w", lock.ErrInvalid, err)
	}
	files, err := tlsfile.Load(a.tlsCA, a.tlsCert, a.tlsKey)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", lock.ErrInvalid, err)
	}
	if files != nil && strings.HasPrefix(a.endpoint, "http:") {
		return nil, nil, fmt.Errorf("%w: files for TLS, and the endpoint is http://, want https://", lock.ErrInvalid)
	}
	built, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		built = awshttp.NewBuildableClient()
	}
	transport := built.GetTransport()
	// HTTP/1 alone: a request that is given up takes its connection with it, and the next one goes
	// over another. HTTP/2 has all of them wait on one that fell silent, for a quarter of an hour.
	transport.Protocols, transport.ForceAttemptHTTP2 = new(http.Protocols), false
	transport.Protocols.SetHTTP1(true)
	if files != nil {
		transport.TLSClientConfig = files
	}
	cfg.HTTPClient = &http.Client{Transport: transport, CheckRedirect: sameMethod}
	client := awss3.NewFromConfig(cfg, func(o *awss3.Options) {
		if a.endpoint != "" {
			o.BaseEndpoint = &a.endpoint
		}
		// A store of one's own rarely has a name for each bucket in DNS.
		o.UsePathStyle = o.BaseEndpoint != nil
		if a.pathStyle != nil {
			o.UsePathStyle = *a.pathStyle
		}
		if o.Region == "" && o.BaseEndpoint != nil {
			o.Region = "us-east-1" // what such stores call the only one
		}
		// Longer pauses would eat up the time that a lock has.
		o.Retryer = retry.AddWithMaxBackoffDelay(o.Retryer, 500*time.Millisecond)
	})
	if client.Options().Region == "" {
		return nil, nil, fmt.Errorf("%w: the bucket's region is not known: want region=, or AWS_REGION in the environment", lock.ErrInvalid)
	}
	return client, transport.CloseIdleConnections, nil
}

// sameMethod follows those redirects alone that repeat a request as it is: others would turn a
// write into a read that succeeds.
func sameMethod(req *http.Request, via []*http.Request) error {
	if code := req.Response.StatusCode; len(via) > 3 || code != http.StatusTemporaryRedirect && code != http.StatusPermanentRedirect {
		return http.ErrUseLastResponse
	}
	return nil
}
