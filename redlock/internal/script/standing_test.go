package script

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzPushes reads anything that is published on a process' channel: by anyone who may.
func FuzzPushes(f *testing.F) {
	for _, seed := range []string{
		"W 5 1000 1700000000000000", "W 0 1 1", "W -1 1 1", "W 9007199254740992 1 1", "W 1 -1 1", "W 1 9223372036854775807 1", "W 1 1 -1",
		" 1 1 1", "W  1 1", "W 1 1", "W 1 1 1 1", "", "W 1.5 1 1", "W 1e3 1 1", "W 01 01 01", "W\n1 1 1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, message string) {
		p, err := ParsePush(message)
		if err != nil {
			require.Empty(t, p.Count)
			return
		}
		require.Equal(t, 3, strings.Count(message, " "))
		require.NotEmpty(t, p.Waiter)
		require.NotContains(t, p.Waiter, " ")
		require.True(t, p.Count > 0 && p.Count < maxCount && p.Stamp >= 0 && p.Position < maxCount, "%+v", p)
		require.Zero(t, p.Stamp%time.Microsecond)
	})
}

func TestAStampIsNeverAboveWhatWasWaited(t *testing.T) {
	for _, waited := range []time.Duration{0, 1, 999, 1000, 1999, time.Hour + 999} {
		q := Stand{Waited: waited}.Request(Keys{}, "1", Guard{})
		stamp, err := time.ParseDuration(q.args[6] + "us")
		require.NoError(t, err)
		require.LessOrEqual(t, stamp, waited)
		require.Less(t, waited-stamp, time.Microsecond)
	}
}

func TestEachScriptIsCalledAsAFunctionOfItsOwnLibraryOrNotAtAll(t *testing.T) {
	for _, s := range All() {
		if s.way == asScript {
			require.Empty(t, s.function, s.Name)
			require.NotContains(t, library, "register('"+s.Name+"'", s.Name)
			continue
		}
		require.Equal(t, Library+"_"+s.Name, s.function)
		flags := map[way]string{keeps: "{'allow-oom'}", takes: "{}"}[s.way]
		require.Contains(t, library, "register('"+s.Name+"', alone("+s.Name+"), "+flags+")\n")
	}
	for _, s := range []*Script{acquire, stand, repair} {
		require.Equal(t, takes, s.way, "%s takes memory", s.Name)
	}
	require.True(t, strings.HasPrefix(library, "#!lua name="+Library+"\n"))
}
