package urlparams

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

func TestHostsOfAURLAreRead(t *testing.T) {
	for rest, want := range map[string]Hosts{
		"//h":                     {URLs: []string{"s://h:7"}},
		"//h:":                    {URLs: []string{"s://h:7"}},
		"//h1:1,h2,[::1],[::2]:3": {URLs: []string{"s://h1:1", "s://h2:7", "s://[::1]:7", "s://[::2]:3"}},
		"//h/?a=b":                {URLs: []string{"s://h:7"}},
		"//user:p%40ss@h1,h2":     {URLs: []string{"s://h1:7", "s://h2:7"}, Named: true, Credentials: "user:p%40ss"},
		"//token@h":               {URLs: []string{"s://h:7"}, Named: true, Credentials: "token"},
		"//@h":                    {URLs: []string{"s://h:7"}, Named: true},
		"//a:b@c@h":               {URLs: []string{"s://h:7"}, Named: true, Credentials: "a:b@c"},
	} {
		got, err := ReadHosts("s", rest, "7", "hosts")
		require.NoError(t, err, rest)
		require.NotNil(t, got.Params, rest)
		got.Params = nil
		require.Equal(t, want, got, rest)
	}
	h, err := ReadHosts("s", "//h1,h2?prefix=a/b", "7", "hosts")
	require.NoError(t, err)
	require.Equal(t, "a/b", h.Params.Text("prefix"))
}

func TestWhatNamesNoHostsIsRefusedAndNotQuoted(t *testing.T) {
	for rest, want := range map[string]string{
		"":                     "want hosts",
		"h":                    "want hosts",
		"//":                   "want hosts",
		"//secret@":            "want hosts",
		"//h/secret":           "want hosts",
		"//h#secret":           "want hosts",
		"//h?a#secret":         "want hosts",
		"//h?a=%secret":        "not a URL",
		"//h,":                 "a host is empty",
		"//user:secret@h:port": "a host is empty or has a bad port",
		"//:1":                 "a host is empty",
	} {
		_, err := ReadHosts("s", rest, "7", "hosts")
		require.ErrorIs(t, err, lock.ErrInvalid, rest)
		require.ErrorContains(t, err, want, rest)
		require.NotContains(t, err.Error(), "secret", rest)
	}
}
