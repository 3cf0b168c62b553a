package script

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRealReleaseGrantsTheLockToTheHeadOfTheQueue(t *testing.T) {
	b := newBench(t)
	first, _ := b.listen(WakePrefix + "A")
	b.listen(WakePrefix + "B")
	held := b.acquire("mine")
	require.Equal(t, Granted, held.Kind)
	sb := b.stand(waiter("B", time.Second))
	require.Equal(t, 0, sb.Rank)
	require.Equal(t, "mine", sb.Holder)
	require.Empty(t, sb.HolderWaiter, "an ordinary holder")
	require.InDelta(t, time.Hour, sb.Left, float64(time.Minute))
	require.Equal(t, b.run(), sb.Run)
	sa := b.stand(waiter("A", time.Minute)) // later, and has waited for longer
	require.Equal(t, 0, sa.Rank)
	require.Equal(t, []string{"A", "B"}, b.queue())
	require.Equal(t, 1, b.stand(waiter("B", 2*time.Second)).Rank)

	require.Equal(t, Reply{Kind: Freed, Passed: true}, b.release("mine", ""))
	require.Equal(t, "vA", b.holder())
	require.InDelta(t, time.Hour, b.pttl(), float64(time.Minute))
	require.Equal(t, []string{"B"}, b.queue())
	p := b.pushed(first)
	require.Equal(t, "A", p.Waiter)
	require.Equal(t, held.Count+1, p.Count)
	require.Equal(t, b.count(), p.Count)
	require.Equal(t, time.Minute, p.Stamp)
	require.NotZero(t, p.Position)
	sb = b.stand(waiter("B", 3*time.Second))
	require.Equal(t, Standing{
		Rank: 0, Holder: "vA", HolderWaiter: "A", HolderPosition: p.Position, Left: sb.Left, Run: b.run(),
	}, sb)
}

// A lock that expired or was deleted, and one whose holder is known by another value, is
// free as well.
func TestRealReleaseOfWhatIsGoneGrantsAFreeLockToo(t *testing.T) {
	b := newBench(t)
	pushes, _ := b.listen(WakePrefix + "A")
	b.acquire("mine")
	b.stand(waiter("A", time.Second))
	b.s.Do("DEL", b.k.Lock)
	require.Equal(t, Missing, b.release("mine", "").Kind)
	require.Equal(t, "vA", b.holder())
	b.pushed(pushes)
	require.Equal(t, NotMine, b.release("mine", "").Kind)
	require.Equal(t, "vA", b.holder())
}

func TestRealWhoLooksAtAFreeLockGrantsItToTheHead(t *testing.T) {
	for name, look := range map[string]func(b *bench) (holder string){
		"TryAcquire":    func(b *bench) string { return b.acquire("other").Value },
		"another waits": func(b *bench) string { return b.stand(waiter("B", 0)).Holder },
		"force release": func(b *bench) string {
			b.asked(ForceRelease(b.k, retention, unguarded), ParseRelease)
			return b.holder()
		},
		"leave": func(b *bench) string {
			b.asked(Leave(b.k, "other", "vother", retention, unguarded), ParseRelease)
			return b.holder()
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			pushes, _ := b.listen(WakePrefix + "A")
			b.acquire("mine")
			b.stand(waiter("A", time.Second))
			b.s.Do("DEL", b.k.Lock)
			require.Equal(t, "vA", look(b))
			require.Equal(t, "vA", b.holder())
			require.Equal(t, "A", b.pushed(pushes).Waiter)
		})
	}
}

func TestRealExtendRepairCommitAndConfirmPassNothingOn(t *testing.T) {
	b := newBench(t)
	b.listen(WakePrefix + "A")
	count := b.acquire("mine").Count
	b.stand(waiter("A", time.Second))
	b.s.Do("DEL", b.k.Lock)
	require.Equal(t, Missing, b.asked(Extend(b.k, "mine", claim, retention, unguarded), ParseExtend).Kind)
	require.Equal(t, NotMine, b.asked(Commit(b.k, "mine", count, retention), ParseCommit).Kind)
	require.Equal(t, NotMine, b.asked(Confirm(b.k, "mine", claim, retention, unguarded, count), ParseConfirm).Kind)
	require.Equal(t, NotMine, b.asked(Repair(b.k, "mine", claim, retention, count, "other run"), ParseRepair).Kind)
	require.Empty(t, b.holder())
	require.Equal(t, Repaired, b.asked(Repair(b.k, "mine", claim, retention, count, b.run()), ParseRepair).Kind)
	require.Equal(t, "mine", b.holder())
	require.Equal(t, []string{"A"}, b.queue())
}

