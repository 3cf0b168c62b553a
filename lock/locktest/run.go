package locktest

import (
	"crypto/rand"
	"testing"
)

// testCase is one property, named after it.
type testCase struct {
	name  string
	needs []string // what the harness must have; what the locker must offer is asked in run
	run   func(c *check)
}

// group holds the cases of one concern, which have a file of their own.
type group struct {
	name  string
	cases []testCase
}

// groups is the index of the suite.
var groups = []group{
	{"Exclusion", exclusionCases},
	{"Expiry", expiryCases},
	{"Extend", extendCases},
	{"StartExtend", startCases},
	{"Release", releaseCases},
	{"ReleaseAfter", afterCases},
	{"Attempt", attemptCases},
	{"Token", tokenCases},
	{"Raise", raiseCases},
	{"Fault", faultCases},
	{"Key", keyCases},
	{"Error", errorCases},
	{"Acquire", acquireCases},
	{"Optional", optionalCases},
	{"Watch", watchCases},
	{"Await", awaitCases},
	{"Waiting", waitingCases},
	{"Composition", compositionCases},
	{"Leak", leakCases},
}

// Run runs every case of the suite against h's backend, as subtests named
// Group/Property.
func Run(t *testing.T, h Harness) {
	t.Helper()
	h, err := h.withDefaults()
	if err != nil {
		t.Fatalf("locktest: %v", err)
	}
	out := leftOut{}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, tc := range g.cases {
				t.Run(tc.name, func(t *testing.T) {
					runCase(t, h, tc, func(missing string) {
						name := g.name + "/" + tc.name
						out.add(missing, name)
						if h.OnCase != nil {
							h.OnCase(name, missing)
						}
					})
				})
			}
		})
	}
	if text := out.text(); text != "" {
		t.Log(text)
	}
}

// runCase runs tc, in a bubble if there is one, with its outcome going to t. A case
// that skips does not return, so note is called from a cleanup.
func runCase(t *testing.T, h Harness, tc testCase, note func(missing string)) {
	missing := h.lacks(tc.needs)
	t.Cleanup(func() { note(missing) })
	if missing != "" {
		skip(t, &h, missing)
		return
	}
	if h.Wrap == nil {
		execute(t, t, &h, tc, &missing)
		return
	}
	h.Wrap(t, func(t *testing.T) { execute(t, t, &h, tc, &missing) })
	if missing != "" { // a skip inside a bubble does not reach the outer test
		skip(t, &h, missing)
	}
}

// reporter takes a case's outcome: a *testing.T, or a recorder in the suite's own
// tests.
type reporter interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Failed() bool
	FailNow()
	Skipf(format string, args ...any) // does not return
}

// skip ends a test that lacks something, as a failure if that is not allowed.
func skip(r reporter, h *Harness, missing string) {
	r.Helper()
	if !h.allowsSkip(missing) {
		r.Errorf("locktest: would skip for lack of %s, which Harness.AllowSkips does not list", missing)
		r.FailNow()
	}
	r.Skipf("locktest: skipped for lack of %s", missing)
}

// execute runs tc once. Hooks get t; outcomes go to r.
func execute(t *testing.T, r reporter, h *Harness, tc testCase, missing *string) {
	c := &check{reporter: r, t: t, h: h, missing: missing, prefix: "locktest-" + rand.Text()[:10] + "-"}
	before := goroutines(nil)
	t.Cleanup(func() { // after all cleanups that hooks register
		if c.wantNoLeaks {
			c.checkLeaks(before)
		}
	})
	defer c.runCleanups() // before them
	c.l = h.New(t)
	if c.l == nil {
		c.fatalf("Harness.New returned nil")
	}
	tc.run(c)
}
