package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/fence"
	"github.com/tonsurance/lockkeeper/internal/fencetest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
)

func TestFence(t *testing.T) {
	db := storetest.StartPostgres(t).Open("app")
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	fencetest.RunSQL(t, db, fence.Postgres)
}
