package simulation

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// loadLua puts a script together as redlock does: the constants that stand before one that
// redlock has sent, then whatever it may call.
func loadLua(t *testing.T, sent, name string) string {
	var source string
	for _, function := range []string{"server", "vote", "pass_on", "commit", "extend", "confirm", "repair", "release", "leave", "stand"} {
		b, err := os.ReadFile("../../redlock/internal/script/lua/" + function + ".lua")
		require.NoError(t, err)
		if function == "server" {
			constants, _, found := strings.Cut(sent, string(b))
			require.True(t, found, "%s is not what its file has", function)
			source = constants
		}
		source += string(b)
	}
	return source + "return " + name + "(KEYS[1], KEYS[2], unpack(ARGV))\n"
}
