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
