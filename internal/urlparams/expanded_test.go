package urlparams

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

func TestAPathThatNothingHasExpandedIsRefused(t *testing.T) {
	for raw, want := range map[string]string{
		"file:///$HOME/locks":                     `the path has "$HOME" in it, which nothing has expanded, want it written out, or %24 for a $`,
		"file:///run/$USER":                       `"$USER"`,
		"file://$HOME/locks":                      `"$HOME"`,
		"file://localhost/${XDG_RUNTIME_DIR}/l":   `"${XDG_RUNTIME_DIR}"`,
		"FILE:///run/${USER:-x}/l?lazy=true":      `"${USER:-x}"`,
		"file:///$(POD_NAME)/l":                   `"$(POD_NAME)"`,
		"file:///$(id -u)":                        `"$(id -u)"`,
		"file:///${HOME":                          `"${HOME"`,
		"file:///~/locks":                         `"~"`,
		"file://~/locks":                          `"~"`,
		"file:///~keeper/locks":                   `"~keeper"`,
		"sqlite:$HOME/locks.db":                   `"$HOME"`,
		"sqlite:/$HOME/locks.db":                  `"$HOME"`,
		"sqlite:~/locks.db?table=t":               `"~"`,
		"redlocks://h?db=1&tls-ca=$HOME/ca.pem":   "tls-ca has a variable ($NAME) or a leading ~ in it, which nothing has expanded",
		"redlock://h?password-file=~/secret":      "password-file has a variable",
		"postgres://h/d?sslrootcert=${HOME}/c":    "sslrootcert has a variable",
		"nats://h?creds=/$X/c":                    "creds has a variable",
		"kubernetes://h:1/n?token%2Dfile=/run/$X": "token-file has a variable",
	} {
		err := Whole(raw)
		require.ErrorIs(t, err, lock.ErrInvalid, raw)
		require.ErrorContains(t, err, want, raw)
	}
	for _, name := range []string{"$HOME/ca.pem", "/run/${X}", "~/ca.pem", "~"} {
		require.ErrorContains(t, ExpandedPath("LOCKKEEPER_TLS_CA", name), "LOCKKEEPER_TLS_CA has a variable ($NAME)")
	}
}

func TestWhatIsMeantOrMayBeAPasswordIsNotTakenForAVariable(t *testing.T) {
	for _, raw := range []string{
		"file:///%24HOME/locks", "file:///%7E/locks", "file:///run/locks~", "file:///run/~/locks", "file:///run/a$", "file:///run/$1",
		"file:///run/locks?owner=$USER", "sqlite:/%24x.db", "redlock://u:$HOME@h?prefix=$x:", "redlock://~:~@h", "postgres://u:${x}@h/~d?options=$x",
		"redlock://h?tls-ca=%24HOME/ca.pem", "memory:", "",
	} {
		require.NoError(t, Whole(raw), raw)
	}
	require.NoError(t, ExpandedPath("LOCKKEEPER_TLS_CA", "/etc/ssl/ca.pem"))
}
