package waiting

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	ms    = time.Millisecond
	claim = time.Second
	ttl   = 10 * time.Second
)

func config() Config {
	return Config{
		Nodes: 3, Quorum: 2, ID: "me", TTL: ttl, Claim: claim, TTLDrift: ttl/100 + 2*ms, ClaimDrift: claim/100 + 2*ms,
		Refresh: 400 * ms, NodeTimeout: 500 * ms,
	}
}

// script drives one machine by hand.
type script struct {
	*testing.T
	m    *Machine
	now  time.Duration
	open map[int]Action
	sent []Action
}

func begin(t *testing.T, cfg Config) *script {
	s := &script{T: t, m: New(cfg), open: map[int]Action{}}
	for i := range cfg.Nodes {
		s.m.Subscribed(0, i) // before Begin: nothing stands yet
	}
	require.Empty(t, s.take())
	s.m.Begin(0)
	s.take()
	return s
}

// take collects what the machine wants to send.
func (s *script) take() []Action {
	s.Helper()
	acts := s.m.Actions()
	for _, a := range acts {
		require.NotContains(s, s.open, a.Node, "a second request is open at a node")
		s.open[a.Node] = a
	}
	s.sent = append(s.sent, acts...)
	return acts
}

func (s *script) at(now time.Duration) *script {
	s.Helper()
	require.GreaterOrEqual(s, now, s.now)
	s.now = now
	return s
}

// tick lets time pass up to now, with all that is due in between.
func (s *script) tick(now time.Duration) []Action {
	s.Helper()
	before := len(s.sent)
	for n := 0; ; n++ {
		require.Less(s, n, 1000, "the machine wants to be called without end")
		d, ok := s.m.Deadline()
		if !ok || d > now {
			break
		}
		s.now = max(s.now, d)
		s.m.Tick(s.now)
		s.take()
	}
	s.now = now
	return s.sent[before:]
}

func (s *script) answer(i int, a Answer) []Action {
	s.Helper()
	require.Contains(s, s.open, i, "nothing is open there")
	delete(s.open, i)
	s.m.Answered(s.now, i, a)
	return s.take()
}

func (s *script) push(i int, count uint64, stamp time.Duration) []Action {
	s.Helper()
	s.m.Pushed(s.now, i, Grant{Count: count, Stamp: stamp, Position: 100})
	return s.take()
}

func granted(count uint64, stamp time.Duration) Answer {
	return Answer{Result: Granted, Grant: Grant{Count: count, Stamp: stamp, Position: 100}}
}

func standing(h Holder) Answer { return Answer{Result: Standing, Holder: h} }

// other is a lease that somebody has for long.
var other = Holder{Value: "other/X", Left: 30 * time.Second}

// rival has waited for longer than this waiter.
var rival = Holder{Value: "rival/Y", Waiter: "rival", Position: 50, Left: claim}

// queued is a waiter that stands behind other on all nodes since 1ms.
func queued(t *testing.T, cfg Config) *script {
	s := begin(t, cfg).at(1 * ms)
	for i := range cfg.Nodes {
		s.answer(i, standing(other))
	}
	require.Empty(t, s.open)
	return s
}

func (s *script) lease() Lease {
	s.Helper()
	l, ok := s.m.Lease()
	require.True(s, ok, "there is no lease")
	return l
}

func (s *script) noLease(why string) {
	s.Helper()
	_, ok := s.m.Lease()
	require.False(s, ok, why)
}

func TestAFreeLockIsOneRoundTrip(t *testing.T) {
	s := begin(t, config())
	require.Len(t, s.open, 3)
	require.Equal(t, Action{Kind: Stand, Node: 0, Attempt: 1, Take: true}, s.open[0])
	s.at(1 * ms)
	s.answer(0, granted(7, 0))
	s.noLease("one of three")
	s.answer(1, granted(7, 0))
	require.Equal(t, Lease{Token: 7, Attempt: 1, Expiry: claim - config().ClaimDrift}, s.lease())
}

func TestALeaseOfALongClaimIsFull(t *testing.T) {
	cfg := config()
	cfg.TTL, cfg.TTLDrift = cfg.Claim, cfg.ClaimDrift
	s := begin(t, cfg)
	s.answer(0, granted(7, 0))
	s.answer(1, granted(7, 0))
	require.True(t, s.lease().Full, "nothing is left to grow")
}

// Rule 1.