func TestRealWhoDoesNotListenOrHasNotAskedForLongIsPassedOver(t *testing.T) {
	b := newBench(t)
	b.listen(WakePrefix + "hung")
	pushes, _ := b.listen(WakePrefix + "A")
	held := b.acquire("mine")
	b.stand(waiter("dead", time.Hour))
	b.stand(waiter("hung", time.Minute))
	b.stand(waiter("A", time.Second))
	b.stand(waiter("B", time.Millisecond))
	require.Equal(t, []string{"dead", "hung", "A", "B"}, b.queue())
	b.age("hung")
	b.release("mine", "")
	require.Equal(t, "vA", b.holder())
	require.Equal(t, held.Count+1, b.pushed(pushes).Count, "nobody was granted anything in between")
	require.Equal(t, []string{"B"}, b.queue())
}

func TestRealALockThatNobodyListensForStaysFree(t *testing.T) {
	b := newBench(t)
	held := b.acquire("mine")
	b.stand(waiter("dead", time.Hour))
	require.Equal(t, Reply{Kind: Freed}, b.release("mine", ""))
	require.Empty(t, b.holder())
	require.Empty(t, b.queue())
	again := b.acquire("other")
	require.Equal(t, Granted, again.Kind)
	require.Greater(t, again.Count, held.Count)
	require.Equal(t, "0", b.s.Do("HGET", b.k.Fence, "standing"), "nobody looks for a queue any more")
}

// A server of a Redis Cluster counts its own listeners only.
func TestRealOnAClusterTheNumberOfListenersSaysNothing(t *testing.T) {
	b := newBench(t)
	b.acquire("mine")
	s := waiter("A", time.Second)
	s.Cluster = true
	b.stand(s)
	b.release("mine", "")
	require.Equal(t, "vA", b.holder())
}

func TestRealAWaiterWithoutAChannelTakesItsTurnByAsking(t *testing.T) {
	b := newBench(t)
	pushes, _ := b.listen(WakePrefix + "B")
	b.acquire("mine")
	mute := waiter("A", time.Minute)
	mute.Channel = ""
	b.stand(mute)
	b.stand(waiter("B", time.Second))
	require.Equal(t, Reply{Kind: Freed}, b.release("mine", ""))
	require.Empty(t, b.holder(), "it is left to the head")
	refused := b.acquire("other")
	require.Equal(t, Held, refused.Kind)
	require.Equal(t, "vA", refused.Value)
	require.InDelta(t, time.Duration(freshness*float64(time.Hour)), refused.Left, float64(time.Minute))
	sb := b.stand(waiter("B", 2*time.Second))
	require.True(t, sb.Free)
	require.Equal(t, 1, sb.Rank)
	mute.Waited += time.Second
	sa := b.stand(mute)
	require.True(t, sa.Granted)
	require.Equal(t, mute.Waited, sa.Stamp)
	b.notPushed(pushes, WakePrefix+"B")

	// One that asks no more delays the others until it is not fresh.
	b.release("vA", "A")
	b.pushed(pushes)
	b.stand(mute)
	b.age("A")
	require.Equal(t, Reply{Kind: Freed}, b.release("vB", "B"))
	require.Equal(t, Granted, b.acquire("other").Kind)
}

func TestRealAGrantIsReportedWithTheStampOfWhatWasGranted(t *testing.T) {
	b := newBench(t)
	pushes, _ := b.listen(WakePrefix + "A")
	b.acquire("mine")
	b.stand(waiter("A", time.Second))
	b.stand(waiter("A", 2*time.Second))
	b.release("mine", "")
	b.s.Do("PEXPIRE", b.k.Lock, "100000")
	p := b.pushed(pushes)
	require.Equal(t, 2*time.Second, p.Stamp)
	// Whenever it asks: now, and when the notification of it is late.
	for _, waited := range []time.Duration{time.Second, 2 * time.Second, time.Minute} {
		s := b.stand(waiter("A", waited))
		require.Equal(t, Standing{Granted: true, Count: p.Count, Stamp: 2 * time.Second, Position: p.Position}, s)
	}
	require.LessOrEqual(t, b.pttl(), 100*time.Second, "its expiry stays as it is")

	// A grant of which the node knows no more counts from the wait's beginning.
	b.s.Do("HDEL", b.k.Fence, "granted")
	require.Equal(t, Standing{Granted: true, Count: p.Count}, b.stand(waiter("A", time.Hour)))
	b.s.Do("DEL", b.k.Fence)
	q := waiter("A", time.Hour)
	q.Claim = claim
	_, err := b.try(q.Request(b.k, retention, unguarded))
	require.ErrorContains(t, err, "the fence count is gone")
}

