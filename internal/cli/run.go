package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/internal/procgroup"
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
	slots         int
	shared        bool // as a reader
	exclusive     bool // as the writer
	holder        string
	holderFrom    string // the flag or the variable that gave it
	restartDelay  time.Duration
	keepSecrets   bool
	quiet         bool
	atLeast       time.Duration
	atLeastOn     string

	acquire  lock.AcquireOptions
	store    store
	locker   lock.Locker // the store's, without slots
	said     bool        // what has to be known of the store
	terminal bool        // there was one at the start
	began    time.Time   // of the campaign
	guard    *procgroup.Guard
	signals  chan os.Signal // those that may ask for the end
	suspend  chan os.Signal // SIGTSTP
	asking   sync.Mutex     // held while the store is asked for the lease
	guarding sync.Mutex     // held while the guard is notified until when the lease stands
}

func (a *app) runCommand() *cobra.Command {
	r := &runner{a: a}
	c := &cobra.Command{
		Use:   "run KEY [flags] -- COMMAND [ARG...]",
		Short: "Run a command while holding a lock",
		Long: `Run waits until it holds KEY, runs the command, and renews the lease while it
runs. The command gets, besides this program's environment,

  LOCKKEEPER_KEY     the lock's name (with --slots that of the slot)
  LOCKKEEPER_TOKEN   the fencing token: send it with each write, and let the
                     resource refuse a smaller one than it has seen

but, unless --keep-credentials is given, none of those that lead to the store:

  ` + secretNames() + `

A directory of lock files is no secret: a lockkeeper below the command finds the
same one. With another store it must name one itself, and is refused if it does
not.

The command is a process group of its own. If the lease can't be renewed, the
whole group gets SIGTERM --grace before the lease runs out, and SIGKILL before
anybody else can have it. If the store took the lease away, as a force release
does, another may have it already: SIGKILL follows after 100ms. Signals are
passed on to the group. What the command leaves running when it ends is ended
too, SIGTERM and after --grace SIGKILL, before the lock is freed. On Linux that
includes what has left the group but not the session, such as what timeout(1)
runs. A process that makes a session of its own (setsid, a daemon) is left
alone.

The command gets the terminal: in a pipeline, or beside other jobs of make or
xargs, when it asks for it. Ctrl-C ends what is around lockkeeper, a script or a
loop, if the command died of it. Ctrl-Z stops the command and lockkeeper, and
with it the renewal: unless they go on before the lease runs out, the guard
kills the command.

If lockkeeper itself is killed, its guard, a second process named lock-guard,
kills the group at once; on Linux the kernel kills the command as well. If
lockkeeper is paused (SIGSTOP, a debugger), the guard kills the group before the
lease runs out. On Windows the command runs in a job object, which the system
ends with lockkeeper, and nothing covers a pause: the fencing token alone
protects then.

Jobs that several machines start at the same time, by cron for instance, need
--once and --at-least, more than their clocks may differ: a job that is over in
a moment has freed the lock before another machine's clock says it is time, and
would run twice. The hold ends that long after it began, though lockkeeper has
exited.

With --shared up to 16 commands read at a time (--slots says fewer), with
--exclusive one writes, alone: what flock's -s and -x do, over any store.
Neither keeps the other out for ever: all stand in one queue. A plain run of the
same key keeps readers and writers from coming in, but does not wait for the
readers that are in: let every writer say --exclusive. A writer's token is
larger than those of all before it; a reader's says which writes it can have
seen.

With --once, REDIS_RETRY_COUNT is how many more attempts there are, and
REDIS_RETRY_DELAY_MS the time between them.`,
		Example: `  export LOCKKEEPER_URL=redlock://10.0.0.1,10.0.1.1,10.0.2.1
  lockkeeper run pricing-oracle-keeper -- node keeper.js
  # cron: one machine does it
  lockkeeper run nightly-report --once --at-least 1m -q -- ./report.sh
  lockkeeper run migrate --wait 30s -- ./migrate.sh
  lockkeeper run keeper --restart -- ./keeper       # a service: stands by
  lockkeeper run crawl --slots 3 -- ./crawl         # three at a time
  lockkeeper run --shared catalogue -- ./export     # beside other readers
  lockkeeper run --exclusive catalogue -- ./rebuild # alone`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash != 1 || len(args) < 2 {
				return usage("want one KEY, then --, then the command, as in: lockkeeper run KEY -- ./command")
			}
			r.key, r.command = args[0], args[1:]
			if err := r.settle(cmd); err != nil {
				return err
			}
			return r.refused(r.run(cmd.Context()))
		},
	}
	flags := c.Flags()
	flags.DurationVar(&r.ttl, "ttl", leader.DefaultTTL, "`time` others wait if this machine is cut off (environment: REDIS_LOCK_TTL_MS)")
	flags.DurationVar(&r.grace, "grace", 0, "`time` from SIGTERM to SIGKILL (default a fifth of the ttl)")
	flags.BoolVar(&r.once, "once", false, "exit with status 75 if another holds it")
	flags.DurationVar(&r.atLeast, "at-least", 0, "keep the hold until this `time` after it began, though the command has ended")
	flags.StringVar(&r.atLeastOn, "at-least-on", "always", "`when`: always, or success: a failed command frees the lock at once")
	flags.DurationVar(&r.wait, "wait", 0, "exit with status 75 if another still holds it after this `time` (default: wait for ever)")
	flags.BoolVar(&r.restart, "restart", false, "campaign again after a loss or the command's end, until SIGINT, SIGTERM or SIGQUIT")
	flags.DurationVar(&r.restartDelay, "restart-delay", time.Second, "`pause` before campaigning again; to a minute while the command fails at once")
	flags.IntVar(&r.slots, "slots", 1, "`n` holders at a time; one without --slots counts, too")
	flags.BoolVar(&r.shared, "shared", false, "read: beside other --shared, and never beside --exclusive")
	flags.BoolVar(&r.exclusive, "exclusive", false, "write: alone among --shared and --exclusive")
	flags.StringVar(&r.holder, "holder", "", "`name` that others see, before host and process (environment: LOCKKEEPER_HOLDER)")
	flags.BoolVar(&r.keepSecrets, "keep-credentials", false, "leave in the command's environment what leads to the store")
	flags.BoolVarP(&r.quiet, "quiet", "q", false, "say nothing but errors, and nothing if another is known to hold it")
	exitStatuses(c, `Exit status: the command's own (128+n if signal n ended it; SIGINT ends
lockkeeper, too), or
  64    usage: a bad flag, key, ttl or URL; nothing was run
  69    unavailable: the store could not decide in time, or it refuses
        (no permission); nothing was run
  75    held by another, with --once or --wait; nothing was run
  76    lost: the lease was lost, and the command was ended if it still ran
  126   the command can't be executed
  127   the command was not found
  128+n signal n came while standing by
`)
	return c
}

