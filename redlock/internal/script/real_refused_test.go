package script

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a user may not do with the queue costs its own waiting, not the lock.
func TestRealALockWorksWhereTheQueueIsNotPermitted(t *testing.T) {
	b := newBench(t)
	b.listen(WakePrefix + "A")
	b.listen(WakePrefix + "B")
	for _, rules := range [][]string{
		{"+@all", "~redlock:*", "~" + FencePrefix + "*"},
		{"+@all", "-zrange", "~*"}, {"+@all", "-zrem", "~*"}, {"+@all", "-hdel", "~*"}, {"+@all", "-hdel", "-zadd", "~*"},
	} {
		b.s.Do("FLUSHALL")
		b.s.Do(append([]string{"ACL", "SETUSER", "some", "reset", "on", ">pw", "allchannels"}, rules...)...)
		all := b.c
		b.c = connect(t, b.s, "some", "pw")
		require.Equal(t, Granted, b.acquire("mine").Kind)
		some := b.c
		b.c = all
		b.stand(waiter("A", time.Second))
		b.c = some
		require.Equal(t, Confirmed, b.asked(Extend(b.k, "mine", claim, retention, unguarded), ParseExtend).Kind)
		require.Equal(t, Freed, b.release("mine", "").Kind)
		require.Empty(t, b.holder())
		// Its own request, which is refused or not, keeps the lock from nobody.
		mute := waiter("C", time.Second)
		mute.Channel, mute.Claim, mute.Take = "", claim, false
		_, err := b.try(mute.Request(b.k, retention, unguarded))
		got := b.acquire("mine")
		if err != nil {
			require.Equal(t, Granted, got.Kind, "%v", rules)
		} else {
			b.asked(Leave(b.k, "C", "vC", retention, unguarded), ParseRelease)
			require.Equal(t, Granted, b.acquire("mine").Kind, "%v", rules)
		}
		require.Equal(t, Freed, b.release("mine", "").Kind)
		_, err = ParseInspect(b.eval(Inspect(b.k, 10)))
		require.NoError(t, err)
		b.c = all
	}
	// Where only the rank is, it stands.
	b.s.Do("FLUSHALL")
	b.s.Do("ACL", "SETUSER", "some", "reset", "on", ">pw", "allchannels", "~*", "+@all", "-zrank")
	all := b.c
	b.c = connect(t, b.s, "some", "pw")
	b.acquire("mine")
	require.Equal(t, "mine", b.stand(waiter("A", time.Second)).Holder)
	b.c = all
	// Where only the notification is refused, it is granted, and found by asking.
	b.s.Do("FLUSHALL")
	b.s.Do("ACL", "SETUSER", "some", "reset", "on", ">pw", "resetchannels", "~*", "+@all")
	b.acquire("mine")
	b.stand(waiter("A", time.Second))
	b.c = connect(t, b.s, "some", "pw")
	b.release("mine", "")
	require.True(t, b.stand(waiter("A", 2*time.Second)).Granted)
}

func TestRealACountThatIsNoNumberIsAnErrorAndGrantsNothing(t *testing.T) {
	b := newBench(t)
	b.listen(WakePrefix + "A")
	b.acquire("mine")
	b.stand(waiter("A", time.Second))
	for _, count := range []string{"", "0", "-1", "1x", "9007199254740992"} {
		b.s.Do("HSET", b.k.Fence, "count", count)
		for _, q := range []Request{
			waiterRequest(b, "A"), waiterRequest(b, "B"), Acquire(b.k, "mine", claim, retention, unguarded),
			Commit(b.k, "mine", 5, retention), Confirm(b.k, "mine", claim, retention, unguarded, 5),
		} {
			_, err := b.try(q)
			require.ErrorContains(t, err, "lockkeeper: the fence count is not a number", "%s with %q", q.Name(), count)
		}
	}
	b.release("mine", "")
	require.Empty(t, b.holder())
	b.s.Do("HSET", b.k.Fence, "count", "9007199254740991")
	require.True(t, b.stand(waiter("A", time.Minute)).Free)
	for range 2 {
		_, err := b.try(Acquire(b.k, "mine", claim, retention, unguarded))
		require.ErrorContains(t, err, "has reached 2^53")
	}
}

func waiterRequest(b *bench, name string) Request {
	s := waiter(name, time.Minute)
	s.Claim = claim
	return s.Request(b.k, retention, unguarded)
}
