//go:build unix

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

const (
	rightPassword = "Zq7xWk9v/Jy5uHg3t@Lm2n:Pp8r%Vw4d"
	wrongPassword = "Bc6kTf1h/Xs9aGj2e@Rd5m:Yo3q%Nz8u"
	foreignValue  = "Uh4cEi7sKa5lOb9w"
)

// recorder records all that comes out: errors, logs, the command's output.
type recorder struct {
	mu       sync.Mutex
	recorded []string
	logs     int
}

func (e *recorder) record(what string, said ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range said {
		if s != nil {
			e.recorded = append(e.recorded, what+": "+fmt.Sprintf("%v %+v", s, s))
		}
	}
}

func (e *recorder) Write(line []byte) (int, error) { // of a log
	e.record("log", string(line))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.logs++
	return len(line), nil
}

// pieces are what may not be recorded: any five bytes in a row of a secret's parts, which
// have none in common with words or addresses.
func pieces() (all []string) {
	for _, secret := range []string{rightPassword, wrongPassword, foreignValue} {
		for _, part := range regexp.MustCompile(`[/@:%]`).Split(secret, -1) {
			for i := 0; i == 0 || i+5 <= len(part); i++ {
				all = append(all, strings.ToLower(part[i:min(i+5, len(part))]))
			}
		}
	}
	return all
}

// ownValue is a lock's value of ours, or the beginning of one: its owner's name and
// some of its random part.
var ownValue = regexp.MustCompile(`owner-of-locks(/|%2[fF])[A-Z2-7]{3}`)

func (e *recorder) check(t *testing.T) {
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Greater(t, len(e.recorded), 60)
	require.Greater(t, e.logs, 10)
	for _, text := range e.recorded {
		for _, piece := range pieces() {
			require.NotContains(t, strings.ToLower(text), piece)
		}
		require.NotRegexp(t, ownValue, text)
	}
}

// secrets is the way through every error and log that there is.
type secrets struct {
	*recorder
	t       *testing.T
	servers []*redistest.Server
	log     *slog.Logger
}

func (s *secrets) urls(password string) (urls []string) {
	for _, server := range s.servers {
		urls = append(urls, (&url.URL{Scheme: "redis", User: url.UserPassword("keeper", password), Host: server.Addr()}).String())
	}
	return urls
}

func (s *secrets) options() *redlock.Options {
	return &redlock.Options{Owner: "owner-of-locks", Logger: s.log, RestartGuard: -1, NodeTimeout: 300 * time.Millisecond,
		OnRequest: func(node string, _ time.Duration, err error) { s.record("request", node, err) }}
}

// dial is for nodes that may not answer.
func (s *secrets) dial(what string, urls []string, o *redlock.Options) *redlock.Locker {
	return s.dialWithin(500*time.Millisecond, what, urls, o)
}

// dialled is for nodes that answer: their client is needed, however busy the machine is.
func (s *secrets) dialled(what string) *redlock.Locker {
	l := s.dialWithin(programtest.Limit, what, s.urls(rightPassword), s.options())
	require.NotNil(s.t, l, what)
	return l
}

func (s *secrets) dialWithin(limit time.Duration, what string, urls []string, o *redlock.Options) *redlock.Locker {
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	l, err := redlock.Dial(ctx, urls, o)
	s.record(what, err)
	if err != nil {
		return nil
	}
	s.t.Cleanup(func() { s.record("close", l.Close()) })
	return l
}

