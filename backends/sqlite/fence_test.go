package sqlite

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/fence"
	"github.com/tonsurance/lockkeeper/internal/fencetest"
)

func TestFence(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "prices.db")+"?_txlock=immediate&_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	fencetest.RunSQL(t, db, fence.SQLite)
}
