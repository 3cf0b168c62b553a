package simulation

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// loadLua puts a script together as redlock does: what stands before extend, and its own
// function in place of that one.
func loadLua(t *testing.T, extend, name string) string {
	function := func(name string) string {
		b, err := os.ReadFile("../../redlock/internal/script/lua/" + name + ".lua")
		require.NoError(t, err)
		return string(b)
	}
	head, _, found := strings.Cut(extend, function("extend"))
	require.True(t, found, "extend is not what its file has")
	return head + function(name) + "return " + name + "(KEYS[1], KEYS[2], unpack(ARGV))\n"
}
