package main

import (
	"bytes"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

var reported = regexp.MustCompile(`(?m)^seed (\d+), .* hash ([0-9a-f]{16})$`)

// histories gives the hash of all events of each seed.
func histories(t *testing.T, args ...string) map[string]string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, run(&out, append(args, "-each", "-terms", "60", "-waits", "yes")), "%s", &out)
	of := map[string]string{}
	for _, m := range reported.FindAllStringSubmatch(out.String(), -1) {
		of[m[1]] = m[2]
	}
	return of
}

// A violation that a batch finds is looked at by its seed alone.
func TestASeedReplaysAloneAsAmongOthers(t *testing.T) {
	batch := histories(t, "-seed", "1040", "-runs", "5")
	require.Len(t, batch, 5)
	for _, seed := range []string{"1042", "1044"} {
		require.Equal(t, map[string]string{seed: batch[seed]}, histories(t, "-seed", seed, "-runs", "1"))
	}
}
