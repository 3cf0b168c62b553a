//go:build linux || darwin || freebsd

package file

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Processes contend for one key and are killed at random moments. Their history
// must read as if there had been one holder at a time.
func TestKilledContendersNeverShareTheKey(t *testing.T) {
	dir := t.TempDir()
	release(t, acquire(t, newLocker(t, dir, nil), "k", long)) // a process that makes the file and is killed leaves one
	killContenders(t, dir, "0s", func() {})
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		require.False(t, strings.HasPrefix(entry.Name(), newPrefix), entry.Name())
	}
}

// The same while the key's file looks old: each process that starts deletes it if it is
// free, and may be killed while it does.
func TestKilledContendersNeverShareAKeyThatIsPruned(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, &Options{Lazy: true})
	path, past := l.keyPath("k"), time.Now().Add(-old)
	pruned := 0
	killContenders(t, dir, "2ms", func() {
		before, err := os.Stat(path)
		for range 20 {
			_ = os.Chtimes(path, past, past)
			l.tidy(t.Context())
		}
		if after, afterErr := os.Stat(path); err == nil && (afterErr != nil || !os.SameFile(before, after)) {
			pruned++
		}
	})
	t.Logf("pruned %d times", pruned)
	require.Positive(t, pruned)
}

// killContenders calls meanwhile before each kill. The contenders leave the key free for
// up to pause.
func killContenders(t *testing.T, dir, pause string, meanwhile func()) {
	history := filepath.Join(t.TempDir(), "history")
	require.NoError(t, os.WriteFile(history, nil, 0o600))
	var contenders [3]*process
	restart := func(i int) {
		contenders[i] = start(t, "contend", dir, history, pause)
		require.Equal(t, "ready", contenders[i].line())
	}
	for i := range contenders {
		restart(i)
	}
	kills := 60
	if testing.Short() {
		kills = 10
	}
	for n := range kills {
		i := n % len(contenders)
		time.Sleep(rand.N(20 * time.Millisecond)) // a random moment is the point
		meanwhile()
		contenders[i].kill()
		restart(i)
	}
	for _, p := range contenders {
		p.kill()
	}

	written, err := os.ReadFile(history)
	require.NoError(t, err)
	terms, err := checkHistory(string(written))
	require.NoError(t, err)
	t.Logf("%d kills, %d terms", kills, terms)
	require.Greater(t, terms, kills/2)
	l := newLocker(t, dir, nil)
	for _, err := range l.List(t.Context(), "") {
		require.NoError(t, err, "records are whole")
	}
	acquire(t, l, "k", long)
}

// checkHistory wants that each who entered was alone until the next one entered:
// tokens are a fenced register's writes, and never go back.
func checkHistory(history string) (terms int, err error) {
	var last, token uint64
	var what, by, pid string
	for line := range strings.Lines(history) {
		if _, err := fmt.Sscan(line, &what, &pid, &token); err != nil {
			return terms, fmt.Errorf("%q: %w", line, err)
		}
		switch {
		case what == "enter" && token > last:
			last, by = token, pid
			terms++
		case what == "enter" || token != last:
			return terms, fmt.Errorf("%q while %s had entered with %d", line, by, last)
		}
	}
	return terms, nil
}

func TestCheckHistorySeesTwoHolders(t *testing.T) {
	for _, history := range []string{
		"enter 1 5\nenter 2 6\nwork 1 5\n",
		"enter 1 5\nleave 1 5\nenter 2 5\n",
	} {
		_, err := checkHistory(history)
		require.Error(t, err)
	}
	_, err := checkHistory("enter 1 5\nenter 2 6\nleave 2 6\n")
	require.NoError(t, err)
}