func TestAnOldGrantIsNotBelieved(t *testing.T) {
	s := queued(t, config())
	stamp := s.refreshed()
	s.at(s.now + ms)
	s.push(0, 7, 0) // granted, over, and stood again: all before the refresh was answered
	s.push(1, 7, stamp)
	s.noLease("node 0 has answered since that it was over")
	s.push(2, 7, stamp)
	require.EqualValues(t, 7, s.lease().Token)
}

// refreshed is the stamp of a refresh that all nodes have answered with "standing".
func (s *script) refreshed() time.Duration {
	s.Helper()
	acts := s.tick(s.now + 450*ms)
	require.Len(s, acts, 3)
	s.at(s.now + ms)
	for i := range 3 {
		s.answer(i, standing(other))
	}
	return acts[0].Stamp
}

func TestAPushBeforeTheAnswerToItsRequestIsAccepted(t *testing.T) {
	s := queued(t, config())
	acts := s.tick(450 * ms)
	require.Len(t, acts, 3)
	s.at(451 * ms)
	s.push(0, 7, acts[0].Stamp)
	s.answer(0, standing(other)) // it stood first, and was granted then
	s.push(1, 7, acts[1].Stamp)
	require.Equal(t, acts[0].Stamp+claim-config().ClaimDrift, s.lease().Expiry)
}

func TestAGrantThatIsOverIsForgotten(t *testing.T) {
	s := queued(t, config())
	s.push(0, 7, 0)
	s.noLease("one of three")
	s.tick(800 * ms)
	require.Contains(t, s.open, 0, "an old grant is asked about, too")
	s.answer(0, standing(other))
	s.push(1, 7, 0)
	s.noLease("node 0's grant is over")
}

func TestADoubledPushIsNoSecondGrant(t *testing.T) {
	s := queued(t, config())
	s.push(0, 7, 0)
	s.push(0, 7, 0)
	s.push(0, 8, 0)
	s.noLease("one node is one vote, whatever it says how often")
}

// Rule 2.

func TestTheLeaseCountsFromTheSendingThatWasGranted(t *testing.T) {
	s := queued(t, config())
	acts := s.tick(450 * ms)
	require.Len(t, acts, 3)
	s.answer(1, standing(other)) // and node 2's has not arrived
	s.at(500 * ms)
	s.push(1, 7, acts[1].Stamp)
	s.push(2, 7, 0)
	require.Equal(t, claim-config().ClaimDrift, s.lease().Expiry, "from the earlier of the quorum's two")
}

// mustConfirm is the confirmation that the machine asks a node for.
func mustConfirm(s *script) Action {
	s.Helper()
	s.noLease("it is to be confirmed first")
	for _, a := range s.open {
		if a.Kind == Confirm {
			return a
		}
	}
	s.Fatal("no confirmation was asked for")
	return Action{}
}

func TestExpiryIsOfNodesWithTheTokensCountAlone(t *testing.T) {
	s := queued(t, config())
	s.tick(450 * ms)
	for i := range 3 {
		s.answer(i, standing(other))
	}
	fresh := s.sent[len(s.sent)-1].Stamp
	s.at(600 * ms)
	s.m.Pushed(s.now, 0, Grant{Count: 9, Stamp: fresh}) // endorses another count
	s.noLease("one")
	s.m.Pushed(s.now, 1, Grant{Count: 7, Stamp: fresh})
	require.NotEmpty(t, s.take())
	require.EqualValues(t, 9, mustConfirm(s).Token, "a quorum with two counts has no token yet")
}

func TestAQuorumOfEqualCountsIsEnough(t *testing.T) {
	cfg := config()
	cfg.Nodes, cfg.Quorum = 5, 3
	s := begin(t, cfg).at(5 * ms)
	s.answer(0, granted(9, 0))
	s.answer(1, granted(7, 0))
	s.answer(2, granted(9, 0))
	s.noLease("three grants, two counts")
	s.tick(100 * ms)
	require.EqualValues(t, 9, mustConfirm(s).Token)
	s.noLease("not confirmed")
}

func TestACountThatIsOnItsWaySavesTheSecondRound(t *testing.T) {
	s := begin(t, config()).at(5 * ms)
	s.answer(0, granted(7, 0))
	require.Empty(t, s.answer(1, granted(9, 0)), "the third is asked and has not answered")
	s.tick(9 * ms)
	require.Empty(t, s.answer(2, granted(9, 0)))
	require.EqualValues(t, 9, s.lease().Token)
}

