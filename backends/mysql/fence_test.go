package mysql

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/fence"
	"github.com/tonsurance/lockkeeper/internal/fencetest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
)

func TestFence(t *testing.T) {
	s := storetest.StartMySQL(t)
	for _, found := range []string{"false", "true"} { // by which the driver counts rows differently
		t.Run("clientFoundRows="+found, func(t *testing.T) {
			db, err := sql.Open("mysql", s.DSN("app")+"?clientFoundRows="+found)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			for _, table := range []string{"prices", fence.DefaultTable} {
				_, err := db.ExecContext(t.Context(), "DROP TABLE IF EXISTS "+table)
				require.NoError(t, err)
			}
			fencetest.RunSQL(t, db, fence.MySQL)
		})
	}
}
