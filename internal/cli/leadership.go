package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/leadserve"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// leadership is one lockkeeper lead.
type leadership struct {
	runner
	listening
	certain time.Duration
	last    string // what was said of the last change
}

const defaultListen = "127.0.0.1:4040"

func (a *app) leadCommand() *cobra.Command {
	l := &leadership{runner: runner{a: a}}
	c := &cobra.Command{
		Use:   "lead KEY",
		Short: "Lead on behalf of programs that ask over HTTP",
		Long: `Lead campaigns for KEY, renews the lease, and reports over HTTP who leads: for
programs that can't run below lockkeeper run, as a sidecar of a container does.

  GET  /                  whether this copy leads, with which token, and for how
                          long that is certain, as JSON; who leads, if another
                          does
  GET  /readyz            the same, with status 503 unless this copy leads
  GET  /events            the same as server-sent events, at each change and in
                          time before the last one is certain no longer. The
                          stream ends with the term; open another then
  POST /stopped?token=T   the programs that led by that term have stopped: the
                          lock is freed at once

A program leads for certain_ms milliseconds, counted on its own monotonic clock
from before it sent the request (that for the stream, of a stream), or until an
answer says that it does not. Then it has --grace to stop. Whatever the store
does, nobody else leads before that; only a hold that was broken (release
--force) passes on at once. So a program sends the token with each write, and
the resource refuses a smaller one.

SIGTERM, SIGINT and lockkeeper resign end the term in good order: the answers
change at once, and the lock is freed when the programs have stopped, or when
the time of the last answer and --grace are over. A lockkeeper lead that is
killed frees nothing: the lease ends by itself, on a store of files, too.

There is no authentication. An address that other machines reach needs
--allow-remote. A request whose Host is a name other than localhost and those of
--allow-host is refused, since another site's page may have sent it.`,
		Example: `  export LOCKKEEPER_URL=redlock://10.0.0.1,10.0.1.1,10.0.2.1
  lockkeeper lead pricing-oracle-keeper
  curl -s http://127.0.0.1:4040/
  lockkeeper lead keeper --listen unix:/run/keeper/lead.sock --ttl 15s`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l.key = args[0]
			if err := l.settle(cmd); err != nil {
				return err
			}
			return l.run(cmd.Context())
		},
	}
	flags := c.Flags()
	l.listening.flags(flags, defaultListen)
	flags.DurationVar(&l.ttl, "ttl", leader.DefaultTTL, "`time` others wait if this machine is cut off (environment: REDIS_LOCK_TTL_MS)")
	flags.DurationVar(&l.grace, "grace", 0, "`time` for programs to stop (default a fifth of the ttl)")
	flags.DurationVar(&l.certain, "certain", 0, "`time` an answer is certain for, at most (default a fifth of the ttl)")
	flags.StringVar(&l.holder, "holder", "", "`name` that others see, before host and process (environment: LOCKKEEPER_HOLDER)")
	flags.BoolVarP(&l.quiet, "quiet", "q", false, "say nothing but errors")
	exitStatuses(c, `Exit status:
  0     SIGTERM or SIGHUP ended it, and the lock is free
  1     the address can't be served on
  64    usage: a bad flag, key, ttl or URL; nothing was sent
  69    the store refuses: no permission
  76    lost: the lease was lost while its term was being ended
  130   Ctrl-C ended it
`)
	return c
}

// settle completes and checks the settings, before any I/O.
func (l *leadership) settle(cmd *cobra.Command) error {
	var err error
	if !cmd.Flags().Changed("ttl") {
		if l.ttl, err = l.a.millisEnv("REDIS_LOCK_TTL_MS", l.ttl); err != nil {
			return err
		}
	}
	if err := lock.Check(l.key, l.ttl); err != nil {
		return err
	}
	if !cmd.Flags().Changed("grace") {
		l.grace = defaultGrace(l.ttl)
	}
	if !cmd.Flags().Changed("certain") {
		l.certain = defaultGrace(l.ttl)
	}
	if err := l.checkTimes(); err != nil {
		return err
	}
	if l.certain < time.Millisecond || l.certain > l.ttl {
		return usage("--certain is %v, want 1ms to the ttl (%v)", l.certain, l.ttl)
	}
	l.holderFrom = "--holder"
	if !cmd.Flags().Changed("holder") {
		l.holder, l.holderFrom = l.a.getenv("LOCKKEEPER_HOLDER"), "LOCKKEEPER_HOLDER"
	}
	if l.holder != "" || cmd.Flags().Changed("holder") {
		if err := checkHolder(l.holderFrom, l.holder); err != nil {
			return err
		}
	}
	return l.listening.check(defaultListen, "can end the term")
}

