package recordtest_test

import (
	"context"
	"iter"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
)

// broken are stores that break one obligation each, and the case that must see it.
var broken = []struct {
	name, caughtBy string
	store          func(m *recordtest.Memory) record.Store
}{
	{"last write wins", "AnOldVersionIsRefused", func(m *recordtest.Memory) record.Store { return lastWins{m} }},
	{"create replaces what is there", "AnOldVersionIsRefused", func(m *recordtest.Memory) record.Store { return createReplaces{m} }},
	{"an update creates", "AVersionDiesWithItsRecord", func(m *recordtest.Memory) record.Store { return updateCreates{m} }},
	{"check and write are two steps", "OneOfManyWritesWins", func(m *recordtest.Memory) record.Store { return twoSteps{m} }},
	{"one version for all", "EachStateHasAVersionOfItsOwn", func(m *recordtest.Memory) record.Store { return &oneVersion{Memory: m} }},
	{"reads lag", "AReadIsNoOlderThanAWriteThatHasReturned", func(m *recordtest.Memory) record.Store { return lags{m} }},
	{"ages are too large", "AnAgeIsNeverTooLarge", func(m *recordtest.Memory) record.Store { return tooOld{m} }},
	{"no ages", "AnAgeIsNeverTooLarge", func(m *recordtest.Memory) record.Store { return m.Client(false, true) }},
	{"ttls are whole seconds", "WhatIsPutIsRead", func(m *recordtest.Memory) record.Store { return rounds{m} }},
	{"names in one case", "AnyKeyHasARecord", func(m *recordtest.Memory) record.Store { return folds{m} }},
	{"ctx is ignored", "CallsEndWithTheirContext", func(m *recordtest.Memory) record.Store { return deaf{m} }},
	{"notifications of the first state only", "WatchNotifiesOfTheLatestState", func(m *recordtest.Memory) record.Store { return notifiesOnce{m} }},
	{"notifications while ctx lasts", "WatchNotifiesOfTheLatestState", func(m *recordtest.Memory) record.Store { return endsWithContext{m} }},
	{"notifications after stop", "WatchNotifiesOfTheLatestState", func(m *recordtest.Memory) record.Store { return neverStops{m} }},
	{"lists half", "ListStaysWithinThePrefix", func(m *recordtest.Memory) record.Store { return listsHalf{m} }},
	{"deletes any version", "DeleteGoesByTheVersion", func(m *recordtest.Memory) record.Store { return deletesAny{m} }},
}

const brokenEnv = "RECORDTEST_BROKEN"

// TestBroken is what a process of TestABrokenStoreIsCaught runs.
func TestBroken(t *testing.T) {
	for _, b := range broken {
		if b.name == os.Getenv(brokenEnv) {
			m := recordtest.NewMemory()
			s := b.store(m)
			recordtest.Run(t, recordtest.Stores{Dial: func(*testing.T) record.Store { return s }, Remove: func(_ *testing.T, name string) { m.Remove(name) }, Ages: true})
		}
	}
}

func TestABrokenStoreIsCaught(t *testing.T) {
	for _, b := range broken {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestBroken$/^"+b.caughtBy+"$")
			cmd.Env = append(os.Environ(), brokenEnv+"="+b.name)
			out, err := cmd.CombinedOutput()
			require.Error(t, err, "%s", out)
			require.Contains(t, string(out), "--- FAIL: TestBroken/"+b.caughtBy, "%s", out)
			require.NotContains(t, string(out), "panic:", "%s", out)
		})
	}
}

type lastWins struct{ *recordtest.Memory }

func (s lastWins) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	e, _ := s.Get(ctx, name)
	return s.Memory.Put(ctx, name, r, e.Version)
}

type createReplaces struct{ *recordtest.Memory }

func (s createReplaces) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	if version == "" {
		return lastWins(s).Put(ctx, name, r, version)
	}
	return s.Memory.Put(ctx, name, r, version)
}

type updateCreates struct{ *recordtest.Memory }

func (s updateCreates) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	if e, _ := s.Get(ctx, name); e.Version == "" {
		version = ""
	}
	return s.Memory.Put(ctx, name, r, version)
}

type twoSteps struct{ *recordtest.Memory }

func (s twoSteps) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	if e, err := s.Get(ctx, name); err != nil || e.Version != version {
		return "", record.ErrChanged
	}
	time.Sleep(5 * time.Millisecond)
	return lastWins(s).Put(ctx, name, r, version)
}

// oneVersion reports one version for all states of a name that exist.
type oneVersion struct {
	*recordtest.Memory
	mu sync.Mutex
}

func (s *oneVersion) Get(ctx context.Context, name string) (record.Entry, error) {
	e, err := s.Memory.Get(ctx, name)
	if e.Version != "" {
		e.Version = "1"
	}
	return e, err
}

func (s *oneVersion) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.Memory.Get(ctx, name)
	if (e.Version == "") != (version == "") {
		return "", record.ErrChanged
	}
	if _, err := s.Memory.Put(ctx, name, r, e.Version); err != nil {
		return "", err
	}
	return "1", nil
}

type lags struct{ *recordtest.Memory }

func (s lags) Get(ctx context.Context, name string) (record.Entry, error) {
	return s.GetOld(ctx, name, 20*time.Millisecond)
}

type tooOld struct{ *recordtest.Memory }

func (s tooOld) Get(ctx context.Context, name string) (record.Entry, error) {
	e, err := s.Memory.Get(ctx, name)
	e.Age += time.Second
	return e, err
}

type rounds struct{ *recordtest.Memory }

func (s rounds) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	r.TTL = r.TTL.Round(time.Second)
	return s.Memory.Put(ctx, name, r, version)
}

type folds struct{ *recordtest.Memory }

func (s folds) Get(ctx context.Context, name string) (record.Entry, error) {
	return s.Memory.Get(ctx, strings.ToLower(name))
}

func (s folds) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	return s.Memory.Put(ctx, strings.ToLower(name), r, version)
}

type deaf struct{ *recordtest.Memory }

func (s deaf) Get(_ context.Context, name string) (record.Entry, error) {
	return s.Memory.Get(context.Background(), name)
}

type notifiesOnce struct{ *recordtest.Memory }

func (s notifiesOnce) Watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	var once sync.Once
	return s.Memory.Watch(ctx, name, func(e *record.Entry) { once.Do(func() { changed(e) }) })
}

type endsWithContext struct{ *recordtest.Memory }

func (s endsWithContext) Watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	return s.Memory.Watch(ctx, name, func(e *record.Entry) {
		if ctx.Err() == nil {
			changed(e)
		}
	})
}

type neverStops struct{ *recordtest.Memory }

func (s neverStops) Watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	_, err := s.Memory.Watch(ctx, name, changed)
	return func() {}, err
}

type listsHalf struct{ *recordtest.Memory }

func (s listsHalf) List(ctx context.Context, prefix string) iter.Seq2[record.Entry, error] {
	return func(yield func(record.Entry, error) bool) {
		n := 0
		for e, err := range s.Memory.List(ctx, prefix) {
			if n++; n%2 == 0 && !yield(e, err) {
				return
			}
		}
	}
}

type deletesAny struct{ *recordtest.Memory }

func (s deletesAny) Delete(_ context.Context, name, _ string) error {
	s.Remove(name)
	return nil
}
