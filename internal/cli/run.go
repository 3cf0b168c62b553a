package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/procgroup"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// runner is one lockkeeper run.
type runner struct {
	a       *app
	key     string
	command []string

	ttl, grace    time.Duration
	once, restart bool
	wait          time.Duration
	shared        int
	restartDelay  time.Duration
	keepSecrets   bool
	quiet         bool

	acquire lock.AcquireOptions
	began   time.Time // of the campaign
	guard   *procgroup.Guard
	signals chan os.Signal // what came while a command ran
}

func (a *app) runCommand() *cobra.Command {
	r := &runner{a: a}
	c := &cobra.Command{
		Use:   "run KEY [flags] -- COMMAND [ARG...]",
		Short: "Run a command while holding a lock",
		Long: `Run waits until it holds KEY, runs the command, and renews the lease while it
runs. The command gets, besides this program's environment,

  LOCKKEEPER_KEY     the lock's name (with --shared that of the slot)
  LOCKKEEPER_TOKEN   the fencing token: send it with each write, and let the
                     resource refuse a smaller one than it has seen

but, unless --keep-credentials is given, none of those that lead to the store:

  ` + strings.Join(secretEnv, " ") + `

The command is a process group of its own. If the lease can't be renewed, the whole
group gets SIGTERM --grace before the lease runs out, and SIGKILL before anybody else
can have it. If the store took the lease away, as a force release does, another may
have it already: SIGKILL follows after 100ms. SIGINT, SIGTERM and SIGHUP are passed
on to the group. What the command leaves running when it ends is ended too, SIGTERM
and after --grace SIGKILL, before the lock is freed. On Linux that includes what has
left the group but not the session, such as what timeout(1) runs. A process that makes
a session of its own (setsid, a daemon) is left alone.

If lockkeeper itself is killed, its guard, a second process named lock-guard, kills
the group at once; on Linux the kernel kills the command as well. If lockkeeper is
paused (SIGSTOP, a debugger), the guard kills the group before the lease runs out. On
Windows the command runs in a job object, which the system ends with lockkeeper, and
nothing covers a pause: the fencing token alone protects then.

With --once, REDIS_RETRY_COUNT is how many more attempts there are, and
REDIS_RETRY_DELAY_MS the time between them.`,
		Example: `  lockkeeper run pricing-oracle-keeper -- node keeper.js
  lockkeeper run nightly-report --once -- ./report.sh      # cron: one machine does it
  lockkeeper run migrate --wait 30s -- ./migrate.sh
  lockkeeper run keeper --restart -- ./keeper              # a service: stands by for ever
  lockkeeper run crawl --shared 3 -- ./crawl               # three at a time`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash != 1 || len(args) < 2 {
				return usage("want one KEY, then --, then the command, as in: lockkeeper run KEY -- ./command")
			}
			r.key, r.command = args[0], args[1:]
			if err := r.settle(cmd); err != nil {
				return err
			}
			return r.run(cmd.Context())
		},
	}
	flags := c.Flags()
	flags.DurationVar(&r.ttl, "ttl", leader.DefaultTTL, "`time` others wait if this machine is cut off (environment: REDIS_LOCK_TTL_MS)")
	flags.DurationVar(&r.grace, "grace", 0, "`time` from SIGTERM to SIGKILL (default a fifth of the ttl)")
	flags.BoolVar(&r.once, "once", false, "exit with status 75 if another holds it")
	flags.DurationVar(&r.wait, "wait", 0, "exit with status 75 if another still holds it after this `time` (default: wait for ever)")
	flags.BoolVar(&r.restart, "restart", false, "campaign again after a loss, or when the command has ended, until a signal comes")
	flags.DurationVar(&r.restartDelay, "restart-delay", time.Second, "`pause` before campaigning again")
	flags.IntVar(&r.shared, "shared", 1, "`n` holders at a time")
	flags.BoolVar(&r.keepSecrets, "keep-credentials", false, "leave in the command's environment what leads to the store")
	flags.BoolVarP(&r.quiet, "quiet", "q", false, "say nothing but errors")
	c.SetUsageTemplate(c.UsageTemplate() + `
Exit status: the command's own (128+n if signal n ended it), or
  64    usage: a bad flag, key, ttl or URL; nothing was run
  69    unavailable: the store could not decide in time; nothing was run
  75    held by another, with --once or --wait; nothing was run
  76    lost: the lease was lost, and the command was ended if it still ran
  126   the command can't be executed
  127   the command was not found
  128+n signal n came while standing by
`)
	return c
}

