package s3_test

import (
	"context"
	"errors"
	"log"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tonsurance/lockkeeper/backends/s3"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// A job that many machines start at about the same time, and one of them does: nobody does it again
// within the hour. It needs a bucket, so it is compiled and not run.
func ExampleNew() {
	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	l, err := s3.New(awss3.NewFromConfig(cfg), "my-bucket", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	report := func(ctx context.Context) error { return nil } // ctx ends before another can have the key
	once := &keepalive.Options{Acquire: &lock.AcquireOptions{Attempts: 1}, AtLeast: time.Hour}
	switch err := keepalive.Do(ctx, l, "nightly-report", time.Minute, report, once); {
	case errors.Is(err, lock.ErrHeld):
		log.Print("another machine does it, or has done it")
	case err != nil:
		log.Fatal(err)
	}
}
