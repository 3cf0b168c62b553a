package cli

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/doctables"
)

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	values := map[string]any{}
	// Those of run, and then of lead, count where others have the same: --listen.
	for _, c := range append(a.root().Commands(), a.leadCommand(), a.runCommand()) {
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

// Where two commands have the same flag, one of them says its default in a sentence.
func TestThePageOfServeSaysWhereItListens(t *testing.T) {
	text, err := os.ReadFile("../../cmd/lockkeeper/serve.md")
	require.NoError(t, err)
	require.Contains(t, string(text), "it listens on loopback, "+defaultServe+", unless `--listen` says otherwise")
}
