package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/inspect"
)

// completionTimeout bounds what somebody waits for who has pressed Tab. (Tests have more.)
var completionTimeout = 700 * time.Millisecond

// complete makes shells complete the keys that are held, and nothing for the commands
// that take no file name.
func (a *app) complete(root *cobra.Command) {
	root.InitDefaultCompletionCmd("completion") // or it would come too late for wrapArgs
	for _, c := range root.Commands() {
		switch c.Name() {
		case "show", "release", "resign", "run", "lead", "list", "watch", "serve", "clear":
			if c.ValidArgsFunction == nil {
				c.ValidArgsFunction = a.completeKey
			}
		case "completion":
			c.Short = "Make your shell complete commands, flags and keys"
			c.Long = `Completion prints a script for your shell, after which Tab completes commands,
flags, and the keys that are held just now in the store that the flags or the
environment name. See lockkeeper completion SHELL --help for where to put it.`
			c.Args = cobra.ArbitraryArgs
			c.RunE = func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return usage("shell is %q, want bash, zsh, fish or powershell", args[0])
				}
				return cmd.Help()
			}
			c.Example = `  source <(lockkeeper completion bash)
  lockkeeper completion zsh > "${fpath[1]}/_lockkeeper"
  lockkeeper completion fish > ~/.config/fish/completions/lockkeeper.fish
  lockkeeper completion powershell | Out-String | Invoke-Expression`
		}
	}
}

// completeKey offers the held keys for a command's first argument. Without an answer in
// time it offers none: a prompt is no place for errors.
func (a *app) completeKey(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		if cmd.Name() == "run" {
			return nil, cobra.ShellCompDirectiveDefault // the command is a file
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
	defer cancel()
	found := make(chan []cobra.Completion, 1)
	go func() { found <- a.heldKeys(ctx, typed) }() // it ends with the program
	select {
	case keys := <-found:
		return keys, cobra.ShellCompDirectiveNoFileComp
	case <-ctx.Done():
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) heldKeys(ctx context.Context, prefix string) []cobra.Completion {
	s, err := a.store()
	if err != nil {
		return nil
	}
	l, err := s.open(ctx)
	if err != nil {
		return nil
	}
	all, _ := inspect.Keys(ctx, l, prefix)
	var keys []cobra.Completion
	for _, info := range inspect.Fold(all, prefix) {
		// A key that a prompt can't show in one line is one to type.
		if info.Holder != "" && printable(info.Key) == info.Key && strings.TrimSpace(info.Key) == info.Key {
			keys = append(keys, cobra.CompletionWithDesc(info.Key, "held by "+printable(info.Holder)))
		}
	}
	return keys
}
