package dynamodb

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

const table = "locks"

// start runs dynalite with an empty table.
func start(t *testing.T) *storetest.Server {
	t.Helper()
	s := storetest.StartDynalite(t)
	_, err := client(t, s).CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String(table), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("name"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("name"), KeyType: types.KeyTypeHash}},
	})
	require.NoError(t, err)
	made := dynamodb.NewTableExistsWaiter(client(t, s), func(o *dynamodb.TableExistsWaiterOptions) { o.MinDelay = 50 * time.Millisecond })
	require.NoError(t, made.Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String(table)}, time.Minute))
	return s
}

func client(t *testing.T, s *storetest.Server) *dynamodb.Client {
	w := &whole{over: &http.Transport{MaxIdleConnsPerHost: 32}}
	t.Cleanup(func() { w.sent.Wait(); w.over.CloseIdleConnections() })
	return dynamodb.New(dynamodb.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + s.Addr()), HTTPClient: &http.Client{Transport: w},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "key", SecretAccessKey: storetest.Password}, nil
		}),
	})
}

// whole sends each request to its end although its caller has given up: dynalite 4.0.0 ends when
// a connection is closed in the middle of one. DynamoDB does not; a program needs none of this.
type whole struct {
	over *http.Transport
	sent sync.WaitGroup
}

func (w *whole) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	type answer struct {
		res *http.Response
		err error
	}
	answers := make(chan answer, 1)
	w.sent.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), time.Minute)
		defer cancel()
		again := req.Clone(ctx)
		again.Body = io.NopCloser(bytes.NewReader(body))
		res, err := w.over.RoundTrip(again)
		if err == nil {
			var got []byte
			got, err = io.ReadAll(res.Body)
			_ = res.Body.Close()
			res.Body = io.NopCloser(bytes.NewReader(got))
		}
		answers <- answer{res, err}
	})
	select {
	case a := <-answers:
		return a.res, a.err
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

func dial(s *storetest.Server) func(t *testing.T) record.Store {
	return func(t *testing.T) record.Store { return &Store{client(t, s), table} }
}

func TestStore(t *testing.T) {
	recordtest.Run(t, recordtest.Stores{Dial: dial(start(t))})
}

func TestLocks(t *testing.T) {
	s := start(t)
	locktest.Run(t, recordtest.Locks{
		Open:       func(t *testing.T) func(t *testing.T) record.Store { return dial(s) },
		Options:    &record.Options{Poll: 20 * time.Millisecond},
		TTL:        400 * time.Millisecond,
		AllowSkips: []string{"Wrap", "Skew"}, // a server is on live time, and its clock is this machine's
	}.Harness())
}

func TestALeaseSurvivesAServerThatHangs(t *testing.T) {
	s := start(t)
	l, err := New(client(t, s), table, &record.Options{Timeout: time.Second})
	require.NoError(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	lease, err := lock.Acquire(ctx, l, "k", time.Minute, nil)
	require.NoError(t, err)
	s.Pause()
	require.ErrorIs(t, lease.Extend(ctx, time.Minute), lock.ErrUnavailable)
	s.Resume()
	for lease.Extend(ctx, time.Minute) != nil { // it may need more than the time of one request
		require.NoError(t, ctx.Err())
	}
	for lease.Release(ctx) != nil {
		require.NoError(t, ctx.Err())
	}
}

func TestATableThatIsNotThereIsRefusedWithWhatToDo(t *testing.T) {
	l, err := New(client(t, start(t)), "other", nil)
	require.NoError(t, err)
	defer l.Close()
	_, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, `"name" as its only key`)
}
