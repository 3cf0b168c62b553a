package readme

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// accessRules are those of the line "user keeper on >PASSWORD ..." of a page.
func accessRules(t *testing.T, page string) []string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^user keeper on >PASSWORD (.*)$`).FindStringSubmatch(read(t, page))
	require.NotNil(t, m, "%s has no line for the user", page)
	return strings.Fields(m[1])
}

// everyday does what programs do with locks, and returns what went wrong, an
// operator's warnings included.
func everyday(t *testing.T, s *redistest.Server, url string) (trouble []string) {
	t.Helper()
	note := func(what string, err error) {
		if err != nil {
			trouble = append(trouble, what+": "+err.Error())
		}
	}
	ctx := t.Context()
	l, err := redlock.Dial(ctx, []string{url}, &redlock.Options{NodeTimeout: 10 * time.Second})
	if err != nil {
		return []string{"dial: " + err.Error()}
	}
	defer l.Close()
	const ttl = time.Minute
	lease, err := l.TryAcquire(ctx, "k", ttl)
	note("acquire", err)
	if err == nil {
		note("extend", lease.Extend(ctx, ttl))
		_, err := l.Inspect(ctx, "k")
		note("inspect", err)
		v, err := l.View(ctx, "k") // and what an operator does
		note("view", err)
		for _, n := range v.Nodes {
			note("view", n.Err)
		}
		waiter, err := redlock.Dial(ctx, []string{url}, &redlock.Options{NodeTimeout: 10 * time.Second})
		note("dial", err)
		if err == nil {
			defer waiter.Close()
			ctx, cancel := context.WithTimeout(ctx, programtest.Limit)
			defer cancel()
			waited := make(chan error, 1)
			go func() {
				lease, err := lock.Acquire(ctx, waiter, "k", ttl, nil)
				if err == nil {
					err = lease.Release(ctx)
				}
				waited <- err
			}()
			for ctx.Err() == nil { // until it stands and says that it listens, or is seen not to be able to
				asked := s.Do("HGETALL", redlock.StandingPrefix+"asked:{redlock:k}redlock:k")
				if strings.Contains(asked, redlock.WakePrefix) || s.Do("ACL", "LOG") != "" {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if err := lease.Release(ctx); err != nil { // without del: it is not freed for the waiter either
				note("release", err)
				cancel()
			}
			note("wait", <-waited)
		}
		note("release again", lease.Release(ctx))
		_, err = l.Break(ctx, v)
		note("break", err)
	}
	h, err := l.Health(ctx)
	note("health", err)
	for _, n := range h.Nodes {
		note("health", n.Err)
		trouble = append(trouble, n.Warnings...)
	}
	if refused := s.Do("ACL", "LOG"); refused != "" {
		trouble = append(trouble, "refused: "+refused)
	}
	return trouble
}

func TestTheUserMayDoEverythingNeededAndNothingElse(t *testing.T) {
	rules := accessRules(t, "redlock/README.md")
	var needed []int // the rules that permit something
	for i, rule := range rules {
		if strings.HasPrefix(rule, "+") || strings.HasPrefix(rule, "&") {
			needed = append(needed, i)
		}
	}
	require.Greater(t, len(needed), 10)

	// Each user has a server to itself, so that all are tried at the same time.
	servers := redistest.StartN(t, len(needed)+1, "--appendonly", "yes", "--appendfsync", "always")
	trouble := make([][]string, len(servers))
	var all sync.WaitGroup
	for i, s := range servers {
		given := rules
		if i < len(needed) {
			given = slices.Delete(slices.Clone(rules), needed[i], needed[i]+1)
		}
		s.Do(append([]string{"ACL", "SETUSER", "keeper", "on", ">secret"}, given...)...)
		all.Go(func() { trouble[i] = everyday(t, s, "redis://keeper:secret@"+s.Addr()) })
	}
	all.Wait()

	require.Empty(t, trouble[len(needed)], "all rules")
	for i, rule := range needed {
		require.NotEmpty(t, trouble[i], "%s is not needed", rules[rule])
		if strings.HasPrefix(rules[rule], "&") { // only calls are lost: who waits gets the lock all the same
			require.Len(t, trouble[i], 2)
			require.Contains(t, trouble[i][0], "it can't notify those who wait", "Health says so")
			require.True(t, strings.HasPrefix(trouble[i][1], "refused: "), trouble[i][1])
		}
	}
}

// What the page says of +scan.
func TestListNeedsScanAndNothingElse(t *testing.T) {
	rules := accessRules(t, "redlock/README.md")
	s := redistest.Start(t)
	s.Do(append([]string{"ACL", "SETUSER", "keeper", "on", ">secret"}, rules...)...)
	l, err := redlock.Dial(t.Context(), []string{"redis://keeper:secret@" + s.Addr()}, &redlock.Options{NodeTimeout: 10 * time.Second, RestartGuard: -1})
	require.NoError(t, err)
	defer l.Close()
	_, err = l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	list := func() (keys []string, err error) {
		for v, err := range l.Views(t.Context(), "") {
			if err != nil {
				return nil, err
			}
			keys = append(keys, v.Key)
		}
		return keys, nil
	}
	_, err = list()
	require.ErrorContains(t, err, "NOPERM")
	require.ErrorContains(t, err, "'scan'")
	s.Do("ACL", "SETUSER", "keeper", "+scan")
	s.Do("ACL", "LOG", "RESET")
	keys, err := list()
	require.NoError(t, err)
	require.Equal(t, []string{"k"}, keys)
	require.Empty(t, s.Do("ACL", "LOG"))
}
