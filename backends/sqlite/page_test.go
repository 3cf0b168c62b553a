package sqlite_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/sql"
	"github.com/tonsurance/lockkeeper/backends/sqlite"
	"github.com/tonsurance/lockkeeper/internal/doctables"
	"github.com/tonsurance/lockkeeper/leader"
)

// What the page shows.
var _ = func(ctx context.Context, run func(context.Context) error) error {
	l, err := sqlite.New("/var/lib/app/app.db", nil)
	if err != nil {
		return err
	}
	defer l.Close()
	return leader.Run(ctx, l, "pricing-oracle-keeper", run, nil)
}

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	checked, errs := doctables.Check("sqlite.Options", doctables.Fields(sqlite.Options{Table: sql.DefaultTable}))
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