// refused is err in the words that this command has for a refusal. With --quiet it has
// none: another holds the key, and cron mails what is printed. A holder that may be dead is
// named all the same, unless the store's URL says how that is found out: a store without
// ages refuses each process that has just started, so that a job which asks once would
// never run again, and nobody would know.
func (r *runner) refused(err error) error {
	if codeOf(err) != exitHeld || !errors.Is(err, lock.ErrHeld) {
		return err
	}
	var held *lock.HeldError
	unconfirmed := errors.As(err, &held) && held.Unconfirmed
	grace := r.store.hasParam("grace")
	switch {
	case r.quiet && (grace || !unconfirmed):
		return &status{code: exitHeld}
	case r.atLeast > 0 && unconfirmed && !grace:
		// Not --wait: what outlasts a hold that is kept runs the job a second time.
		return &status{exitHeld, fmt.Errorf("%s is held by %s, or was: this store reports no ages, so a process that has just started can't know that a hold has ended by itself; with --at-least its URL needs grace= (or, on Kubernetes, clock-skew=)", held.Key, plain.Holder(held.Holder))}
	}
	return err
}

func (r *runner) run(ctx context.Context) (err error) {
	s, err := r.a.store()
	if err != nil {
		return err
	}
	if r.holder != "" {
		if err := s.setHolder(r.holderFrom, r.holder); err != nil {
			return err
		}
	}
	r.store = s
	path, err := exec.LookPath(r.command[0])
	if err != nil {
		return cantRun(r.command, err)
	}
	r.signals = make(chan os.Signal, 8)
	defer r.notifySignals()()
	r.terminal = procgroup.HasTerminal()

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
		return r.bounded(err)
	}
	if r.atLeast > 0 {
		if err := lock.CheckReleaseAfter(locker, r.atLeast); err != nil {
			return usage("--at-least %v: %w", r.atLeast, err)
		}
	}
	if above := r.heldAbove(ctx, locker); above >= r.slots || above > 0 && r.shares() {
		return usage("%q is held by a lockkeeper that this one runs under: it would wait for its own end", r.key)
	}
	r.locker = locker
	if locker, err = r.sharing(locker); err != nil {
		return err
	}
	if r.guard, err = procgroup.StartGuard(s.dir(), r.warn); err != nil {
		return fmt.Errorf("can't start the guard process: %w", err)
	}
	defer r.guard.Close()
	return r.campaigns(ctx, locker, path)
}

