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
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// app is one run of the program.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	url      string // --url
	nodes    string // --nodes
	output   string // --output
}

// Main runs lockkeeper with these arguments and returns its exit status.
func Main(args []string) int {
	if len(args) == 1 && args[0] == guardArg {
		return guard(os.Stdin)
	}
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	return a.main(context.Background(), args)
}

func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	var s *status
	if err != nil && !(errors.As(err, &s) && s.err == nil) {
		// One line, whatever is in it.
		fmt.Fprintln(a.err, "lockkeeper:", strings.Join(strings.Fields(err.Error()), " "))
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
                                    user's own below the one for temporary files)
  redlock://h1:6379,h2:6380,h3      a quorum of Redis nodes; redlocks:// with TLS
  memory:                           this process alone, to try things out

or by REDIS_NODES, host:port or redis:// URLs separated by commas, with the user in
REDIS_USER and the password in REDISCLI_AUTH. Give passwords in the environment:
other users of the machine can see the arguments of a process.

` + exitHelp + `
The commands run and health have more: see their help.`,
		Example: `  lockkeeper run nightly-report --once -- ./report.sh
  LOCKKEEPER_URL=redlock://10.0.0.1,10.0.1.1,10.0.2.1 lockkeeper run keeper -- node keeper.js
  lockkeeper health
  lockkeeper list`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.url, "url", "", "`URL` of the store (environment: LOCKKEEPER_URL)")
	flags.StringVar(&a.nodes, "nodes", "", "Redis `nodes`, host:port,host:port (environment: REDIS_NODES)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	root.AddCommand(a.runCommand(), a.healthCommand(), a.listCommand(), a.showCommand(), a.releaseCommand(), a.clearCommand(), a.watchCommand(), a.benchCommand(), a.versionCommand())
	wrapArgs(root)
	for _, c := range root.Commands() {
		wrapArgs(c)
	}
	return root
}

// wrapArgs makes a wrong number of arguments a usage error.
func wrapArgs(c *cobra.Command) {
	args := c.Args
	if args == nil {
		return
	}
	c.Args = func(cmd *cobra.Command, list []string) error {
		if err := args(cmd, list); err != nil {
			return usage("%w", err)
		}
		return nil
	}
}

// interruptible is ctx until SIGINT, SIGTERM or SIGHUP comes; its cause says which.
// A second one ends the program at once.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
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
