package record_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestNames(t *testing.T) {
	for key, want := range map[string]string{
		"orders.daily": "orders.daily", "a/b": "a=2fb", ".": "=2e", "..": "=2e.", "é": "=c3=a9", "a=b": "a=3db", "K": "K",
	} {
		require.Equal(t, want, name(t, key))
	}
	lower := record.Names{Prefix: "p-", Max: 80, Escape: '_', Safe: func(c byte) bool { return c >= 'a' && c <= 'z' || c == '-' }}
	got, err := lower.Name("Orders")
	require.NoError(t, err)
	require.Equal(t, "p-_4frders", got)
	long, err := lower.Name(strings.Repeat("é", 200))
	require.NoError(t, err)
	require.LessOrEqual(t, len(long), 80)
	_, err = record.Names{Prefix: "p", Max: 60}.Name("k")
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = record.Names{}.Name("")
	require.ErrorIs(t, err, lock.ErrInvalid)
}

func TestNoTwoKeysShareAName(t *testing.T) {
	names := record.Names{Max: 75}
	seen := map[string]string{}
	for range 20_000 {
		b := make([]byte, 1+rand.IntN(40))
		for i := range b {
			b[i] = "a=A.-/==2fb"[rand.IntN(11)]
		}
		key := string(b)
		got, err := names.Name(key)
		require.NoError(t, err)
		require.LessOrEqual(t, len(got), 75)
		if other, ok := seen[got]; ok {
			require.Equal(t, other, key, "both are %q", got)
		}
		seen[got] = key
		require.NotContains(t, []string{"==health", "==pruned"}, got)
	}
}

func TestOptionsThatCanNotWorkAreRefused(t *testing.T) {
	m := recordtest.NewMemory()
	for want, o := range map[string]record.Options{
		"Options.Owner":     {Owner: "a\nb"},
		"Options.Poll":      {Poll: 5},
		"Options.HeadStart": {HeadStart: 5},
		"Options.Timeout":   {Timeout: -1},
		"Options.Grace":     {Grace: time.Second},
		"Names.Max":         {Names: record.Names{Max: 5}},
	} {
		_, err := record.New(m, &o)
		require.ErrorIs(t, err, lock.ErrInvalid)
		require.ErrorContains(t, err, want)
	}
	_, err := record.New(nil, nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
}

func TestHealthWritesAsALockDoes(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p := over(t, m, nil)
		for range 2 {
			h, err := p.Health(t.Context())
			require.NoError(t, err)
			require.True(t, h.HasQuorum())
		}
		h, err := over(t, refusingPuts{m}, nil).Health(t.Context())
		require.NoError(t, err)
		require.ErrorIs(t, h.Nodes[0].Err, lock.ErrRefused, "reads work, writes don't")
		for info, err := range p.List(t.Context(), "") {
			require.NoError(t, err)
			t.Errorf("List shows %+v", info)
		}
	})
}

type refusingPuts struct{ *recordtest.Memory }

func (s refusingPuts) Put(context.Context, string, record.Record, string) (string, error) {
	return "", fmt.Errorf("%w: read-only", lock.ErrRefused)
}

func TestALockerListsNoRecordsOfOneWithALongerPrefix(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		safe := func(c byte) bool { return c == '/' || c >= 'a' && c <= 'z' }
		outer := over(t, m, &record.Options{Names: record.Names{Prefix: "a/", Safe: safe}})
		inner := over(t, m, &record.Options{Names: record.Names{Prefix: "a/b/", Safe: safe}})
		mine := take(t, outer, "x", time.Hour)
		time.Sleep(time.Second)
		theirs := take(t, inner, "x", time.Hour) // with a larger token
		take(t, inner, "y", time.Hour)
		for info, err := range outer.List(t.Context(), "") {
			require.NoError(t, err)
			require.Equal(t, "x", info.Key)
			require.Equal(t, mine.Token(), info.Token)
		}
		require.NoError(t, theirs.Release(t.Context()))
		for range outer.List(t.Context(), "") {
		}
		info, err := outer.Inspect(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, mine.Token(), info.Token, "it is held")
		time.Sleep(8 * 24 * time.Hour)
		n, err := outer.Prune(t.Context(), 0)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}
