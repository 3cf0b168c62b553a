package s3_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/s3"
	"github.com/tonsurance/lockkeeper/internal/doctables"
	"github.com/tonsurance/lockkeeper/keepalive"
)

// What the page shows.
var _ = func(ctx context.Context, report func(context.Context) error) error {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	l, err := s3.New(awss3.NewFromConfig(cfg), "my-bucket", nil)
	if err != nil {
		return err
	}
	defer l.Close()
	return keepalive.Do(ctx, l, "nightly-report", time.Minute, report, nil)
}

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	checked, errs := doctables.Check("s3.Options", doctables.Fields(s3.Options{Prefix: s3.DefaultPrefix, Skew: s3.DefaultSkew}))
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
