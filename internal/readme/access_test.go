package readme

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
		waiter, err := redlock.Dial(ctx, []string{url}, &redlock.Options{NodeTimeout: 10 * time.Second})
		note("dial", err)
		if err == nil {
			defer waiter.Close()
			ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			waited := make(chan error, 1)
			go func() {
				lease, err := lock.Acquire(ctx, waiter, "k", ttl, nil)
				if err == nil {
					err = lease.Release(ctx)
				}
				waited <- err
			}()
			for range 200 { // until it stands in line, or is seen not to be able to
				if s.Do("ZCARD", redlock.QueuePrefix+"{redlock:k}redlock:k") == "1" || s.Do("ACL", "LOG") != "" {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			note("release", lease.Release(ctx))
			note("wait", <-waited)
		}
		note("release again", lease.Release(ctx))
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
	rules := accessRules(t, "README.md")
	require.Equal(t, rules, accessRules(t, "internal/docs/backend-redlock.md"))
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	user := func(name string, rules []string) string {
		s.Do("SCRIPT", "FLUSH")
		s.Do("DEL", "redlock:k")
		s.Do("ACL", "LOG", "RESET")
		s.Do(append([]string{"ACL", "SETUSER", name, "on", ">secret"}, rules...)...)
		return "redis://" + name + ":secret@" + s.Addr()
	}
	require.Empty(t, everyday(t, s, user("keeper", rules)))
	tried := 0
	for i, rule := range rules {
		if strings.HasPrefix(rule, "+") {
			tried++
			without := slices.Delete(slices.Clone(rules), i, i+1)
			require.NotEmpty(t, everyday(t, s, user(fmt.Sprint("without", i), without)), "%s is not needed", rule)
		}
	}
	require.Greater(t, tried, 10)
}