// What is known of a grant from the queue is not said of the next holder.
func TestRealAnOrdinaryHolderIsNotTakenForTheWaiterBeforeIt(t *testing.T) {
	b := newBench(t)
	b.listen(WakePrefix + "A")
	b.acquire("mine")
	b.stand(waiter("A", time.Second))
	b.release("mine", "")
	b.release("vA", "A")
	b.acquire("other")
	s := b.stand(waiter("B", time.Second))
	require.Equal(t, "other", s.Holder)
	require.Empty(t, s.HolderWaiter)
	require.Zero(t, s.HolderPosition)
}

func TestRealALateRequestChangesNothing(t *testing.T) {
	b := newBench(t)
	pushes, _ := b.listen(WakePrefix + "A")
	b.acquire("mine")
	late := waiter("A", time.Second)
	now := waiter("A", 2*time.Second)
	now.Value = "new"
	b.stand(now)
	require.Equal(t, 0, b.stand(late).Rank)
	b.s.Do("DEL", b.k.Lock)
	// Its answer is no grant of the value that it asked for, nor swallows that of the other.
	s := b.stand(late)
	require.False(t, s.Granted)
	require.Equal(t, "new", s.Holder)
	require.Equal(t, "new", b.holder())
	require.Equal(t, 2*time.Second, b.pushed(pushes).Stamp)
}

func TestRealAHandBackGoesToThatWaiterOrNobody(t *testing.T) {
	b := newBench(t)
	first, _ := b.listen(WakePrefix + "first")
	to, _ := b.listen(WakePrefix + "to")
	begin := func() Standing { // A has it, first and to stand
		b.s.Do("FLUSHALL")
		got := b.stand(waiter("A", time.Minute))
		require.True(t, got.Granted)
		b.stand(waiter("first", time.Second))
		b.stand(waiter("to", time.Millisecond))
		return got
	}
	back := waiter("A", time.Minute+time.Second)
	back.Value, back.Instead, back.Take = "new", "vA", false

	got := begin()
	back.To = "to"
	s := b.stand(back)
	require.Equal(t, "vto", s.Holder)
	require.Equal(t, "to", s.HolderWaiter)
	require.Equal(t, time.Millisecond, b.pushed(to).Stamp)
	require.Equal(t, []string{"A", "first"}, b.queue(), "it keeps its position")
	require.Equal(t, got.Count+1, b.count())
	require.Equal(t, "vto", b.stand(back).Holder, "a doubled one changes nothing")

	for _, back.To = range []string{"", "nobody", "A"} {
		begin()
		s := b.stand(back)
		require.True(t, s.Free, back.To)
		require.Empty(t, b.holder())
		require.Equal(t, []string{"A", "first", "to"}, b.queue())
	}
	b.notPushed(first, WakePrefix+"first")

	// Another's value is not handed back.
	begin()
	b.s.Do("SET", b.k.Lock, "other")
	require.Equal(t, "other", b.stand(back).Holder)
}

func TestRealANodeThatMayHaveForgottenQueuesAndPassesNothingOn(t *testing.T) {
	b := newBench(t)
	pushes, _ := b.listen(WakePrefix + "A")
	sitsOut := Guard{Least: "1000000"}
	s := b.standGuarded(waiter("A", time.Second), sitsOut)
	require.True(t, s.Free)
	require.InDelta(t, 1e6, s.SitsOut.Seconds(), 1000)
	require.Equal(t, b.run(), s.Run)
	require.Equal(t, Recovering, b.asked(Acquire(b.k, "other", claim, retention, sitsOut), ParseAcquire).Kind)
	require.Equal(t, Missing, b.asked(Release(b.k, "other", "", "", retention, sitsOut), ParseRelease).Kind)
	require.Equal(t, Missing, b.asked(Leave(b.k, "B", "vB", retention, sitsOut), ParseRelease).Kind)
	require.Empty(t, b.holder())
	b.notPushed(pushes, WakePrefix+"A")
	b.acquire("other") // granted it to A
	b.pushed(pushes)
	// A hand-back is one to nobody.
	b.stand(waiter("B", time.Minute))
	back := waiter("A", time.Hour)
	back.Value, back.Instead, back.To = "new", "vA", "B"
	require.True(t, b.standGuarded(back, sitsOut).Free)
	// A run that is known to be durable votes.
	require.True(t, b.standGuarded(waiter("A", 2*time.Hour), Guard{Least: "1000000", Durable: b.run()}).Granted)
}

