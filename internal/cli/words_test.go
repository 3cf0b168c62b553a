package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestAnErrorIsSaidOnceInTheWordsOfAShellUser(t *testing.T) {
	held := &lock.HeldError{Key: "k", Holder: "vm:1", RetryAfter: 29*time.Second + 997123456}
	outage := fmt.Errorf("%w: 0 of 3 nodes granted it, want 2: node a:1: dial tcp 10.0.0.1:1: connect: connection refused; node b:2: no answer: context deadline exceeded; node c:3: held by vm:1", lock.ErrUnavailable)
	for want, err := range map[string]error{
		"k is held by vm:1, for up to 30s unless renewed":                          fmt.Errorf("lock: acquire \"k\": gave up after attempt 1 of 1: redlock: acquire \"k\": %w", held),
		"k is held by another":                                                     fmt.Errorf("lock: acquire \"k\": %w", &lock.HeldError{Key: "k"}),
		`"a\nb" is held by vm:1, for up to 1s unless renewed`:                      &lock.HeldError{Key: "a\nb", Holder: "vm:1", RetryAfter: time.Second},
		"k is held by vm:1, which may be dead: wait 1s to know, as with --wait 3s": &lock.HeldError{Key: "k", Holder: "vm:1", RetryAfter: time.Second, Unconfirmed: true},
		"the store can't decide: 2 of 3 nodes are needed: node a:1: connection refused; node b:2: no answer; node c:3: held by vm:1": fmt.Errorf("lock: acquire \"a: \\\"b\": no lease within the timeout of 993.756318ms, after 9 attempts in 994ms; last attempt: redlock: acquire \"a: \\\"b\": %w (context deadline exceeded)", outage),
		"the store can't decide: no answer within 21ms":                                                                                                       fmt.Errorf("redlock: inspect \"k\": %w: no answer within 21ms: context deadline exceeded; the store: context deadline exceeded", lock.ErrUnavailable),
		"ttl is 2m0s, want at most the store's restart-guard, which is 1m0s (key \"k\")":                                                                      fmt.Errorf("lock: acquire \"k\": redlock: acquire: %w: ttl is 2m0s, want at most Options.RestartGuard, which is 1m0s (key \"k\")", lock.ErrInvalid),
		"lease lost: not renewed in time; last try: the store can't decide: no answer within 106ms: stopped before the nodes had answered":                    fmt.Errorf("keepalive: \"k\" (token 7): %w: not renewed in time; last try: %w: no answer within 106ms: lock: extend \"k\" (token 7): %w: stopped before the nodes had answered", lock.ErrLost, lock.ErrUnavailable, lock.ErrUnavailable),
		"lease lost: not renewed in time; last try: the store can't decide: no answer within 206ms; 2 of 3 nodes are needed: node b:2: no answer within 3.4s": fmt.Errorf("keepalive: \"k\" (token 7): %w: not renewed in time; last try: %w: no answer within 206ms: lock: extend \"k\" (token 7): no answer; redlock: extend \"k\": %w: 1 of 3 nodes extended it, want 2: node b:2: no answer within 3.4s", lock.ErrLost, lock.ErrUnavailable, lock.ErrUnavailable),
		"lease lost: taken away":                                                        fmt.Errorf("lock: extend \"k\" (token 7): %w: taken away", lock.ErrLost),
		"refused by the store: no permission":                                           fmt.Errorf("redlock: acquire \"k\": %w: no permission", lock.ErrRefused),
		"the store can't decide: no answer":                                             fmt.Errorf("lock: acquire \"k\": no lease within the timeout of 1s, after 1 attempt in 1s; last attempt: %w: record: lock: acquire timeout; the store: context deadline exceeded", lock.ErrUnavailable),
		"the store can't decide: kubernetes.example: no answer":                         fmt.Errorf("lock: acquire \"k\": no lease within the timeout of 2s, after 1 attempt in 2s; last attempt: %w: kubernetes.example: lock: acquire timeout", lock.ErrUnavailable),
		"the store can't decide: can't connect":                                         fmt.Errorf("record: acquire \"k\": %w: context deadline exceeded; the store: can't connect", lock.ErrUnavailable),
		"refused by the store: password authentication failed; check user and password": fmt.Errorf("record: acquire \"k\": %w: password authentication failed; check user and password", lock.ErrRefused),
		"want mysql://user:password@host:3306/database":                                 fmt.Errorf("backends: open mysql: %w: want mysql://user:password@host:3306/database", lock.ErrInvalid),
		"the database is nil":                                                           fmt.Errorf("sqlite: %w: the database is nil", lock.ErrInvalid),
		"stopped by a signal: interrupt":                                                signalled{2},
	} {
		got := words(err)
		if strings.HasSuffix(want, "21ms") {
			require.True(t, strings.HasPrefix(got, want), got)
			require.NotContains(t, got, "context")
			continue
		}
		require.Equal(t, want, got)
	}
}

