package waiting

import (
	"testing"

	"github.com/stretchr/testify/require"
)

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
