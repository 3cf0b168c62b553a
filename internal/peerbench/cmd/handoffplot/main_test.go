package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const header = "library,waiters are,waiters,hand-offs,p50 ms,p99 ms,commands for each,PINGs for each\n"

func TestEachPlaceIsAPanelAndEachLibraryACurve(t *testing.T) {
	panels, err := read(strings.NewReader(header +
		"ours,here,1,10,1,2,0,0\nours,here,100,10,1.5,3,0,0\ntheirs,here,1,10,90,200,0,0\nours,there,1,10,2,9,0,0\n"))
	require.NoError(t, err)
	require.Len(t, panels, 2)
	require.Equal(t, "here", panels[0].title)
	require.Len(t, panels[0].curves, 2)
	require.Len(t, panels[0].curves[0].p50, 2)
	require.Equal(t, 3.0, panels[0].curves[0].p99[1].Y)
	var svg bytes.Buffer
	require.NoError(t, render(&svg, panels))
	for _, text := range []string{"<svg", "Waiters are there", "ours", "theirs"} {
		require.Contains(t, svg.String(), text)
	}
}

func TestABadFileIsRefusedByLineAndColumn(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "want a header",
		header:                          "want a header",
		header + "a,b,one,1,2,3,0,0\n":  `line 2: "waiters" is "one"`,
		header + "a,b,1,1,-2,3,0,0\n":   `line 2: "p50 ms" is "-2"`,
		header + "a,b,1,1,2,3,0,0\na\n": "wrong number of fields",
	} {
		_, err := read(strings.NewReader(text))
		require.ErrorContains(t, err, want)
	}
	out := filepath.Join(t.TempDir(), "out.svg")
	require.Error(t, run([]string{filepath.Join(t.TempDir(), "none.csv"), out}))
	require.NoFileExists(t, out)
	require.ErrorContains(t, run(nil), "two arguments")
}
