package history

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// at is a moment, in ms.
func at(ms float64) int64 { return int64(1e12) + int64(ms*1e6) }

// lease of key k by a client: asked for at one moment, got at the next, said to be
// valid until the third.
func lease(client int, token uint64, asked, got, until float64) Lease {
	return Lease{Key: "k", Client: client, Run: 1, Token: token, Asked: at(asked), Got: at(got), Until: at(until)}
}

func (l Lease) endedAt(ms float64) Lease {
	l.Ended = at(ms)
	return l
}

func op(client int, token uint64, write bool, value int64, ok bool, called, applied float64) Op {
	return Op{Key: "k", Client: client, Run: 1, Token: token, Write: write, Value: value, OK: ok, Called: at(called), Applied: at(applied)}
}

// good is a history in which everything is right: two terms, the second after the
// first holder was stopped; its late write is refused.
func good() *History {
	return &History{Nodes: 3, Quorum: 2, Clients: 3, Span: Span{at(0), at(10000)},
		Leases: []Lease{
			lease(0, 10, 0, 1, 100),
			lease(1, 11, 90, 101, 300).endedAt(200),
			lease(2, 15, 150, 201, 400).endedAt(250),
		},
		Ops: []Op{
			op(0, 10, false, 0, true, 1, 2), op(0, 10, true, 1, true, 3, 4),
			op(1, 11, false, 1, true, 102, 103), op(1, 11, true, 2, true, 104, 105),
			op(0, 10, true, 2, false, 99, 150),
			op(2, 15, false, 2, true, 202, 203), op(2, 15, true, 3, true, 204, 205),
		}}
}

var all = Rules{Exclusive: true, Fenced: true}

func rules(found []Violation) (names []string) {
	for _, v := range found {
		names = append(names, v.Rule)
	}
	return names
}

func TestARightHistoryPasses(t *testing.T) {
	require.Empty(t, good().Check(all))
	require.Empty(t, good().Check(Rules{Fenced: true}))
	require.Empty(t, (&History{}).Check(all))
}

// Each rule sees what breaks it.
func TestEachCheckFails(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*History)
		want  string
	}{
		"two valid leases": {func(h *History) { h.Leases[1].Got = at(99) }, "at most one lease of a key is valid at a time"},
		"two, by a renewal after the loss": {func(h *History) { h.Leases[0].Until = at(102) },
			"at most one lease of a key is valid at a time"},
		"two, one within the other": {func(h *History) { h.Leases[0].Until = at(900) },
			"at most one lease of a key is valid at a time"},
		"a token twice":            {func(h *History) { h.Leases[1].Token = 10 }, "tokens are unique"},
		"a token falls":            {func(h *History) { h.Leases[2].Token = 9 }, "tokens rise in real time"},
		"no token":                 {func(h *History) { h.Leases[1].Token = 0 }, "a lease has a token"},
		"got, then asked":          {func(h *History) { h.Leases[1].Asked = at(102) }, "a lease is asked for before it is got"},
		"alive after its end":      {func(h *History) { h.Ops[4].Sure = at(100.5) }, "a lease that looks alive is valid"},
		"alive after its release":  {func(h *History) { h.Ops[6].Sure = at(251) }, "a lease that looks alive is valid"},
		"a stale write is applied": {func(h *History) { h.Ops[4].OK = true }, "a stale write is refused"},
		"a good write is refused":  {func(h *History) { h.Ops[3].OK = false }, "a write of the newest holder is accepted"},
		"a read of something else": {func(h *History) { h.Ops[2].Value = 0 }, "a read gives what was written last"},
		"an update is lost":        {func(h *History) { h.Ops[6].Value = 2 }, "no update is lost under fencing"},
	} {
		t.Run(name, func(t *testing.T) {
			h := good()
			test.spoil(h)
			require.Contains(t, rules(h.Check(all)), test.want)
		})
	}
}

// Porcupine's verdict, asked apart from the others', which look at the same faults.
func TestPorcupineRefusesWhatTheModelForbids(t *testing.T) {
	require.Empty(t, good().linearizable(all))
	for name, spoil := range map[string]func(*History){
		"two valid leases":         func(h *History) { h.Leases[1].Got = at(99) },
		"a token twice":            func(h *History) { h.Leases[1].Token = 10 },
		"a token falls":            func(h *History) { h.Leases[2].Token = 9 },
		"a stale write is applied": func(h *History) { h.Ops[4].OK = true },
		"a good write is refused":  func(h *History) { h.Ops[3].OK = false },
		"a read of something else": func(h *History) { h.Ops[2].Value = 0 },
		"a token out of nowhere":   func(h *History) { h.Ops[6].Token = 16 },
	} {
		h := good()
		spoil(h)
		require.NotEmpty(t, h.linearizable(all), name)
	}
	h := good()
	h.Leases[1].Got = at(99) // overlapping leases are right where only tokens protect
	require.Empty(t, h.linearizable(Rules{Fenced: true}))
	require.Empty(t, h.Check(Rules{Fenced: true}))
}