// notifySignals sends the signals that may ask for the end to r.signals, until the returned
// function is called.
func (r *runner) notifySignals() (stop func()) {
	if procgroup.IgnoredFromTheStart(syscall.SIGQUIT) {
		signal.Ignore(syscall.SIGQUIT) // Go has forgotten it, and the command is to know
	} else {
		signal.Notify(r.signals, syscall.SIGQUIT)
	}
	notifySignals(r.signals)
	r.suspend = make(chan os.Signal, 1)
	procgroup.NotifySuspend(r.suspend)
	disturbed := undisturbed()
	return func() {
		disturbed()
		signal.Stop(r.suspend)
		signal.Stop(r.signals)
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

// answerTime is what a store gets for its first answer, however short --wait is: that bounds
// the wait for another holder, and a store that was not given time to say whether there is one
// is not unavailable.
const answerTime = time.Second

// stand campaigns until this process has the lock, or --once or --wait is over.
func (r *runner) stand(ctx context.Context, locker lock.Locker) (lock.Lease, error) {
	s, bounds := &standby{Locker: locker, r: r}, r.bounds()
	if bounds.Timeout == 0 || bounds.Timeout >= answerTime {
		return lock.Acquire(ctx, s, r.key, r.ttl, bounds)
	}
	// One attempt that --wait does not cut short. It is the first and not the last, since one
	// that was cut short may still keep the next one out.
	lease, err := lock.Acquire(ctx, s, r.key, r.ttl, &lock.AcquireOptions{Attempts: 1, Timeout: answerTime})
	if !errors.Is(err, lock.ErrHeld) && !errors.Is(err, lock.ErrUnavailable) || time.Since(r.began) >= r.wait {
		return lease, err
	}
	lease, last := lock.Acquire(ctx, s, r.key, r.ttl, r.bounds())
	if last != nil && ctx.Err() == nil && errors.Is(err, lock.ErrHeld) && !errors.Is(last, lock.ErrHeld) {
		last = err // the rest of --wait was too short for another answer
	}
	return lease, last
}

// untilSignal runs fn with a context that a signal ends. The error is the signal then,
// also if fn had none. SIGTSTP ends fn too, stops this process, and fn begins again: one
// that is stopped while it asks a store could keep others waiting there.
func (r *runner) untilSignal(ctx context.Context, fn func(context.Context) error) error {
	for {
		again, err := r.untilSuspended(ctx, fn)
		if !again {
			return err
		}
		procgroup.Suspend()
	}
}

func (r *runner) untilSuspended(ctx context.Context, fn func(context.Context) error) (suspended bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	for {
		select {
		case err := <-done:
			return false, err
		case <-r.suspend:
			cancel(errSuspended)
			err := <-done
			return err != nil, err // without an error there is something to lead for
		case s := <-r.signals:
			if !r.asksForTheEnd(s) {
				continue
			}
			sig := signalled{s.(syscall.Signal)}
			cancel(sig)
			<-done // its owner gives back what it may have got all the same
			return false, &status{exitSignal + int(sig.Signal), sig}
		}
	}
}

var errSuspended = errors.New("suspended")

// open waits for the store as long as the campaign may last.
func (r *runner) open(ctx context.Context, s store) (lock.Locker, error) {
	if r.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(r.wait, answerTime))
		defer cancel()
	}
	reported := false
	for {
		l, err := s.open(ctx)
		over := r.wait > 0 && time.Since(r.began) >= r.wait
		if err == nil || !errors.Is(err, lock.ErrUnavailable) || r.once || over || ctx.Err() != nil {
			return l, err
		}
		if !reported {
			reported = true
			r.say("waiting for the store: %v", err)
		}
		if pause(ctx, time.Second) != nil {
			return nil, err
		}
	}
}

// say reports what goes on, on standard error: standard output is the command's.
func (r *runner) say(format string, args ...any) {
	if !r.quiet {
		r.warn(format, args...)
	}
}

// warn says what has to be known with --quiet, too.
func (r *runner) warn(format string, args ...any) {
	for i, arg := range args {
		if err, ok := arg.(error); ok {
			args[i] = words(err)
		}
	}
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	fmt.Fprintln(r.a.err, "lockkeeper:", plain.Visible(text)) // keys and holders are others' names
}
