package recordtest_test

import (
	"context"
	"testing"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
)

func TestMemoryIsAStore(t *testing.T) {
	m := recordtest.NewMemory()
	recordtest.Run(t, recordtest.Stores{
		Dial:   func(*testing.T) record.Store { return m },
		Remove: func(_ *testing.T, name string) { m.Remove(name) },
		Ages:   true,
	})
}

func TestAStoreWithTheTwoMethodsAloneIsEnough(t *testing.T) {
	m := recordtest.NewMemory()
	recordtest.Run(t, recordtest.Stores{Dial: func(*testing.T) record.Store { return twoMethods{m} }})
}

type twoMethods struct{ m *recordtest.Memory }

func (s twoMethods) Get(ctx context.Context, name string) (record.Entry, error) {
	return s.m.Get(ctx, name)
}

func (s twoMethods) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	return s.m.Put(ctx, name, r, version)
}
