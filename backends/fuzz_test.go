package backends

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever is wrong with a URL, and however badly the password in it is encoded, the
// error shows no piece of it.
func FuzzOpen(f *testing.F) {
	pieces := []string{"Zq7x", "Wk9v", "Jy5u"}
	for _, scheme := range []string{"redlock", "redlocks", "REDLOCK", "memory", "redis", "http", ""} {
		for _, sep := range []string{"", "/", "?", "#", "@", ":", "%", "%zz", "[", ",", " ", "\x00", "&db="} {
			f.Add(scheme, "//u:", sep, sep, "h:1")
			f.Add(scheme, "u:", sep, sep, "h:1")
		}
	}
	for _, tail := range []string{"h:0", "h:99999", "[::1", "h/x", "h,,i", "h?db=-1", "h?x=y", "h?quorum=x", "", "h:1,i:2?owner=%zz", "h?node-timeout=-1s", "h#f", "h,h"} {
		f.Add("redlock", "//:", "", "", tail)
		f.Add("redlock", "//:", "%3F", "%2F", tail)
	}
	f.Fuzz(func(t *testing.T, scheme, user, one, two, tail string) {
		if name, _, _ := strings.Cut(scheme, ":"); strings.EqualFold(name, "file") {
			t.Skip() // it would make directories
		}
		if !strings.Contains(user, ":") {
			t.Skip() // where there is no user, there is no password
		}
		for _, piece := range pieces {
			if strings.Contains(scheme+user+one+two+tail, piece) {
				t.Skip()
			}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel() // what is found good is not connected to
		_, err := Open(ended, scheme+":"+user+pieces[0]+one+pieces[1]+two+pieces[2]+"@"+tail)
		require.Error(t, err)
		for _, piece := range pieces {
			require.NotContains(t, strings.ToLower(err.Error()), strings.ToLower(piece))
		}
	})
}