func TestAGrantThatIsOverPlansNoSecondRound(t *testing.T) {
	s := begin(t, config()).at(1 * ms)
	s.answer(0, standing(other))
	s.answer(1, standing(other))
	s.at(2 * ms)
	s.m.Subscribed(s.now, 0)
	s.take()
	s.push(0, 7, 0)
	s.push(1, 9, 0)
	s.noLease("two counts, and the third is asked")
	s.answer(0, standing(other)) // to a later request: that grant is over
	s.tick(100 * ms)             // fails if the machine wants to be called without end
}

func TestAStampAheadOfTheClockLengthensNothing(t *testing.T) {
	s := begin(t, config())
	for i := range 3 { // all in the same microsecond
		s.answer(i, standing(rival))
	}
	s.push(0, 7, 0)
	s.tick(3 * ms)
	s.answer(1, standing(rival))
	s.answer(2, standing(rival))
	require.Equal(t, 2, s.m.attempt, "handed back")
	first := s.m.starts[1]
	require.Positive(t, first, "stamps of attempts differ")
	s.m.Pushed(s.now, 1, Grant{Count: 8, Stamp: first})
	s.m.Pushed(s.now, 2, Grant{Count: 8, Stamp: first})
	require.LessOrEqual(t, s.lease().Expiry, s.now+claim-config().ClaimDrift)
}

// Rules 3 and 4.

func TestDifferentCountsAreConfirmedAndCountFromThatRound(t *testing.T) {
	s := begin(t, config()).at(5 * ms)
	s.answer(0, granted(7, 0))
	s.answer(1, granted(9, 0))
	acts := s.tick(10 * ms)
	require.Len(t, acts, 2, "the third is asked once it has answered")
	require.Equal(t, Confirm, acts[0].Kind)
	require.EqualValues(t, 9, acts[0].Token)
	s.at(11 * ms)
	s.answer(2, granted(9, 0))
	s.noLease("grants that arrive in the meantime do not count")
	s.answer(0, Answer{Result: Confirmed, Grant: Grant{Count: 9}})
	s.noLease("one of three")
	s.answer(1, Answer{Result: Confirmed, Grant: Grant{Count: 9}})
	require.Equal(t, Lease{Token: 9, Attempt: 1, Start: 10 * ms, Expiry: 10*ms + ttl - config().TTLDrift, Full: true}, s.lease())
}

func TestAHigherCountBeginsTheConfirmationAnew(t *testing.T) {
	s := begin(t, config()).at(5 * ms)
	s.answer(0, granted(7, 0))
	s.answer(1, granted(9, 0))
	s.answer(2, granted(8, 0))
	s.at(6 * ms)
	s.answer(0, Answer{Result: Confirmed, Grant: Grant{Count: 9}})
	acts := s.answer(1, Answer{Result: Confirmed, Grant: Grant{Count: 11}})
	require.NotEmpty(t, acts)
	require.EqualValues(t, 11, acts[0].Token)
	s.answer(2, Answer{Result: Confirmed, Grant: Grant{Count: 9}})
	s.noLease("answers of the earlier round")
	s.at(8 * ms)
	s.answer(0, Answer{Result: Confirmed, Grant: Grant{Count: 11}})
	s.answer(1, Answer{Result: Confirmed, Grant: Grant{Count: 11}})
	l := s.lease()
	require.EqualValues(t, 11, l.Token)
	require.Equal(t, 6*ms, l.Start, "from the last round")
}

func TestEverHigherCountsEnd(t *testing.T) {
	s := begin(t, config()).at(5 * ms)
	s.answer(0, granted(7, 0))
	s.answer(1, granted(9, 0))
	s.tick(10 * ms)
	for n := uint64(10); s.m.token != 0; n++ {
		require.Less(t, n, uint64(30), "a lying node is asked without end")
		s.answer(1, Answer{Result: Confirmed, Grant: Grant{Count: n}})
	}
	s.noLease("no quorum agreed")
}

func TestWithLittleLeftItConfirmsFirst(t *testing.T) {
	s := queued(t, config())
	s.at(760 * ms)
	s.push(0, 7, 0)
	s.push(1, 7, 0)
	a := mustConfirm(s)
	require.EqualValues(t, 7, a.Token)
	s.answer(0, Answer{Result: Confirmed, Grant: Grant{Count: 7}})
	s.answer(1, Answer{Result: Confirmed, Grant: Grant{Count: 7}})
	require.Equal(t, 760*ms, s.lease().Start)
}