// What a key or a reason has in it stays.
func TestWordsKeepNamesThatLookLikeLayers(t *testing.T) {
	err := fmt.Errorf("%w: record is of another key, %q", lock.ErrUnavailable, "tenant: a")
	require.Equal(t, `the store can't decide: record is of another key, "tenant: a"`, words(err))
	require.Equal(t, "no such thing", words(errors.New("no such thing")))
	require.Equal(t, "several lines", words(errors.New("several\n  lines\n")))
}

// Holders are named by those who may write to the store.
func TestWhatRunSaysSteersNoTerminal(t *testing.T) {
	var out bytes.Buffer
	r := &runner{a: &app{err: &out}, key: "a  b\r"}
	r.store.url = "memory:"
	s := &standby{r: r}
	r.said = true
	s.answered(t.Context(), r.key, &lock.HeldError{Key: r.key, Holder: "\x1b]0;mine\a\u202e\nlockkeeper: holding"})
	require.Equal(t, `lockkeeper: standing by for a  b\r in memory:: held by \x1b]0;mine\a\u202e\nlockkeeper: holding`+"\n", out.String())
	out.Reset()
	s.answered(t.Context(), r.key, fmt.Errorf("%w: several\nlines", lock.ErrUnavailable))
	require.Equal(t, "lockkeeper: waiting for the store: the store can't decide: several lines\n", out.String())
}

func TestABoundedCampaignSaysWhatBoundedIt(t *testing.T) {
	r := &runner{wait: time.Second}
	held := fmt.Errorf("lock: acquire \"k\": no lease within the timeout of 993.756318ms, after 4 attempts in 994ms; last attempt: %w", &lock.HeldError{Key: "k", Holder: "vm:1", RetryAfter: time.Second})
	err := r.bounded(held)
	require.Equal(t, exitHeld, codeOf(err))
	require.ErrorIs(t, err, lock.ErrHeld, "it is still what it was")
	require.Equal(t, "k is held by vm:1, for up to 1s unless renewed; it was not free within the 1s of --wait", words(err))
	err = r.bounded(fmt.Errorf("redlock: dial: %w: 1 of 3 nodes answered, want 2: node a:1: no answer: context deadline exceeded", lock.ErrUnavailable))
	require.Equal(t, exitUnavailable, codeOf(err))
	require.Equal(t, "the store can't decide: 2 of 3 nodes are needed: node a:1: no answer; it did not within the 1s of --wait", words(err))
	err = r.bounded(fmt.Errorf("redlock: acquire \"k\": %w: 0 of 1 nodes granted it, want 1: node a:1: no answer within 20.998ms: context deadline exceeded", lock.ErrUnavailable))
	require.Equal(t, "the store can't decide: 1 of 1 nodes are needed: node a:1: no answer; it did not within the 1s of --wait", words(err))
	require.Equal(t, held, (&runner{}).bounded(held), "--once is no wait")
	refused := fmt.Errorf("record: acquire \"k\": %w: no permission", lock.ErrRefused)
	require.Equal(t, refused, r.bounded(refused), "more time does not mend it")
	require.Equal(t, exitUsage, codeOf(r.bounded(lock.ErrInvalid)))
	require.NoError(t, r.bounded(nil))
}

// said runs the program in this process.
func said(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &out, getenv: func(string) string { return "" }}
	code := a.main(context.Background(), args)
	return out.String(), code
}