func TestRealLeaveTakesTheRequestOutAndFreesTheLock(t *testing.T) {
	b := newBench(t)
	pushes, _ := b.listen(WakePrefix + "B")
	b.acquire("mine")
	b.stand(waiter("A", time.Minute))
	b.stand(waiter("B", time.Second))
	require.Equal(t, NotMine, b.asked(Leave(b.k, "A", "another attempt's", retention, unguarded), ParseRelease).Kind)
	require.Equal(t, []string{"B"}, b.queue())
	require.Equal(t, "mine", b.holder())
	require.Equal(t, Reply{Kind: Freed, Passed: true}, b.asked(Leave(b.k, "C", "mine", retention, unguarded), ParseRelease))
	require.Equal(t, "vB", b.holder())
	b.pushed(pushes)
	require.Equal(t, Reply{Kind: Freed}, b.asked(Leave(b.k, "B", "vB", retention, unguarded), ParseRelease))
	require.Empty(t, b.holder())
}

// The waiter stands with a new value by now.
func TestRealReleaseTakesOutTheRequestOfItsOwnValueOnly(t *testing.T) {
	b := newBench(t)
	b.acquire("mine")
	b.stand(waiter("A", time.Minute))
	b.release("old", "A")
	require.Equal(t, []string{"A"}, b.queue())
	b.release("vA", "A")
	require.Empty(t, b.queue())
	require.Equal(t, "mine", b.holder())
}

func TestRealConfirmCommitsAndExtends(t *testing.T) {
	b := newBench(t)
	count := b.acquire("mine").Count
	b.s.Do("PEXPIRE", b.k.Lock, "100000")
	confirm := func(value string, g Guard, token uint64) Reply {
		return b.asked(Confirm(b.k, value, claim, retention, g, token), ParseConfirm)
	}
	require.Equal(t, NotMine, confirm("other", unguarded, count+5).Kind)
	require.Less(t, b.pttl(), 200*time.Second)
	require.Equal(t, Reply{Kind: Counted, Count: count + 5}, confirm("mine", unguarded, count+5))
	require.Greater(t, b.pttl(), 200*time.Second)
	require.Equal(t, Reply{Kind: Counted, Count: count + 5}, confirm("mine", unguarded, count), "a count never falls")
	out := confirm("mine", Guard{Least: "1000000"}, count)
	require.Equal(t, Prolonged, out.Kind, "it has no vote")
	require.Equal(t, b.run(), out.Run)
	b.s.Do("HSET", b.k.Fence, "run", "earlier")
	require.Equal(t, NotMine, confirm("mine", unguarded, count).Kind, "it vouches for nothing")
}

func TestRealInspectShowsTheQueueWithItsWaits(t *testing.T) {
	b := newBench(t)
	b.acquire("mine")
	b.stand(waiter("B", time.Second))
	b.stand(waiter("A", time.Minute))
	b.stand(waiter("dead", time.Hour))
	b.age("dead")
	show := func(n int) Inspected {
		in, err := ParseInspect(b.eval(Inspect(b.k, n)))
		require.NoError(t, err)
		return in
	}
	in := show(10)
	require.Equal(t, "mine", in.Value)
	require.Len(t, in.Waiters, 2)
	require.Equal(t, "A", in.Waiters[0].ID)
	require.Equal(t, "vA", in.Waiters[0].Value)
	require.GreaterOrEqual(t, in.Waiters[0].Waited, time.Minute)
	require.Less(t, in.Waiters[0].Waited, 10*time.Minute)
	require.Equal(t, "B", in.Waiters[1].ID)
	require.Len(t, show(2).Waiters, 1, "the first two, of which one is alive")
	require.Empty(t, show(0).Waiters)
}

func TestRealTheKeysOfAQueueExpire(t *testing.T) {
	b := newBench(t)
	s := waiter("A", time.Second)
	s.Claim = "1000"
	b.acquire("mine")
	b.stand(s)
	for _, prefix := range []string{StandingPrefix, askedPrefix} {
		n, err := strconv.Atoi(b.s.Do("PTTL", prefix+"{redlock:k}redlock:k"))
		require.NoError(t, err)
		require.Greater(t, n, 1300)
		require.LessOrEqual(t, n, 60_000)
	}
	b.stand(waiter("A", 2*time.Second)) // its claim is an hour
	n, err := strconv.Atoi(b.s.Do("PTTL", StandingPrefix+"{redlock:k}redlock:k"))
	require.NoError(t, err)
	require.Greater(t, n, 4_000_000)
}

func TestRealOneCallLooksAtSoManyDeadOnly(t *testing.T) {
	b := newBench(t)
	b.acquire("mine")
	for i := range 150 {
		b.stand(waiter("dead"+strconv.Itoa(i), time.Hour))
	}
	b.release("mine", "")
	require.Empty(t, b.holder())
	require.Len(t, b.queue(), 50)
	require.Equal(t, Granted, b.acquire("other").Kind)
	require.Empty(t, b.queue())
}