func TestAConfirmationWithoutAQuorumHandsBack(t *testing.T) {
	for name, a := range map[string]Answer{"denied": {Result: Denied}, "failed": {Result: Failed}} {
		t.Run(name, func(t *testing.T) {
			s := queued(t, config())
			s.at(760 * ms)
			s.push(0, 7, 0)
			s.push(1, 7, 0)
			s.answer(0, a)
			s.answer(1, a)
			s.noLease("no quorum")
			require.Equal(t, 2, s.m.attempt)
			require.Equal(t, Stand, s.open[0].Kind)
			require.Equal(t, 1, s.open[0].Instead)
			require.False(t, s.open[0].Take)
		})
	}
}

func TestASilentConfirmationEnds(t *testing.T) {
	s := queued(t, config())
	s.at(760 * ms)
	s.push(0, 7, 0)
	s.push(1, 7, 0)
	s.tick(1100 * ms)
	require.Greater(t, s.m.attempt, 1, "it waits for a confirmation without end")
}

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
	// Four waiters of which each has one node of five; whoever asks gets the same records.
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

// Rule 7.

func TestAGrantThatNobodyWantsIsReleasedAtOnce(t *testing.T) {
	t.Run("of an earlier attempt", func(t *testing.T) {
		s := queued(t, config())
		s.push(0, 7, 0)
		s.tick(4 * ms)
		s.answer(1, standing(rival))
		s.answer(2, standing(rival))
		for i := range 3 {
			s.answer(i, standing(rival))
		}
		s.at(10 * ms)
		acts := s.push(2, 9, 0) // its request was late
		require.Len(t, acts, 1)
		require.Equal(t, 1, acts[0].Instead)
		require.Equal(t, 2, acts[0].Node)
	})
	t.Run("after the end", func(t *testing.T) {
		s := queued(t, config())
		s.m.End(s.now)
		s.take()
		for i := range 3 {
			s.answer(i, Answer{Result: Left})
		}
		require.True(t, s.m.Done())
		acts := s.push(2, 9, 0)
		require.Equal(t, []Action{{Kind: Leave, Node: 2, Attempt: 1}}, acts)
	})
	t.Run("of a lease that is over", func(t *testing.T) {
		s := begin(t, config())
		s.answer(0, granted(7, 0))
		s.answer(1, granted(7, 0))
		s.answer(2, standing(other))
		require.Empty(t, s.push(2, 7, 0), "the lease has it")
		s.m.End(s.now)
		require.Empty(t, s.take(), "its holder releases it")
		require.Equal(t, []Action{{Kind: Leave, Node: 2, Attempt: 1}}, s.push(2, 7, 0))
	})
}

func TestWhoGivesUpLeavesEverywhereBehindWhatIsUnderWay(t *testing.T) {
	s := begin(t, config())
	s.answer(0, granted(7, 0))
	s.m.End(s.now)
	acts := s.take()
	require.Equal(t, []Action{{Kind: Leave, Node: 0, Attempt: 1}}, acts, "the others have not answered")
	require.Equal(t, Leave, s.answer(1, granted(7, 0))[0].Kind)
	s.noLease("it has given up")
	s.answer(2, Answer{Result: Failed}) // may yet be applied
	require.Equal(t, Leave, s.open[2].Kind)
	s.answer(0, Answer{Result: Left})
	s.answer(1, Answer{Result: Left})
	require.False(t, s.m.Done())
	for range maxTries {
		require.False(t, s.m.Done())
		s.answer(2, Answer{Result: Failed})
		s.tick(s.now + time.Hour)
	}
	require.True(t, s.m.Done(), "the claim ends what can't be freed")
}

func TestWhatWasNeverSentIsNotLeft(t *testing.T) {
	s := begin(t, config())
	s.answer(0, Answer{Result: Failed, Unsent: true})
	s.answer(1, standing(other))
	s.answer(2, standing(other))
	s.m.End(s.now)
	acts := s.take()
	require.Len(t, acts, 2)
	require.NotZero(t, acts[0].Node)
	require.NotZero(t, acts[1].Node)
}

// Rule 8.

func TestItRefreshesOnAllNodesBelowHalfAClaim(t *testing.T) {
	s := queued(t, config())
	for range 5 {
		before := s.now
		acts := s.tick(s.now + 450*ms)
		require.Len(t, acts, 3)
		require.Less(t, acts[0].Stamp-before, claim/2)
		for i := range 3 {
			s.answer(i, standing(other))
		}
	}
}