func TestAMistakeOnTheCommandLineIsAnsweredWithWhatWasMeant(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"run", "k", "--ttl", "5", "--", "true"}, `--ttl is "5", want a time with its unit, such as 5s` + "\n"},
		{[]string{"run", "k", "--wait=0.5", "--", "true"}, `--wait is "0.5", want a time with its unit, such as 0.5s` + "\n"},
		{[]string{"run", "k", "--grace=soon", "--", "true"}, `--grace is "soon", want a time with its unit, such as 5s, 500ms or 2m` + "\n"},
		{[]string{"bench", "--duration=3"}, "such as 3s\n"},
		{[]string{"run", "k", "--slots=two", "--", "true"}, `--slots is "two", want a whole number`},
		{[]string{"release", "k", "--force", "--token=-1"}, `--token is "-1", want a whole number, 0 or more`},
		{[]string{"run", "k", "--once=ja", "--", "true"}, `--once is "ja", want true or false`},
		{[]string{"run", "k", "--onec", "--", "true"}, "unknown flag: --onec; did you mean --once?"},
		{[]string{"list", "--ulr=memory:"}, "did you mean --url?"},
		{[]string{"run", "k", "--zzzzzzz", "--", "true"}, "unknown flag: --zzzzzzz\n"},
		{[]string{"relaese", "k"}, `there is no command "relaese"; did you mean release?`},
		{[]string{"halth"}, "did you mean health?"},
		{[]string{"zzzzzzzz"}, "there is no command \"zzzzzzzz\"\n"},
		{[]string{"help", "nosuch"}, `there is no command "nosuch"`},
		{[]string{"help", "relase"}, "did you mean release?"},
		{[]string{"help", "run", "nosuch"}, `there is no command "nosuch"`},
	} {
		out, code := said(t, c.args...)
		require.Equal(t, exitUsage, code, "%v: %s", c.args, out)
		require.Contains(t, out, c.want, c.args)
		require.LessOrEqual(t, strings.Count(out, "\n"), 2, out)
	}
}

func TestHelpAndVersion(t *testing.T) {
	help, code := said(t, "help", "run")
	require.Zero(t, code)
	flag, code := said(t, "run", "--help")
	require.Zero(t, code)
	require.Equal(t, flag, help)
	help, code = said(t, "help")
	require.Zero(t, code)
	require.Contains(t, help, "Run a program under a lock, or lead on its behalf:")
	help, code = said(t, "help", "completion", "bash")
	require.Zero(t, code)
	require.Contains(t, help, "bash")
	version, code := said(t, "version")
	require.Zero(t, code)
	flag, code = said(t, "--version")
	require.Zero(t, code)
	require.Equal(t, version, flag)
}

func TestACommandThatIsALineForAShell(t *testing.T) {
	for line, want := range map[string]string{
		"a; b":           `a; b: command not found; a line for a shell is given as: sh -c 'a; b'`,
		"nosuch --flag":  `sh -c 'nosuch --flag'`,
		"nosuch 'x' | y": `sh -c 'nosuch '\''x'\'' | y'`,
		"FOO=1 x":        `sh -c 'FOO=1 x'`,
	} {
		out, code := said(t, "run", "k", "--url", "memory:", "--", line)
		require.Equal(t, exitNotFound, code, out)
		require.Contains(t, out, want)
	}
	out, code := said(t, "run", "k", "--url", "memory:", "--", "nosuch")
	require.Equal(t, exitNotFound, code)
	require.Equal(t, "lockkeeper: nosuch: command not found\n", out)
	out, code = said(t, "run", "k", "--url", "memory:", "--", "")
	require.Equal(t, exitNotFound, code)
	require.Equal(t, "lockkeeper: the command is empty: command not found\n", out)
	out, code = said(t, "run", "k", "--url", "memory:", "--", "/nosuch/at all")
	require.Equal(t, exitNotFound, code)
	require.Equal(t, "lockkeeper: /nosuch/at all: no such file or directory\n", out)
}

func TestDistanceCountsSlips(t *testing.T) {
	for words, want := range map[string]int{"run run": 0, "rnu run": 1, "ru run": 1, "runs run": 1, "rxn run": 1, "abcd ": 4, " abc": 3} {
		a, b, _ := strings.Cut(words, " ")
		require.Equal(t, want, distance(a, b), words)
		require.Equal(t, want, distance(b, a), words)
	}
}
