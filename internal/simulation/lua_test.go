package simulation

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// loadLua puts a script together as redlock does.
func loadLua(t *testing.T, name string) string {
	var source string
	for _, file := range []string{"server", name} {
		b, err := os.ReadFile("../../redlock/scripts/" + file + ".lua")
		require.NoError(t, err)
		source += string(b)
	}
	return source + "return " + name + "(KEYS[1], KEYS[2], unpack(ARGV))\n"
}