func (l *leadership) run(ctx context.Context) (err error) {
	s, err := l.a.store()
	if err != nil {
		return err
	}
	if l.holder != "" {
		if err := s.setHolder(l.holderFrom, l.holder); err != nil {
			return err
		}
	}
	// The kernel frees the locks of a process that ends: programs that lead by its last
	// answer would go on beside the next leader.
	s.param("until-expiry", "true", "file")
	l.store = s
	listener, unix, err := l.listening.listener()
	if err != nil {
		return err
	}
	lead := leadserve.New(l.key, leadserve.Options{
		TTL: l.ttl, Grace: l.grace, Certain: l.certain,
		OnChange: l.changed, Words: words,
		Renewals: slog.New(renewals{&l.runner, "the term"}),
	})
	server := &http.Server{
		Handler:           lead.Handler(l.allowHosts, unix),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, 0), // anyone who asks could fill the log
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer undisturbed()()
	ctx, stop := interruptible(ctx)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.say("serving on %s", l.listening.shown(listener))

	done := make(chan error, 1)
	go func() { done <- l.lead(ctx, s, lead) }()
	select {
	case err = <-done:
	case err = <-served:
		// Nobody can ask any more: another copy leads better.
		cancel(nil)
		served <- err
		err = errors.Join(err, <-done)
	}
	lead.Close()
	ctx, cancelShutdown := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancelShutdown()
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
	<-served
	return err
}

// lead opens the store and leads until ctx ends.
func (l *leadership) lead(ctx context.Context, s store, lead *leadserve.Leadership) error {
	locker, err := l.open(ctx, s)
	if locker != nil {
		defer closeLocker(locker)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return endedInOrder(ctx)
	case err != nil:
		return err
	case l.heldAbove(ctx, locker) > 0:
		return usage("%q is held by a lockkeeper that this one runs under: it would wait for its own end", l.key)
	}
	err = lead.Run(ctx, locker)
	if ctx.Err() == nil {
		return err
	}
	switch {
	case errors.Is(err, lock.ErrLost):
		return &status{exitLost, err}
	case err != nil && !errors.Is(err, context.Cause(ctx)):
		l.warn("the lock was not freed, it ends by itself within %v: %v", l.ttl, err)
	}
	return endedInOrder(ctx)
}

// endedInOrder is how a service ends that a signal has ended in good order; a shell looks at SIGINT.
func endedInOrder(ctx context.Context) error {
	if sig, ok := errors.AsType[signalled](context.Cause(ctx)); ok && sig.Signal == syscall.SIGINT {
		return sig
	}
	return nil
}

// changed says each change once.
func (l *leadership) changed(s leader.Status) {
	text := ""
	switch held, ok := errors.AsType[*lock.HeldError](s.LastAttempt); {
	case s.State == leader.StandingBy && ok:
		text = fmt.Sprintf("standing by for %s in %s: held by %s", l.key, l.store.shown(), name(held.Holder))
	case s.State == leader.StandingBy && s.LastAttempt != nil:
		text = "waiting for the store: " + words(s.LastAttempt)
	case s.State == leader.Leading:
		text = fmt.Sprintf("leading %s in %s, token %d", l.key, l.store.shown(), s.Token)
	case s.State == leader.Draining:
		text = fmt.Sprintf("the term with token %d ends: %s is freed in at most %s", s.Token, l.key, short(l.certain+l.grace))
	case s.State == leader.Lost:
		text = fmt.Sprintf("lost %s, token %d", l.key, s.Token)
	}
	if text == "" || text == l.last {
		return
	}
	l.last = text
	l.sayStore(s.State == leader.Leading)
	l.say("%s", text)
}
