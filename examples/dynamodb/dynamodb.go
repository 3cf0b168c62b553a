// Package dynamodb keeps locks in a table of DynamoDB: an example of a store of one's own, made
// by what backends/record/README.md says, to be copied and made one's own. Both suites pass on
// dynalite, which stands in for DynamoDB; nobody has tried it on the real one.
//
//	l, err := New(dynamodb.NewFromConfig(cfg), "locks", nil)
//	...
//	defer l.Close()
//	err = keepalive.Do(ctx, l, "nightly-report", time.Minute, report, nil)
//
// The table's only key is the string "name": aws dynamodb create-table --table-name locks
// --billing-mode PAY_PER_REQUEST --attribute-definitions AttributeName=name,AttributeType=S
// --key-schema AttributeName=name,KeyType=HASH. It must be of one region: in a global table, a write
// in another region is seen late, and two processes could hold one lock.
package dynamodb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

// New makes a locker of a table whose only key is the string "name". o may be nil: Poll is 1s
// then, because each look is paid for, and Grace is off. DynamoDB does not say how old an item is,
// so a job that runs once takes over after a crash only with Grace (see record.Options).
func New(client *dynamodb.Client, table string, o *record.Options) (*record.Locker, error) {
	var opts record.Options
	if o != nil {
		opts = *o
	}
	if opts.Poll == 0 {
		opts.Poll = time.Second
	}
	return record.New(&Store{client, table}, &opts)
}

// Store keeps an item for each record. Its version is an attribute, random in each write.
type Store struct {
	Client *dynamodb.Client
	Table  string
}

var (
	_ record.Store   = (*Store)(nil)
	_ record.Lister  = (*Store)(nil)
	_ record.Deleter = (*Store)(nil)
)

type item = map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func of(i item, attribute string) string {
	s, _ := i[attribute].(*types.AttributeValueMemberS)
	if s == nil {
		return ""
	}
	return s.Value
}

// entry is the record of an item; nothing there has no version.
func entry(i item) (record.Entry, error) {
	if i == nil {
		return record.Entry{}, nil
	}
	r, err := record.Decode([]byte(of(i, "record")))
	return record.Entry{Record: r, Version: of(i, "version")}, err
}

// Get reads from the server that decides on writes, and not from a replica.
func (s *Store) Get(ctx context.Context, name string) (record.Entry, error) {
	out, err := s.Client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.Table, Key: item{"name": text(name)}, ConsistentRead: aws.Bool(true)})
	if err != nil {
		return record.Entry{}, s.judge(err)
	}
	return entry(out.Item)
}

// unchanged is the condition of a write over a version. An item that is gone has none, so it is
// not made anew.
func unchanged(version string) (condition *string, names map[string]string, values item) {
	if version == "" {
		return aws.String("attribute_not_exists(#name)"), map[string]string{"#name": "name"}, nil
	}
	return aws.String("#version = :version"), map[string]string{"#version": "version"}, item{":version": text(version)}
}

// Put compares and writes in one step of the table.
func (s *Store) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	condition, names, values := unchanged(version)
	next := rand.Text()
	_, err := s.Client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: &s.Table, Item: item{"name": text(name), "version": text(next), "record": text(string(r.Encode()))},
		ConditionExpression: condition, ExpressionAttributeNames: names, ExpressionAttributeValues: values,
	})
	if err != nil {
		return "", s.judge(err)
	}
	return next, nil
}

// Delete is for Prune.
func (s *Store) Delete(ctx context.Context, name, version string) error {
	condition, names, values := unchanged(version)
	_, err := s.Client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &s.Table, Key: item{"name": text(name)},
		ConditionExpression: condition, ExpressionAttributeNames: names, ExpressionAttributeValues: values,
	})
	if err != nil {
		return s.judge(err)
	}
	return nil
}

// List reads the whole table, and is charged so: a scan filters what it has read.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[record.Entry, error] {
	return func(yield func(record.Entry, error) bool) {
		in := &dynamodb.ScanInput{TableName: &s.Table, ConsistentRead: aws.Bool(true)}
		if prefix != "" {
			in.FilterExpression = aws.String("begins_with(#name, :prefix)")
			in.ExpressionAttributeNames = map[string]string{"#name": "name"}
			in.ExpressionAttributeValues = item{":prefix": text(prefix)}
		}
		for pages := dynamodb.NewScanPaginator(s.Client, in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(record.Entry{}, s.judge(err))
				return
			}
			for _, i := range page.Items {
				if e, err := entry(i); err == nil && !yield(e, nil) { // what is no record must not hide others
					return
				}
			}
		}
	}
}

// judge says what an error means: a true conflict, what asking again does not mend, or an outage.
// The SDK repeats what may be repeated; a repetition that meets its own first write is a conflict
// here, and the engine reads back.
func (s *Store) judge(err error) error {
	if _, ok := errors.AsType[*types.ConditionalCheckFailedException](err); ok {
		return record.ErrChanged
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return err
	}
	what := ""
	switch api.ErrorCode() {
	case "ResourceNotFoundException":
		what = "make it, with the string \"name\" as its only key, or check region and name"
	case "AccessDeniedException":
		what = "give these credentials dynamodb:GetItem, PutItem, DeleteItem and Scan on it"
	case "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException":
		what = "check the credentials"
	case "ValidationException":
		what = "its only key must be the string \"name\""
	default:
		return fmt.Errorf("table %q: %s: %s", s.Table, api.ErrorCode(), api.ErrorMessage())
	}
	return fmt.Errorf("%w: table %q: %s: %s; %s", lock.ErrRefused, s.Table, api.ErrorCode(), api.ErrorMessage(), what)
}
