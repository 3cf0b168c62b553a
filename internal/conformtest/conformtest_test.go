package conformtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const page = `# Stores
<!-- locks: written by make conformance -->

| run | cases | left out |
|---|---|---|
| etcd | 90 |  |
| SQLite | 90 |  |

<!-- end of locks -->
the rest
`

func TestARowThatIsNotWhatCameOutIsSeen(t *testing.T) {
	same, found, err := with(page, "locks", "| etcd | 90 |  |")
	require.NoError(t, err)
	require.Equal(t, page, same)
	require.Equal(t, "| etcd | 90 |  |", found)
	other, found, err := with(page, "locks", "| etcd | 89 | Wrap: `A/B` |")
	require.NoError(t, err)
	require.NotEqual(t, page, other)
	require.Equal(t, "| etcd | 90 |  |", found)
	again, _, err := with(other, "locks", "| etcd | 90 |  |")
	require.NoError(t, err)
	require.Equal(t, page, again, "nothing else has changed")
}

func TestANewRowStandsWhereItsNameBelongs(t *testing.T) {
	changed, found, err := with(page, "locks", "| Postgres | 90 |  |")
	require.NoError(t, err)
	require.Empty(t, found)
	names, err := Rows(changed, "locks")
	require.NoError(t, err)
	require.Equal(t, []string{"etcd", "postgres", "sqlite"}, names)
}

func TestAPageWithoutTheTableIsAnError(t *testing.T) {
	_, _, err := with(page, "stores", "| etcd |")
	require.Error(t, err)
	_, err = Rows("", "locks")
	require.Error(t, err)
}

func TestWhatIsLeftOutIsInOneOrder(t *testing.T) {
	require.Equal(t, "Peer: `C`; Wrap: `A`, `B`", leftOut(map[string][]string{"Wrap": {"B", "A"}, "Peer": {"C"}}))
	require.Empty(t, leftOut(nil))
}
