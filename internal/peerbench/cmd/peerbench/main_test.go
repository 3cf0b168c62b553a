package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// The bench runs this program again as its other processes.
func TestMain(m *testing.M) {
	if os.Getenv(actorEnv) != "" {
		main()
		os.Exit(0)
	}
	orderTimeout = 20 * time.Second // one peer loses its first wake-up now and then
	os.Exit(m.Run())
}

// slow sections start a hundred processes, or last minutes on a busy machine even when
// short: they are run by hand.
var slow = map[string]bool{"waiters": true, "fairness": true, "leader": true, "blackout": true, "crash": true, "idle": true}

// Each other section runs and prints a row of numbers for each contender. No time is
// asserted.
func TestTheQuickSectionsRun(t *testing.T) {
	redistest.Require(t)
	for _, s := range sections {
		if slow[s.name] {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := realMain(t.Context(), &out, true, "^"+s.name+"$", "", "", ""); err != nil {
				t.Fatal(err)
			}
			rows := 0
			for line := range strings.Lines(out.String()) {
				if strings.HasPrefix(line, "|") && strings.ContainsAny(line, "0123456789") {
					rows++
				}
				if strings.Contains(line, "NaN") || strings.Contains(line, "Inf") {
					t.Errorf("not a number: %s", line)
				}
			}
			if rows == 0 {
				t.Errorf("no table in:\n%s", &out)
			}
			t.Log(out.String())
		})
	}
}

func TestBadFlagsAreRefused(t *testing.T) {
	for name, args := range map[string][2]string{"run": {"(", ""}, "only": {"", "("}} {
		if err := realMain(t.Context(), &bytes.Buffer{}, true, args[0], args[1], "", ""); err == nil || !strings.Contains(err.Error(), "-"+name) {
			t.Errorf("-%s '(': got %v, want an error that names the flag", name, err)
		}
	}
	if err := func() error {
		redistest.Require(t)
		return realMain(t.Context(), &bytes.Buffer{}, true, "no such section", "", "", "")
	}(); err == nil {
		t.Error("a name that matches no section: got nil, want an error")
	}
}
