package inspect

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestANameIsReadAsThePartThatPeopleMeanByIt(t *testing.T) {
	for name, want := range map[string]Part{
		"P;slot=2":               {"P", "slot 2", "P;slot=2", "P", 1024},
		"P;slot=1024":            {"P", "slot 1024", "P;slot=1024", "P", 1024},
		"P;slot=1":               {"P", "slot 1", "P", "P", 1024},
		"P;slot=007":             {"P", "slot 7", "P;slot=7", "P", 1024},
		"P;slot=0":               {"P", "slot 0", "", "P", 1024},
		"P;slot=1025":            {"P", "slot 1025", "", "P", 1024},
		"P;readers":              {"P", "place 1 of the readers", "P;readers", "P;readers", 16},
		"P;readers;slot=1":       {"P", "place 1 of the readers", "P;readers", "P;readers", 16},
		"P;readers;slot=3":       {"P", "place 3 of the readers", "P;readers;slot=3", "P;readers", 16},
		"P;readers;slot=17":      {"P", "place 17 of the readers", "", "P;readers", 16},
		"a;slot=2;slot=3":        {"a;slot=2", "slot 3", "a;slot=2;slot=3", "a;slot=2", 1024},
		"P;resign=1795678661850": {"P", "the request to resign to the term with token 1795678661850", "P;resign=1795678661850", "", 0},
	} {
		p, ok := PartOf(name)
		require.True(t, ok, name)
		require.Equal(t, want, p, name)
	}
	for _, name := range []string{"P", "P;slot=", "P;slot=-1", "P;slot=+1", "P;slot=x", ";slot=1", ";readers", "P;slot", "P;slot=99999999999999999999"} {
		_, ok := PartOf(name)
		require.False(t, ok, name)
	}
}