// settle completes and checks the settings, before any I/O.
func (r *runner) settle(cmd *cobra.Command) error {
	var err error
	if !cmd.Flags().Changed("ttl") {
		if r.ttl, err = r.a.millisEnv("REDIS_LOCK_TTL_MS", r.ttl); err != nil {
			return err
		}
	}
	if err := lock.Check(r.key, r.ttl); err != nil {
		return err
	}
	if !cmd.Flags().Changed("grace") {
		r.grace = r.ttl / 5
	}
	switch {
	case r.grace <= 0 || r.grace >= r.ttl:
		return usage("--grace is %v, want more than 0 and less than the ttl (%v)", r.grace, r.ttl)
	case r.wait < 0:
		return usage("--wait is %v, want 0 or more", r.wait)
	case r.once && r.wait > 0:
		return usage("--once and --wait %v are given, want one of them", r.wait)
	case r.once && r.restart:
		return usage("--once and --restart are given, want one of them")
	case r.restartDelay < 0:
		return usage("--restart-delay is %v, want 0 or more", r.restartDelay)
	case r.shared < 1 || r.shared > lock.MaxSlots:
		return usage("--shared is %d, want 1 to %d", r.shared, lock.MaxSlots)
	}
	if r.once {
		if r.acquire, err = r.a.onceOptions(); err != nil {
			return err
		}
	}
	return nil
}

// onceOptions are REDIS_RETRY_COUNT and REDIS_RETRY_DELAY_MS.
func (a *app) onceOptions() (lock.AcquireOptions, error) {
	o := lock.AcquireOptions{Attempts: 1}
	if s := a.getenv("REDIS_RETRY_COUNT"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > 1_000_000 {
			return o, usage("REDIS_RETRY_COUNT is %q, want a whole number, 0 to 1000000", s)
		}
		o.Attempts = n + 1
	}
	var err error
	o.Delay, err = a.millisEnv("REDIS_RETRY_DELAY_MS", 200*time.Millisecond)
	return o, err
}

func (r *runner) run(ctx context.Context) (err error) {
	s, err := r.a.store()
	if err != nil {
		return err
	}
	path, err := exec.LookPath(r.command[0])
	if err != nil {
		return cantRun(err)
	}
	r.signals = make(chan os.Signal, 8)
	heed(r.signals)
	defer signal.Stop(r.signals)
	// Without it a reader of standard error that goes away would end this program, and
	// with it the command. Not ignored: the command would inherit that.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)

	r.began = time.Now()
	var locker lock.Locker
	err = r.untilSignal(ctx, func(ctx context.Context) (err error) {
		locker, err = r.open(ctx, s)
		return err
	})
	if locker != nil {
		defer closeLocker(locker)
	}
	if err != nil {
		return err
	}
	if r.shared > 1 {
		locker = lock.Semaphore(locker, r.shared)
	}
	if r.guard, err = procgroup.StartGuard(s.dir(), r.say); err != nil {
		return fmt.Errorf("can't start the guard process: %w", err)
	}
	defer r.guard.Close()
	for {
		stopped, err := r.term(ctx, locker, path)
		if !r.restart || stopped {
			return err
		}
		if err != nil && codeOf(err) != exitLost && !isStatus(err) {
			return err // the next campaign would end in the same way
		}
		if codeOf(err) == exitLost {
			r.say("%v", err)
		}
		r.say("campaigning again in %v", r.restartDelay)
		if err := r.untilSignal(ctx, func(ctx context.Context) error { return pause(ctx, r.restartDelay) }); err != nil {
			return err
		}
		r.began = time.Now()
	}
}

