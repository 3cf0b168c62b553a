package redlock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// denials are what asking again does not mend.
var denials = []string{
	"WRONGPASS invalid username-password pair or user is disabled.", "NOAUTH Authentication required.",
	"NOPERM this user has no permissions to run the 'evalsha' command", "NOPERM No permissions to access a key",
	"ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:1.",
}

// denies makes this many nodes refuse with err, or none again.
func (q *quorum) denies(n int, err string) {
	for _, node := range q.nodes[:n] {
		node.set(func(node *fakeNode) { node.refuses = err })
	}
}

func TestACampaignEndsWhereNoQuorumCanBeReachedForWantOfAPermission(t *testing.T) {
	for _, denial := range denials {
		for nodes, enough := range map[int]int{1: 1, 3: 2, 4: 2, 5: 3} {
			bubble(t, func(t *testing.T) {
				q := newQuorum(t, nodes)
				l, _ := q.client(nil)
				q.denies(enough, denial)
				_, err := l.TryAcquire(t.Context(), "k", ttl)
				require.ErrorIs(t, err, lock.ErrRefused)
				require.NotErrorIs(t, err, lock.ErrUnavailable)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err = lock.Acquire(ctx, l, "k", ttl, nil)
				require.ErrorIs(t, err, lock.ErrRefused, "and not at the end of a minute")
				require.NoError(t, ctx.Err())
			})
		}
	}
}

func TestWhatAQuorumCanDoWithoutIsNoRefusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		q.denies(1, denials[0])
		nets[1].set(refuse)
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable, "the second node may come back")
		require.NotErrorIs(t, err, lock.ErrRefused)
		for _, other := range []string{"LOADING Redis is loading the dataset in memory", "OOM command not allowed when used memory > 'maxmemory'."} {
			q.denies(3, other)
			nets[1].set(healthy)
			_, err = l.TryAcquire(t.Context(), "k", ttl)
			require.ErrorIs(t, err, lock.ErrUnavailable, other)
			require.NotErrorIs(t, err, lock.ErrRefused, other)
		}
	})
}

// A password that is being changed must not end those who have stood by for days.
func TestARefusalAfterTheFirstDecisionIsAnOutage(t *testing.T) {
	for _, first := range []string{"a grant", "a refused attempt", "a wait"} {
		bubble(t, func(t *testing.T) {
			q := newQuorum(t, 3)
			l, _ := q.client(nil)
			other, _ := q.client(nil)
			lease := must(t)(other.TryAcquire(t.Context(), "k", time.Minute))
			synctest.Wait()
			switch first {
			case "a grant":
				require.NoError(t, must(t)(l.TryAcquire(t.Context(), "j", ttl)).Release(t.Context()))
			case "a refused attempt":
				_, err := l.TryAcquire(t.Context(), "k", ttl)
				require.ErrorIs(t, err, lock.ErrHeld)
			case "a wait":
				_, err := lock.Acquire(t.Context(), l, "k", ttl, &lock.AcquireOptions{Timeout: time.Second})
				require.ErrorIs(t, err, lock.ErrHeld)
			}
			q.denies(3, denials[0])
			_, err := l.TryAcquire(t.Context(), "k", ttl)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.NotErrorIs(t, err, lock.ErrRefused)
			time.AfterFunc(5*time.Second, func() {
				q.denies(3, "")
				if err := lease.Release(context.Background()); err != nil && !errors.Is(err, lock.ErrUnavailable) {
					t.Error(err)
				}
			})
			got := must(t)(lock.Acquire(t.Context(), l, "k", ttl, nil))
			require.NoError(t, got.Release(t.Context()))
		})
	}
}
