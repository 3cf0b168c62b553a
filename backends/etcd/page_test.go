package etcd_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tonsurance/lockkeeper/backends/etcd"
	"github.com/tonsurance/lockkeeper/internal/doctables"
	"github.com/tonsurance/lockkeeper/leader"
)

// What the page shows.
var _ = func(ctx context.Context, endpoints []string, run func(context.Context) error) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints})
	if err != nil {
		return err
	}
	defer client.Close()
	l, err := etcd.New(client, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	return leader.Run(ctx, l, "pricing-oracle-keeper", run, nil)
}

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	checked, errs := doctables.Check("etcd.Options", doctables.Fields(etcd.Options{Prefix: etcd.DefaultPrefix}))
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
