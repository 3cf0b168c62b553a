package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A list of nodes is read or refused, and no piece of a password in it is shown,
// however badly that is encoded.
func FuzzNodes(f *testing.F) {
	pieces := []string{"Zq7x", "Wk9v", "Jy5u"}
	for _, scheme := range []string{"", "redis://", "rediss://", "http://", "://"} {
		for _, sep := range []string{"", "/", "?", "#", "@", ":", "%", "%zz", "[", ",", " ", "\x00", ":1,"} {
			f.Add(scheme+"u:", sep, sep, "h:1,i:2")
		}
	}
	f.Add("h:1,", ",", "", "h:0")
	f.Fuzz(func(t *testing.T, begin, one, two, tail string) {
		for _, piece := range pieces {
			if strings.Contains(begin+one+two+tail, piece) {
				t.Skip()
			}
		}
		a := &app{getenv: func(string) string { return "" }}
		s, err := a.redisNodes("--nodes", begin+pieces[0]+one+pieces[1]+two+pieces[2]+"@"+tail)
		if err == nil {
			require.NotEmpty(t, s.nodes)
			return
		}
		for _, piece := range pieces {
			require.NotContains(t, err.Error(), piece)
		}
	})
}