// bounds are those of the campaign's attempts: what --wait leaves after the opening.
func (r *runner) bounds() *lock.AcquireOptions {
	o := r.acquire
	if r.wait > 0 {
		o.Timeout = max(time.Millisecond, r.wait-time.Since(r.began)) // 0 would be no bound
	}
	return &o
}

// isStatus: err is how a command ended, and no word.
func isStatus(err error) bool {
	var s *status
	return errors.As(err, &s) && s.err == nil
}

func cantRun(err error) error {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return &status{exitNotFound, err}
	}
	return &status{exitNoExec, err}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// untilSignal runs fn with a context that a signal ends. The error is the signal then,
// also if fn had none.
func (r *runner) untilSignal(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	select {
	case err := <-done:
		return err
	case s := <-r.signals:
		sig := signalled{s.(syscall.Signal)}
		cancel(sig)
		<-done // its owner gives back what it may have got all the same
		return &status{exitSignal + int(sig.Signal), sig}
	}
}

// open waits for the store as long as the campaign may last.
func (r *runner) open(ctx context.Context, s store) (lock.Locker, error) {
	if r.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.wait)
		defer cancel()
	}
	told := false
	for {
		l, err := s.open(ctx)
		if err == nil || !errors.Is(err, lock.ErrUnavailable) || r.once || ctx.Err() != nil {
			return l, err
		}
		if !told {
			told = true
			r.say("waiting for the store: %v", err)
		}
		if pause(ctx, time.Second) != nil {
			return nil, err
		}
	}
}

// say tells of what goes on, on standard error: standard output is the command's.
func (r *runner) say(format string, args ...any) {
	if !r.quiet {
		text := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
		fmt.Fprintln(r.a.err, "lockkeeper:", text)
	}
}

// term campaigns once and runs the command for one term. stopped: a signal asked for
// the end.
func (r *runner) term(ctx context.Context, locker lock.Locker, path string) (stopped bool, err error) {
	var lease lock.Lease
	err = r.untilSignal(ctx, func(ctx context.Context) (err error) {
		lease, err = lock.Acquire(ctx, &standby{Locker: locker, r: r}, r.key, r.ttl, r.bounds())
		return err
	})
	if err != nil {
		if lease != nil {
			_ = lease.Release(ctx)
		}
		var sig signalled
		return errors.As(err, &sig), err
	}
	keeper, err := keepalive.Start(context.WithoutCancel(ctx), guarded{lease, r}, r.ttl, &keepalive.Options{
		Margin:   r.grace,
		Interval: min(r.ttl/2, (r.ttl-r.grace)/2),
		Logger:   slog.New(renewals{r}),
	})
	if err != nil {
		_ = lease.Release(ctx)
		return false, err
	}
	r.say("holding %s, token %d", lease.Key(), lease.Token())
	stopped, err = r.lead(keeper, lease, path)

	released := keeper.Release(ctx)
	switch {
	case errors.Is(released, lock.ErrLost):
		return stopped, &status{exitLost, released}
	case released != nil:
		r.say("the lock was not freed, it ends by itself within %v: %v", r.ttl, released)
	}
	return stopped, err
}

// environment is this process's, without what leads to the store.
func (r *runner) environment(lease lock.Lease) []string {
	drop := []string{"LOCKKEEPER_KEY", "LOCKKEEPER_TOKEN"}
	if !r.keepSecrets {
		drop = append(drop, secretEnv...)
	}
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(drop, name)
	})
	return append(env, "LOCKKEEPER_KEY="+lease.Key(), "LOCKKEEPER_TOKEN="+strconv.FormatUint(lease.Token(), 10))
}