func TestWhenTheHoldersTimeIsOverItLooksLaterByRank(t *testing.T) {
	for rank := range 3 {
		s := begin(t, config())
		h := other
		h.Left = 100 * ms
		for i := range 3 {
			s.answer(i, Answer{Result: Standing, Holder: h, Rank: rank})
		}
		at := 100*ms + afterTTL + time.Duration(rank)*rankDelay
		require.Empty(t, s.tick(at-1))
		acts := s.tick(at)
		require.Len(t, acts, 3, "one round asks about all of them")
		require.True(t, acts[0].Take, "it takes what is free now")
	}
}

func TestARefreshThatANodeIsBusyWithIsNotRepeated(t *testing.T) {
	s := begin(t, config())
	s.answer(0, standing(other))
	s.answer(1, standing(other))
	s.tick(5 * time.Second) // node 2 hangs
	for range 10 {
		for _, i := range []int{0, 1} {
			if _, ok := s.open[i]; ok {
				s.answer(i, standing(other))
			}
		}
		s.tick(s.now + time.Second)
	}
	n := 0
	for _, a := range s.sent {
		if a.Node == 2 {
			n++
		}
	}
	require.Equal(t, 1, n)
}

// Rule 9.

func TestItStandsAgainWhenPushesFlow(t *testing.T) {
	s := queued(t, config())
	s.m.Subscribed(s.now, 1)
	acts := s.take()
	require.Len(t, acts, 1)
	require.Equal(t, 1, acts[0].Node)
	s.m.Subscribed(s.now, 1)
	require.Empty(t, s.take(), "not before the one under way is answered")
	require.Len(t, s.answer(1, standing(other)), 1)
}

func TestTheFirstAtANodeThatCantNotifyItAsksOften(t *testing.T) {
	s := begin(t, config())
	s.m.Unsubscribed(0)
	s.m.Unsubscribed(1)
	s.answer(0, standing(other))
	s.answer(1, Answer{Result: Standing, Holder: other, Rank: 1})
	s.answer(2, standing(other))
	acts := s.tick(60 * ms)
	require.Len(t, acts, 1)
	require.Equal(t, 0, acts[0].Node)
}

// Outages.

func TestWithoutAQuorumAtTheBeginningItIsUnavailableAtOnce(t *testing.T) {
	s := begin(t, config())
	s.answer(0, Answer{Result: Failed})
	require.False(t, s.m.Unavailable(s.now))
	s.answer(1, Answer{Result: Failed})
	require.True(t, s.m.Unavailable(s.now))
}

func TestSilentNodesAreFailedAfterTheNodeTimeout(t *testing.T) {
	s := begin(t, config())
	s.tick(499 * ms)
	require.False(t, s.m.Unavailable(s.now))
	s.tick(500 * ms)
	require.True(t, s.m.Unavailable(s.now))
}

func TestAWaiterThatStandsOutlastsAShortOutage(t *testing.T) {
	s := queued(t, config())
	s.tick(450 * ms)
	for i := range 3 {
		s.answer(i, Answer{Result: Failed})
	}
	require.False(t, s.m.Unavailable(s.now))
	s.tick(900 * ms)
	for i := range 3 {
		s.answer(i, standing(other))
	}
	s.tick(1300 * ms)
	require.False(t, s.m.Unavailable(s.now))
	for i := range 3 {
		if _, ok := s.open[i]; ok {
			s.answer(i, Answer{Result: Failed})
		}
	}
	s.tick(3 * time.Second)
	require.True(t, s.m.Unavailable(s.now))
}

func TestAMajorityThatMayNotVoteIsUnavailable(t *testing.T) {
	s := begin(t, config())
	s.answer(0, Answer{Result: Standing, NoVote: true})
	s.answer(1, Answer{Result: Standing, NoVote: true})
	require.True(t, s.m.Unavailable(s.now))
}

func TestAHeldLockIsNotUnavailable(t *testing.T) {
	s := begin(t, config())
	s.answer(0, standing(other))
	s.answer(1, standing(other))
	s.answer(2, Answer{Result: Failed})
	require.False(t, s.m.Unavailable(s.now))
	h, ok := s.m.Held(s.now)
	require.True(t, ok)
	require.Equal(t, other, h)
}
