package waiting

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Rule 5.

func TestAnswersFromBeforeTheFirstGrantNameTheLastHolder(t *testing.T) {
	s := queued(t, config())
	s.push(0, 7, 0)
	require.Equal(t, 1, s.m.attempt, "two nodes were held before: that was the last holder")
	require.Empty(t, s.open)
}

func TestTheOthersAreAskedSoonAfterTheFirstGrant(t *testing.T) {
	s := queued(t, config())
	s.push(0, 7, 0)
	acts := s.tick(1*ms + minAsk)
	require.Len(t, acts, 2)
	require.True(t, acts[0].Take)
	s.answer(1, standing(rival))
	require.Equal(t, 1, s.m.attempt, "one of three does not put a quorum out of reach")
	s.answer(2, standing(rival))
	require.Equal(t, 2, s.m.attempt)
	require.Equal(t, "rival", s.open[0].To)
}

func TestASilentNodeCountsAsNotGranting(t *testing.T) {
	s := queued(t, config())
	s.push(0, 7, 0)
	s.tick(4 * ms)
	s.answer(1, standing(rival))
	require.Equal(t, 1, s.m.attempt)
	s.tick(100 * ms)
	require.Equal(t, 2, s.m.attempt, "node 2 is silent for ever")
}

func TestANodeThatMayNotVoteOrFailsCountsAsNotGranting(t *testing.T) {
	for name, a := range map[string]Answer{"no vote": {Result: Standing, NoVote: true}, "failed": {Result: Failed}} {
		t.Run(name, func(t *testing.T) {
			s := queued(t, config())
			s.push(0, 7, 0)
			s.tick(4 * ms)
			s.answer(2, a)
			s.answer(1, standing(rival))
			require.Equal(t, 2, s.m.attempt)
		})
	}
}

// Rule 6.

func TestItHandsBackToWhoHasMostVotesThenToWhoHasWaitedLongest(t *testing.T) {
	younger := Holder{Value: "young/Z", Waiter: "young", Position: 200, Left: claim}
	same := Holder{Value: "same/Z", Waiter: "a", Position: 100, Left: claim}
	for name, c := range map[string]struct {
		one, two Holder
		to       string
		keep     bool
	}{
		"votes":                   {younger, younger, "young", false},
		"age":                     {rival, younger, "rival", false},
		"mine is oldest":          {younger, Holder{Value: "v/A", Waiter: "v", Position: 201}, "", true},
		"by name":                 {same, younger, "a", false},
		"a lease comes before":    {other, younger, "", false},
		"a lease with a majority": {other, other, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := queued(t, config())
			s.push(0, 7, 0)
			s.tick(4 * ms)
			s.answer(1, standing(c.one))
			s.answer(2, standing(c.two))
			if c.keep {
				require.Equal(t, 1, s.m.attempt, "the others hand back to this one")
				return
			}
			a := s.open[0]
			require.Equal(t, 2, a.Attempt)
			require.Equal(t, 1, a.Instead, "in the same step")
			require.Equal(t, c.to, a.To)
			require.False(t, a.Take, "what it hands back it does not take")
		})
	}
}

func TestBothSidesOfASplitAgree(t *testing.T) {
	// Four waiters of which each has one node of five; each that asks gets the same records.
	for k := range 4 {
		cfg := config()
		cfg.Nodes, cfg.Quorum, cfg.ID = 5, 3, string(rune('a'+k))
		s := begin(t, cfg).at(1 * ms)
		position := func(i int) int64 { return int64(10 - i%2) } // two of them are equally old
		s.answer(k, Answer{Result: Granted, Grant: Grant{Count: 5, Position: position(k)}})
		for i := range 4 {
			if i != k {
				id := string(rune('a' + i))
				s.answer(i, standing(Holder{Value: id + "/X", Waiter: id, Position: position(i), Left: claim}))
			}
		}
		if k == 1 {
			require.Equal(t, 1, s.m.attempt, "it is the oldest")
		} else {
			require.Equal(t, "b", s.open[k].To, cfg.ID)
		}
	}
}

func TestWhatWasHandedBackIsTakenAgainAfterPausesThatDouble(t *testing.T) {
	s := begin(t, config())
	var pauses []time.Duration
	for range 10 {
		handed := s.now
		s.at(s.now + ms/10)
		for i := range 3 { // free
			if o, ok := s.open[i]; ok && (!o.Take || len(pauses) == 0 && o.Attempt == 1) {
				s.answer(i, standing(Holder{}))
			}
		}
		for len(s.open) == 0 {
			d, ok := s.m.Deadline()
			require.True(t, ok)
			s.tick(d)
		}
		require.True(t, s.open[0].Take)
		pauses = append(pauses, s.now-handed)
		s.at(s.now + ms/10)
		s.answer(0, granted(uint64(len(pauses)), s.open[0].Stamp))
		s.answer(1, standing(rival))
		s.answer(2, standing(Holder{Value: "third/Z", Waiter: "third", Position: 60, Left: claim}))
	}
	require.Greater(t, pauses[5], 4*pauses[2])
	require.LessOrEqual(t, pauses[9], 450*ms, "at the latest with the refresh")
}

func TestItTakesNothingWhileAQuorumIsHeldByOthers(t *testing.T) {
	s := queued(t, config())
	for _, a := range s.tick(450 * ms) {
		require.False(t, a.Take)
	}
	s.answer(0, standing(Holder{})) // one of three is free for good
	s.answer(1, standing(other))
	s.answer(2, standing(other))
	for _, a := range s.tick(10 * time.Second) {
		require.False(t, a.Take)
	}
}

func TestAHandBackThatFailedIsTriedAgain(t *testing.T) {
	s := queued(t, config())
	s.push(0, 7, 0)
	s.tick(4 * ms)
	s.answer(1, standing(rival))
	s.answer(2, standing(rival))
	require.Equal(t, 1, s.open[0].Instead)
	s.answer(0, Answer{Result: Failed})
	s.tick(s.now + 20*ms)
	require.Equal(t, 1, s.open[0].Instead)
	s.answer(0, standing(rival))
	require.Empty(t, s.m.nodes[0].owed)
}
