package main

import (
	"database/sql"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
)

func TestOfManyThatMigrateOneDoesAndAllGoOn(t *testing.T) {
	store, path := memory.New(), filepath.Join(t.TempDir(), "app.db")
	var all sync.WaitGroup
	applied := make(chan int, 8)
	for range cap(applied) {
		all.Go(func() {
			db, err := sql.Open("sqlite", "file:"+path)
			if !assert.NoError(t, err) {
				return
			}
			defer db.Close()
			n, err := Migrate(t.Context(), store.Client(""), db)
			assert.NoError(t, err)
			applied <- n
			_, err = db.ExecContext(t.Context(), "SELECT id, value, token, written FROM prices")
			assert.NoError(t, err, "it went on before the schema was there")
		})
	}
	all.Wait()
	close(applied)
	total := 0
	for n := range applied {
		require.Contains(t, []int{0, 2}, n)
		total += n
	}
	require.Equal(t, 2, total)
}
