package dynamodb_test

import (
	"context"
	"errors"
	"log"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/tonsurance/lockkeeper/examples/dynamodb"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// It needs a table, so it is compiled and not run.
func ExampleNew() {
	client := sdk.New(sdk.Options{Region: "eu-west-1"}) // or of config.LoadDefaultConfig
	l, err := dynamodb.New(client, "locks", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	report := func(ctx context.Context) error { return nil } // ctx ends before another can have the key
	err = keepalive.Do(context.Background(), l, "nightly-report", time.Minute, report, nil)
	if errors.Is(err, lock.ErrUnavailable) {
		log.Print("the table does not answer")
	}
}
