package postgres_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/postgres"
	"github.com/tonsurance/lockkeeper/backends/sql"
	"github.com/tonsurance/lockkeeper/internal/doctables"
	"github.com/tonsurance/lockkeeper/leader"
)

// What the page shows.
var _ = func(ctx context.Context, run func(context.Context) error) error {
	l, err := postgres.New("postgres://app:secret@db/app", nil)
	if err != nil {
		return err
	}
	defer l.Close()
	return leader.Run(ctx, l, "pricing-oracle-keeper", run, nil)
}

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	checked, errs := doctables.Check("postgres.Options", doctables.Fields(postgres.Options{Table: sql.DefaultTable}))
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
