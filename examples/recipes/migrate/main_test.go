package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database/stub"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// database is one that several processes migrate, without a lock of its own. Each of its
// migrations calls step.
type database struct {
	*stub.Stub
	step func()
}

func (d *database) Lock() error   { return nil }
func (d *database) Unlock() error { return nil }
func (d *database) Run(migration io.Reader) error {
	if d.step != nil {
		d.step()
	}
	return d.Stub.Run(migration)
}

func newDatabase(t *testing.T, step func()) *database {
	t.Helper()
	driver, err := stub.WithInstance(nil, &stub.Config{})
	require.NoError(t, err)
	return &database{Stub: driver.(*stub.Stub), step: step}
}

func newMigrate(t *testing.T, d *database) *migrate.Migrate {
	t.Helper()
	source, err := iofs.New(files, "migrations")
	require.NoError(t, err)
	m, err := migrate.NewWithInstance("iofs", source, "database", d)
	require.NoError(t, err)
	return m
}

func TestOfManyThatMigrateOneDoesAndAllGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		d := newDatabase(t, func() { time.Sleep(time.Minute) })
		var all sync.WaitGroup
		for range 8 {
			m := newMigrate(t, d)
			all.Go(func() {
				assert.NoError(t, Up(t.Context(), store.Client(""), m))
				assert.Equal(t, 3, d.CurrentVersion)
			})
		}
		all.Wait()
		require.Equal(t, []string{"CREATE 1\n", "CREATE 2\n", "CREATE 3\n"}, d.MigrationSequence)
	})
}

func TestNoMigrationBeginsAfterTheLockIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		d := newDatabase(t, nil)
		d.step = func() {
			if err := store.ForceRelease(context.Background(), "migrate/app", 0); err != nil {
				t.Error(err)
			}
			time.Sleep(30 * time.Second) // until the next renewal, which sees it
		}
		err := Up(t.Context(), store, newMigrate(t, d))
		require.ErrorIs(t, err, lock.ErrLost)
		require.Len(t, d.MigrationSequence, 1)
	})
}

func TestASignalEndsTheMigrationsAfterTheOneUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, signal := memory.New(), errors.New("signal")
		ctx, cancel := context.WithCancelCause(t.Context())
		d := newDatabase(t, func() { cancel(signal) })
		require.ErrorIs(t, Up(ctx, store, newMigrate(t, d)), signal)
		require.Len(t, d.MigrationSequence, 1)
		info, err := store.Inspect(t.Context(), "migrate/app")
		require.NoError(t, err)
		require.Empty(t, info.Holder)
		d.step = nil
		require.NoError(t, Up(t.Context(), store, newMigrate(t, d)))
		require.Equal(t, 3, d.CurrentVersion)
	})
}
