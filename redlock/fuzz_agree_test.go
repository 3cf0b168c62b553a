package redlock

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Anybody can write the key in which clients agree: no text makes a client panic, none of
// it comes out as more than a line, and none with other numbers is agreed to.
func FuzzTerms(f *testing.F) {
	mine := terms{Quorum: 2, Guard: 60_000, Nodes: []member{
		{Name: "a:1", Run: "ra", Port: "1", uptime: time.Hour}, {Name: "b:1", Run: "rb", earlier: []string{"r"}}, {Name: "c:1"},
	}}
	f.Add(mine.text(), int64(0))
	f.Add(`{"nodes":[{"name":"a:1"},{"name":"a:1"},{"name":"a:1"}],"quorum":2,"guard_ms":60000}`, int64(1))
	f.Add(`{"nodes":[{"name":"x\n","run":"r","seen_s":-9223372036854775808}],"quorum":1,"guard_ms":-1}`, int64(-1))
	f.Add(`{"nodes":[{"name":"x","run":"z","port":"9"},{"run":"ra"},{}],"quorum":2,"guard_ms":60000}`, int64(1)<<62)
	f.Fuzz(func(t *testing.T, text string, ago int64) {
		others, err := parseTerms(text)
		if err != nil {
			return
		}
		require.NotContains(t, others.String(), "\n")
		joined, ok := mine.join(others, time.Duration(ago))
		if !ok {
			return
		}
		require.Len(t, others.Nodes, 3)
		require.Equal(t, 2, others.Quorum)
		require.EqualValues(t, 60_000, others.Guard)
		again, err := parseTerms(joined.text())
		require.NoError(t, err)
		_, ok = mine.join(again, 0)
		require.True(t, ok || !strings.Contains(text, mine.Nodes[0].Name), "what was joined is agreed to")
	})
}