// all asks l for everything that it can do.
func (s *secrets) all(what string, l *redlock.Locker) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	for _, key := range []string{"k", "foreign", "wrong-type", "text-count"} {
		lease, err := l.TryAcquire(ctx, key, 10*time.Second)
		s.record(what+" acquire", err)
		if held, ok := errors.AsType[*lock.HeldError](err); ok {
			s.record(what+" held", held, held.Holder)
		}
		if err == nil {
			s.record(what+" extend", lease.Extend(ctx, 10*time.Second))
			s.record(what+" release", lease.Release(ctx))
		}
		info, err := l.Inspect(ctx, key)
		s.record(what+" inspect", info, err)
		s.record(what+" force release", l.ForceRelease(ctx, key, 1))
	}
	health, err := l.Health(ctx)
	s.record(what+" health", health, err)
	for _, n := range health.Nodes {
		s.record(what+" node", n.Name, n.Err, n.Warnings)
	}
	for info, err := range l.List(ctx, "") {
		s.record(what+" list", info, err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	awaited, err := l.Await(short, "foreign", time.Second, func(held *lock.HeldError) { s.record(what+" waits", held, held.Holder) })
	s.record(what+" await", err)
	if err == nil {
		_ = awaited.Release(ctx)
	}
	_, err = lock.Acquire(ctx, l, "foreign", time.Second, &lock.AcquireOptions{Timeout: 50 * time.Millisecond})
	s.record(what+" wait", err)
}

func (s *secrets) each(args ...string) {
	for _, server := range s.servers {
		server.Do(args...)
	}
}

// No password and no lock's value is in an error, a log or the command's output.
func TestNoSecretIsShown(t *testing.T) {
	servers := redistest.StartN(t, 3)
	e := &recorder{}
	s := &secrets{recorder: e, t: t, servers: servers, log: slog.New(slog.NewJSONHandler(e, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	user := func(rights ...string) {
		s.each(append([]string{"ACL", "SETUSER", "keeper", "reset", "on", ">" + rightPassword, "~*", "&*"}, rights...)...)
	}
	user("+@all")
	s.each("SET", "redlock:foreign", foreignValue)
	s.each("HSET", "redlock:wrong-type", "a", foreignValue)
	s.each("HSET", redlock.FencePrefix+"{redlock:text-count}redlock:text-count", "count", foreignValue)

	s.badURLs()
	s.dial("wrong password", s.urls(wrongPassword), s.options())
	var tls, down []string
	for _, u := range s.urls(rightPassword) {
		tls = append(tls, strings.Replace(u, "redis:", "rediss:", 1))
		down = append(down, u[:strings.LastIndex(u, ":")]+":1")
	}
	s.dial("no TLS there", tls, s.options())
	s.dial("nobody there", down[:1], s.options())
	s.dial("a Sentinel that is none", []string{s.urls(rightPassword)[0] + "?master_set=m&sentinel_password=" + url.QueryEscape(wrongPassword)}, s.options())
	s.dial("a Cluster that is none", []string{s.urls(wrongPassword)[0] + "?cluster=true"}, s.options())

	l := s.dialled("dial")
	s.all("all is well", l)
	s.held(l)
	s.commands()
	for _, rights := range [][]string{{"+@all", "-evalsha"}, {"+@all", "-evalsha", "-eval"}, {"+@all", "-set"}, {"+@all", "-info", "-config"}, {"+@all", "-client", "-subscribe"}, {"-@all"}} {
		user(rights...)
		s.all(strings.Join(rights, " "), l)
		if l := s.dial("dial with "+strings.Join(rights, " "), s.urls(rightPassword), s.options()); l != nil {
			s.all("dialled with "+strings.Join(rights, " "), l)
		}
	}
	user("+@all", "resetpass", ">other")
	s.each("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	s.all("the password has changed", l)
	user("+@all")
	s.servers[0].Pause()
	s.servers[1].Pause()
	s.all("two hang", l)
	s.dial("two hang", s.urls(rightPassword), s.options())
	s.servers[0].Resume()
	s.servers[1].Resume()
	s.servers[0].Kill()
	s.servers[1].Kill()
	s.all("two are down", l)
	s.withoutScripts()
	e.check(t)
}

// badURLs are those whose password was not encoded, among others.
func (s *secrets) badURLs() {
	ctx, cancel := context.WithTimeout(s.t.Context(), 100*time.Millisecond)
	defer cancel()
	for _, raw := range []string{
		"redis://keeper:" + wrongPassword + "@h:1", "redis://:" + wrongPassword + "@", "unix://:" + wrongPassword + "@/x.sock", wrongPassword, "keeper:" + wrongPassword + "@h",
		"redis://h:1/" + wrongPassword, "redis://h:1?master_set=m&sentinel_password=" + wrongPassword, "redis://h:1?sentinel_password=" + url.QueryEscape(wrongPassword) + "&x=y",
		"redis://keeper:" + url.QueryEscape(wrongPassword) + "@h:99999", "redis://" + wrongPassword,
	} {
		_, err := redlock.Dial(ctx, []string{raw}, s.options())
		s.record("URL", err)
		_, err = backends.Open(ctx, strings.Replace(raw, "redis", "redlock", 1))
		s.record("URL", err)
	}
}

// held loses leases under keepalive and leader, and is refused.
func (s *secrets) held(l *redlock.Locker) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	other := s.dialled("a rival")
	keep := &keepalive.Options{Logger: s.log, OnLost: func(_ *keepalive.Keeper, err error) { s.record("lost", err) }, Interval: 50 * time.Millisecond}
	s.record("do", keepalive.Do(ctx, l, "kept", 2*time.Second, func(ctx context.Context) error {
		_, err := other.TryAcquire(ctx, "kept", time.Second)
		s.record("refused", err)
		s.record("not elected", leader.Run(ctx, other, "kept", func(context.Context) error { return nil },
			&leader.Options{Logger: s.log, Acquire: &lock.AcquireOptions{Attempts: 2}}))
		s.each("SET", "redlock:kept", foreignValue)
		<-ctx.Done()
		s.record("cause", context.Cause(ctx))
		return context.Cause(ctx)
	}, keep))
	s.each("DEL", "redlock:kept")
	s.record("lead", leader.Run(ctx, l, "led", func(ctx context.Context) error {
		s.each("DEL", "redlock:led")
		<-ctx.Done()
		return context.Cause(ctx)
	}, &leader.Options{TTL: 2 * time.Second, Logger: s.log, Keepalive: keep, Once: true, OnChange: func(st leader.Status) { s.record("status", st) }}))
}

// commands are lockkeeper's, given the store in each way.
func (s *secrets) commands() {
	addrs := strings.Join(redistest.Addrs(s.servers), ",")
	var running sync.WaitGroup
	defer running.Wait()
	for _, password := range []string{rightPassword, wrongPassword} {
		for _, env := range [][]string{
			{"LOCKKEEPER_URL=redlock://keeper:" + url.QueryEscape(password) + "@" + addrs + "?node-timeout=300ms"},
			{"LOCKKEEPER_URL=redlock://keeper:" + password + "@" + addrs}, // not encoded
			{"REDIS_NODES=" + addrs, "REDIS_USER=keeper", "REDISCLI_AUTH=" + password},
			{"REDIS_NODES=keeper:" + password + "@" + addrs},
		} {
			for _, args := range [][]string{
				{"health", "--timeout", "1s"}, {"health", "-o", "json", "--timeout", "1s"}, {"list", "--timeout", "1s"}, {"show", "foreign"}, {"release", "foreign", "--force", "--yes"}, {"clear", "k", "--yes"},
				{"run", "foreign", "--once", "--", "true"}, {"run", "of-the-command", "--wait", "200ms", "--", "env"},
			} {
				running.Go(func() {
					p := start(s.t, "", env, args...)
					p.Exits(s.t)
					s.record(args[0], p.Out.String())
				})
			}
		}
	}
}

// withoutScripts asks a server that does not know EVALSHA: Redis quotes the arguments
// of unknown commands, and among them are values.
func (s *secrets) withoutScripts() {
	server := redistest.Start(s.t, "--rename-command", "EVALSHA", "")
	l := s.dialWithin(programtest.Limit, "no scripts", []string{"redis://" + server.Addr()}, s.options())
	require.NotNil(s.t, l)
	s.all("no scripts", l)
	old := redistest.Start(s.t, "--rename-command", "HELLO", "", "--requirepass", "Mx3bQd8y")
	s.dial("no HELLO", []string{"redis://:" + url.QueryEscape(wrongPassword) + "@" + old.Addr()}, s.options())
}
