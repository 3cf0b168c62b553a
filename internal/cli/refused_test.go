//go:build unix

package cli

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheDefaultStoreIsInTheUsersRuntimeDirectory(t *testing.T) {
	runtimeDir := t.TempDir()
	env := []string{"XDG_RUNTIME_DIR=" + runtimeDir, "TMPDIR=" + t.TempDir()}
	out, code := on(t, env, "run", "k", "--", "true")
	require.Zero(t, code, out)
	require.DirExists(t, filepath.Join(runtimeDir, "lockkeeper"))
	out, code = on(t, env, "list")
	require.Zero(t, code, out)
	require.Contains(t, out, "looking at file://"+runtimeDir+"/lockkeeper")
}

// What asking again does not mend ends the command, with what is wrong.
func TestWhatTheStoreRefusesEndsTheCommand(t *testing.T) {
	taken := t.TempDir()
	require.NoError(t, os.Symlink(t.TempDir(), filepath.Join(taken, fmt.Sprintf("lockkeeper-%d", os.Getuid()))))
	plain := filepath.Join(t.TempDir(), "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	linked := t.TempDir()
	require.NoError(t, os.Symlink(plain, filepath.Join(linked, fmt.Sprintf("key.%x", sha256.Sum256([]byte("k"))))))
	for name, c := range map[string]struct {
		env  []string
		says string
	}{
		"a default directory that is a link": {[]string{"XDG_RUNTIME_DIR=none", "TMPDIR=" + taken}, "it is a symbolic link, want a directory: remove it, or name another directory"},
		"no directory":                       {[]string{"LOCKKEEPER_URL=file://" + plain}, "not a directory"},
		"under no directory":                 {[]string{"LOCKKEEPER_URL=file://" + plain + "/locks"}, "not a directory"},
		"a record that is a link":            {[]string{"LOCKKEEPER_URL=file://" + linked}, "too many levels of symbolic links"},
	} {
		for _, args := range [][]string{
			{"run", "k", "--", "true"}, {"run", "--once", "k", "--", "true"}, {"run", "--restart", "k", "--", "true"},
			{"show", "k"}, {"list"}, {"release", "k", "--force", "--yes"},
		} {
			t.Run(name+"/"+args[0], func(t *testing.T) {
				out, code := on(t, c.env, args...)
				require.Equal(t, exitUnavailable, code, out)
				require.Contains(t, out, c.says)
				require.Contains(t, out, "refused by the store")
			})
		}
	}
}
