package model

import (
	"bytes"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Slow ones are left to make model, which CI runs too: -race makes them slower still.
func TestTheAlgorithmHoldsAndEachOfItsRulesIsNeeded(t *testing.T) {
	for _, c := range Cases() {
		if c.Slow {
			continue
		}
		t.Run(c.Model+"/"+c.Name, func(t *testing.T) {
			t.Parallel()
			r := c.Search()
			require.Empty(t, c.Check(r))
			if r.Wrong == "" {
				return
			}
			require.NotEmpty(t, r.Trace)
			var out bytes.Buffer
			r.Print(&out)
			require.Contains(t, out.String(), "so "+r.Wrong)
		})
	}
}

func TestEveryRuleAndLimitHasACase(t *testing.T) {
	names := map[string]bool{}
	for _, c := range Cases() {
		require.False(t, names[c.Model+c.Name], "%s %s stands twice", c.Model, c.Name)
		names[c.Model+c.Name] = true
	}
	for model, fields := range map[string][]string{
		"tokens":    append(fieldsOf(TokenRules{}), fieldsOf(TokenLimits{})...),
		"exclusion": append(fieldsOf(ExclusionRules{}), fieldsOf(ExclusionLimits{})...),
		"standing":  fieldsOf(StandingRules{}),
		"liveness":  fieldsOf(LivenessRules{}),
	} {
		for _, field := range fields {
			require.True(t, names[model+field], "%s: no case for %s", model, field)
		}
	}
}

// What redlock/README.md says is not claimed, and what shows it.
var limits = map[string]string{
	"one holder after `FLUSHALL`, `DEL`, eviction or deleted volumes": "exclusion/Flush",
	"an address moved to another server":                              "exclusion/Flush",
	"the same for restarts with the guard off":                        "exclusion/Guard",
	"unguarded nodes": "exclusion/Unguarded",
	"the server starts *empty* and looks durable":               "exclusion/Unguarded",
	"don't restart it within the guard time after that":         "exclusion/SwitchedOn",
	"a durable node was started from older or damaged files":    "exclusion/Older",
	"a running server was rolled back to a snapshot":            "exclusion/Older",
	"fails over to a lagging replica":                           "exclusion/Older",
	"a forward clock step during the guard time":                "exclusion/Uptime",
	"no quorum-deciding node's clock steps forward":             "exclusion/Jump",
	"if clock *rates* stay within the drift":                    "exclusion/DriftMargin",
	"clocks are closer to each other than the time it was away": "tokens/Clocks",
	"only once the clocks have passed it":                       "tokens/Ahead",
	"not if an old primary is promoted again without a restart": "tokens/NoRun",
}

func TestEachLimitInTheManualHasACounterexampleAndTheOtherWayRound(t *testing.T) {
	b, err := os.ReadFile("../../redlock/README.md")
	require.NoError(t, err)
	manual := strings.Join(strings.Fields(string(b)), " ")
	cases := map[string]Case{}
	for _, c := range Cases() {
		cases[c.Model+"/"+c.Name] = c
	}
	described := map[string]bool{}
	for phrase, name := range limits {
		require.Contains(t, manual, phrase)
		require.Contains(t, cases, name)
		require.NotEqual(t, Holds, cases[name].Wants)
		described[name] = true
	}
	for name, c := range cases {
		require.True(t, described[name] || c.Wants != Crosses, "the manual does not describe %s: %s", name, c.Says)
	}
}

// Walks that find nothing say something only if they would find it.
func TestWalksOfFiveNodesFindBrokenRules(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	m, e := walked()
	for _, off := range []TokenRules{{Phase2: true}, {CommitMine: true}, {EqualOnly: true}, {RepairLowers: true}, {Outlives: true}, {NewValue: true}, {Majority: true}} {
		m.Off = off
		require.NotEmpty(t, Walk[TokenState](m, rng, 5000, 200).Wrong, "%+v", off)
	}
	for _, off := range []ExclusionRules{{Guard: true}, {FromStart: true}, {ReleaseMine: true}, {Majority: true}, {Deadline: true}} {
		e.Off = off
		require.NotEmpty(t, Walk[ExclusionState](e, rng, 5000, 200).Wrong, "%+v", off)
	}
}

func TestWalksFindWhatASearchFinds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	m := Tokens{Nodes: 3, Attempts: 3, Quorum: 2, Counts: 6, Off: TokenRules{Phase2: true}}
	require.NotEmpty(t, Walk[TokenState](m, rng, 10_000, 100).Wrong)

	e := Exclusion{Nodes: 3, Attempts: 2, Quorum: 2, TTL: 3, Drift: 1, Restarts: 1, Extends: true, Off: ExclusionRules{Guard: true}}
	require.NotEmpty(t, Walk[ExclusionState](e, rng, 100_000, 100).Wrong)
}

func TestWalksOfFiveNodesFindNothing(t *testing.T) {
	tokens, exclusion := Walks(rand.New(rand.NewPCG(3, 4)), 200)
	require.Empty(t, tokens.Wrong)
	require.Empty(t, exclusion.Wrong)
	require.Greater(t, min(tokens.States, exclusion.States), 200)
}

// counter is a system whose states and ways are known.
type counter struct{ wrong int }

func (counter) Init() int { return 0 }
func (counter) Next(s int, step func(int, Step)) {
	for _, n := range []int{s + 1, s + 3} {
		if n <= 10 {
			step(n, Step{"adds", -1, -1, int16(n - s)})
		}
	}
}
func (c counter) Wrong(s int) string {
	if s == c.wrong {
		return "it is the wrong number"
	}
	return ""
}
func (counter) Canon(s int) int { return s }

func TestASearchIsWholeAndItsTraceShortest(t *testing.T) {
	r := Search[int](counter{wrong: 7}, 0)
	require.Equal(t, "it is the wrong number", r.Wrong)
	require.Len(t, r.Trace, 3) // 1 + 3 + 3, in some order

	require.Equal(t, Result{States: 11, Whole: true}, Search[int](counter{wrong: 11}, 0))
	require.False(t, Search[int](counter{wrong: 11}, 5).Whole)
}

func TestAResultThatIsNotTheWantedOneIsTold(t *testing.T) {
	require.Empty(t, Case{Wants: Holds}.Check(Result{Whole: true}))
	require.Contains(t, Case{Wants: Holds}.Check(Result{}), "want every state seen")
	require.Contains(t, Case{Wants: Holds}.Check(Result{Wrong: "bad"}), "bad")
	require.Contains(t, Case{Wants: Breaks}.Check(Result{Whole: true}), "want a counterexample")
	require.Empty(t, Case{Wants: Crosses}.Check(Result{Wrong: "bad"}))
}

func fieldsOf(rules any) []string {
	var names []string
	for i := range reflect.TypeOf(rules).NumField() {
		names = append(names, reflect.TypeOf(rules).Field(i).Name)
	}
	return names
}