// A holder that is stopped claims nothing after its validity, however late it looks.
func TestAStoppedHoldersLeaseIsOverWhenItsValidityEnds(t *testing.T) {
	h := good()
	h.Leases[0] = h.Leases[0].endedAt(5000)
	require.Empty(t, h.Check(all))
	require.Equal(t, at(100), h.Leases[0].End())
}

// long is a history of many terms, with an overlapping pair at the end if bad.
func long(n int, bad bool) *History {
	h := &History{Nodes: 3, Quorum: 2, Clients: 2, Span: Span{at(0), at(1e6)}}
	value := int64(0)
	for i := range n {
		start := float64(10 * i)
		token := uint64(100 + i)
		h.Leases = append(h.Leases, lease(i%2, token, start, start+1, start+500).endedAt(start+9))
		h.Ops = append(h.Ops, op(i%2, token, false, value, true, start+2, start+3), op(i%2, token, true, value+1, true, start+4, start+5))
		value++
	}
	if bad {
		l := &h.Leases[n-2]
		l.Ended = 0
	}
	return h
}

// The parts that a long history is cut into join without a gap.
func TestLongHistoriesAreCheckedToTheirEnd(t *testing.T) {
	require.Greater(t, 4*3000, 10*segment)
	require.Empty(t, long(3000, false).Check(all))
	require.Len(t, long(3000, true).linearizable(all), 1)
	h := long(3000, false)
	h.Ops[4001].Value++
	require.NotEmpty(t, h.linearizable(all))
}

// With one client stopped for long amid an operation there is no place to cut for as
// long; the check still ends.
func TestALongPendingOperationIsNoObstacle(t *testing.T) {
	h := long(2000, false)
	h.Ops = append(h.Ops, op(0, 100, true, 9, false, 5, 15000))
	start := time.Now()
	require.Empty(t, h.Check(all))
	require.Less(t, time.Since(start), segmentTimeout)
}

func TestSpans(t *testing.T) {
	a := union([]Span{{5, 9}, {1, 3}, {3, 4}, {7, 7}})
	require.Equal(t, spans{{1, 4}, {5, 9}}, a)
	require.Equal(t, spans{{1, 2}, {6, 9}}, a.minus(spans{{2, 6}}))
	require.Equal(t, spans{{2, 4}, {5, 6}}, a.and(spans{{2, 6}}))
	require.Empty(t, a.minus(spans{{0, 10}}))
	require.Equal(t, Span{5, 9}, a.longest())
	require.Equal(t, spans{{3, 4}, {6, 7}}, deep(2, spans{{1, 4}}, spans{{3, 7}}, spans{{6, 9}}))
	require.Equal(t, time.Duration(7), total(a))
}

func TestFiguresOfGapsLeaveOutWhenThereWasNoQuorum(t *testing.T) {
	h := good()
	h.Span = Span{at(0), at(10000)}
	h.Wants = []Want{{Key: "k", Client: 1, Span: Span{at(200), at(4000)}}, {Key: "k", Client: 2, Span: Span{at(6000), at(9000)}}}
	f := h.Figures()
	require.Equal(t, 3, f.Acquisitions)
	require.Equal(t, 2, f.Handoffs)
	require.Equal(t, 3, f.Writes)
	require.Equal(t, 1, f.Stale)
	require.Equal(t, Span{at(250), at(4000)}, f.GapAny.Span)
	require.Equal(t, f.GapAny, f.Gap, "nothing was broken")
	require.Zero(t, f.NoQuorum)

	ms := func(from, to float64) Span { return Span{at(from), at(to) - grace} }
	h.Faults = []Fault{
		{Kind: "a", Node: 0, Client: -1, Impair: OneNode, Span: ms(300, 9900)},
		{Kind: "b", Node: 1, Client: 1, Impair: OnePath, Span: ms(1000, 3500)},   // client 1 has one node left
		{Kind: "c", Node: -1, Client: 2, Impair: Process, Span: ms(6000, 8000)},  // client 2 stands still
		{Kind: "d", Node: 1, Client: -1, Impair: Nothing, Span: ms(8000, 9000)},  // nothing follows
		{Kind: "e", Node: -1, Client: 0, Impair: AllPaths, Span: ms(0, 10000)},   // client 0 wants nothing
		{Kind: "f", Node: 2, Client: -1, Impair: OneNode, Span: ms(9500, 10000)}, // nobody has a quorum
	}
	f = h.Figures()
	require.Equal(t, Span{at(250), at(4000)}, f.GapAny.Span)
	require.Equal(t, Span{at(8000), at(9000)}, f.Gap.Span, "of client 2")
	require.Equal(t, 400*time.Millisecond, f.NoQuorum)
}

func TestViolationsSayWhoAndWhen(t *testing.T) {
	h := good()
	h.Leases[1].Got = at(99)
	text := fmt.Sprint(h.Check(all)[0])
	for _, want := range []string{"1000.099", "client 0.1", "client 1.1", "token 10", "token 11", "1ms"} {
		require.True(t, strings.Contains(text, want), "%s in %s", want, text)
	}
}
