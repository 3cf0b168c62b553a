//go:build unix

package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestANameThatIsNoLocksIsNotSaidToBeFreeAndNoMore is for who counts the slots from 1.
func TestANameThatIsNoLocksIsNotSaidToBeFreeAndNoMore(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		out, code := do(t, url, nil, "release", "P;slot=1", "--force", "--yes")
		require.Zero(t, code, out)
		require.Contains(t, out, "P;slot=1 is free, but no lock has this name: slot 1 of P is P, which is free, too")

		holder(t, url, nil, "P")
		held := shown(t, url, "P")
		require.True(t, held.Held)
		for _, name := range []string{"P;slot=1", "P;slot=01"} {
			out, code = do(t, url, nil, "show", name)
			require.Zero(t, code, out)
			require.Contains(t, flat(out), name+" is free, but no lock has this name: slot 1 of P is P, which is held by "+held.Holder+": lockkeeper show 'P'")
			r := shown(t, url, name)
			require.False(t, r.Held)
			require.NotNil(t, r.Meant)
			require.Equal(t, "P", r.Meant.Key)
			require.Equal(t, held.Token, r.Meant.Token)
			for _, with := range [][]string{nil, {"--token", held.Token}} {
				out, code = do(t, url, nil, append([]string{"release", name, "--force", "--yes"}, with...)...)
				require.Equal(t, exitHeld, code, out)
				require.Contains(t, flat(out), "nothing was broken: no lock has the name "+name+", which stands for P: see who holds that by lockkeeper show 'P'")
			}
		}
		out, code = do(t, url, nil, "show", "P;slot=2000")
		require.Zero(t, code, out)
		require.Contains(t, flat(out), "P;slot=2000 is free, and no part of P has this name: want 1 to 1024, of which the first is P P is held by "+held.Holder)
		out, code = do(t, url, nil, "release", "P;slot=2000", "--force", "--yes")
		require.Equal(t, exitHeld, code, out)
		out, code = do(t, url, nil, "show", "P;slot=2") // a slot, which is free
		require.Zero(t, code, out)
		require.Contains(t, flat(out), "P;slot=2 is free: it is slot 2 of P P is held by "+held.Holder)
		require.Nil(t, shown(t, url, "P;slot=2").Meant)
		out, code = do(t, url, nil, "release", "P;slot=2", "--force", "--yes")
		require.Zero(t, code, out)
		require.True(t, shown(t, url, "P").Held, "nothing was broken of it")
	})
}

func TestAReadersPlaceIsSaidToBeOne(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		holder(t, url, nil, "doc", "--shared")
		place := shown(t, url, "doc").Readers
		require.Len(t, place, 1)
		out, code := do(t, url, nil, "show", place[0].Key)
		require.Zero(t, code, out)
		require.Regexp(t, `(?m)^part +place \d+ of the readers of doc$`, out)
		out, code = do(t, url, nil, "show", "doc;readers;slot=1")
		require.Zero(t, code, out)
		require.Contains(t, flat(out), "doc;readers;slot=1 is free, but no lock has this name: place 1 of the readers of doc is doc;readers, which is ")
		out, code = do(t, url, nil, "show", "doc;readers;slot=17")
		require.Zero(t, code, out)
		require.Contains(t, flat(out), "doc is held by readers: lockkeeper show 'doc'")
		out, code = do(t, url, nil, "release", "doc;readers;slot=17", "--force", "--yes")
		require.Equal(t, exitHeld, code, out)
		require.Len(t, shown(t, url, "doc").Readers, 1)
	})
}
