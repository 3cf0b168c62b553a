// Package cli is the command lockkeeper: it runs programs under a lock, and shows
// and mends what is going on with locks. Each command has a file of its own.
//
// It is the only package of the module that knows of a command line, and of the
// libraries for it.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/internal/procgroup"
)

// app is one run of the program.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	url      string // --url
	nodes    string // --nodes
	// That these flags were given, with whatever value.
	urlGiven, nodesGiven bool
	output               string // --output
	ended                error  // what main has ended with
}

// Main runs lockkeeper with these arguments and returns its exit status.
func Main(args []string) int {
	if len(args) > 0 && args[0] == procgroup.GuardArg {
		return procgroup.GuardMain(args[1:], os.Stdin)
	}
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	code := a.main(context.Background(), args)
	endBy(a.ended)
	return code
}

// Command is the command line itself, for what makes manual pages and completions of it.
func Command() *cobra.Command {
	return (&app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }}).root()
}

func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	a.ended = err
	var s *status
	if err != nil && !(errors.As(err, &s) && s.err == nil) {
		fmt.Fprintln(a.err, "lockkeeper:", plain.Visible(words(err)))
		if codeOf(err) == exitUsage {
			fmt.Fprintf(a.err, "See %s --help.\n", cmd.CommandPath())
		}
	}
	return codeOf(err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "lockkeeper",
		Short: "Run anything under a lock, and see and mend what is going on",
		Long: `Lockkeeper runs commands under a lock that spans processes and machines, and
shows and mends what is going on with locks.

The store is named by --url, or LOCKKEEPER_URL in the environment:

  file:///run/locks                 one machine (the default: a directory of the
                                    user's own, in $XDG_RUNTIME_DIR or $TMPDIR)
  redlock://h1:6379,h2:6380,h3      a quorum of Redis nodes; TLS: redlocks://
  sqlite:/var/lib/app/app.db        a database file on one machine
  postgres://user:password@h/db     a table in Postgres
  mysql://user:password@h/db        a table in MySQL or MariaDB
  etcd://h1:2379,h2:2379,h3:2379    an etcd cluster; TLS: etcds://
  nats://h1:4222,h2:4222,h3:4222    a NATS JetStream bucket; TLS: natss://
  s3://bucket/prefix                objects of a bucket; credentials as those of
                                    the AWS SDK
  kubernetes:///namespace           the Leases of a namespace, in a pod
  memory:                           this process alone, to try things out

or by REDIS_NODES, host:port or redis:// URLs separated by commas, with the user
in REDIS_USER and the password in REDISCLI_AUTH. Give passwords in the
environment: other users of the machine can see the arguments of a process. A
password that changes stands in the first line of a file,
LOCKKEEPER_PASSWORD_FILE (Redis).

TLS: rediss://, redlocks:// or etcds://. LOCKKEEPER_TLS_CA is the file (PEM) of
the authorities to trust in place of the system's, LOCKKEEPER_TLS_CERT and
LOCKKEEPER_TLS_KEY are the client's own; with them, host:port, mysql:// and
postgres:// are reached over TLS. With Redis, all these files are read for each
connection.

` + exitHelp + `
The commands run, lead and health have others: see their help.`,
		Example: `  export LOCKKEEPER_URL=redlock://10.0.0.1,10.0.1.1,10.0.2.1
  lockkeeper run nightly-report --once --at-least 1m -q -- ./report.sh
  lockkeeper run keeper --restart -- node keeper.js
  lockkeeper lead keeper --listen 127.0.0.1:4040
  lockkeeper health
  lockkeeper watch`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.url, "url", "", "`URL` of the store (environment: LOCKKEEPER_URL)")
	flags.StringVar(&a.nodes, "nodes", "", "Redis `nodes`, host:port,host:port (environment: REDIS_NODES)")
	root.PersistentPreRun = func(*cobra.Command, []string) {
		a.urlGiven, a.nodesGiven = flags.Changed("url"), flags.Changed("nodes")
	}
	root.SetFlagErrorFunc(flagError)
	root.Version = versionText()
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "print the version")
	root.SetUsageTemplate(narrow(root.UsageTemplate()))
	root.SetHelpCommand(helpCommand(root))
	root.AddCommand(a.runCommand(), a.leadCommand(), a.healthCommand(), a.listCommand(), a.showCommand(), a.releaseCommand(), a.resignCommand(), a.clearCommand(), a.watchCommand(), a.serveCommand(), a.benchCommand(), a.versionCommand())
	titled(root, "Run a program under a lock, or lead on its behalf:", "run", "lead")
	titled(root, "See what is going on:", "health", "list", "show", "watch", "serve", "bench")
	titled(root, "Mend:", "resign", "release", "clear")
	a.complete(root)
	wrapArgs(root)
	for _, c := range root.Commands() {
		wrapArgs(c)
	}
	return root
}

// titled puts commands under a title in root's help.
func titled(root *cobra.Command, title string, names ...string) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range root.Commands() {
		if slices.Contains(names, c.Name()) {
			c.GroupID = title
		}
	}
}

// wrapArgs makes a wrong number of arguments a usage error.
func wrapArgs(c *cobra.Command) {
	args := c.Args
	if args == nil {
		return
	}
	c.Args = func(cmd *cobra.Command, list []string) error {
		err := args(cmd, list)
		switch {
		case err == nil:
			return nil
		case !cmd.HasParent():
			return unknownCommand(cmd, list[0])
		case len(list) == 0:
			return usage("no argument is given, want: %s", cmd.UseLine())
		}
		return usage("the arguments are %q, want: %s", list, cmd.UseLine())
	}
}

// notifySignals sends SIGINT, SIGTERM and SIGHUP to c, but not what this program was started to
// ignore, as by nohup: the command under a lock is to ignore it too.
func notifySignals(c chan<- os.Signal) {
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
}

// undisturbed keeps what this program says from ending or stopping it, and with it a lease:
// where the reader of standard error goes away (SIGPIPE; not ignored, because a command under
// a lock would inherit that), or the terminal is another's (stty tostop).
func undisturbed() (stop func()) {
	procgroup.StayRunning()
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	return func() { signal.Stop(broken) }
}

// interruptible is ctx until SIGINT, SIGTERM or SIGHUP comes; its cause says which.
// A second one ends the program at once.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	notifySignals(signals)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case s := <-signals:
			cancel(signalled{s.(syscall.Signal)})
		case <-ctx.Done():
		}
		signal.Stop(signals)
	}()
	return ctx, func() { cancel(context.Canceled); <-done }
}
