package nats_test

import (
	"context"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/nats"
	"github.com/tonsurance/lockkeeper/internal/doctables"
	"github.com/tonsurance/lockkeeper/leader"
)

// What the page shows.
var _ = func(ctx context.Context, servers string, run func(context.Context) error) error {
	conn, err := natsgo.Connect(servers)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	l, err := nats.New(js, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	return leader.Run(ctx, l, "pricing-oracle-keeper", run, nil)
}

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	checked, errs := doctables.Check("nats.Options", doctables.Fields(nats.Options{Bucket: nats.DefaultBucket}))
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
