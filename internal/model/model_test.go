package model

import (
	"bytes"
	"math/rand/v2"
	"reflect"
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
	} {
		for _, field := range fields {
			require.True(t, names[model+field], "%s: no case for %s", model, field)
		}
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
