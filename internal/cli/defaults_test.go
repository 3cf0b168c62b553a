package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/doctables"
)

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	values := map[string]any{}
	for _, c := range append(a.root().Commands(), a.runCommand()) { // those of run count where others have the same
		for _, m := range flagNames.FindAllStringSubmatch(c.Flags().FlagUsages(), -1) {
			flag := c.Flags().Lookup(m[1])
			values["--"+flag.Name] = flag.DefValue
			if flag.Shorthand != "" {
				values["-"+flag.Shorthand] = flag.DefValue
			}
		}
	}
	values["REDIS_LOCK_TTL_MS"] = values["--ttl"]
	values["--grace"] = defaultGrace(doctables.TTL)
	checked, errs := doctables.Check("", values)
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
