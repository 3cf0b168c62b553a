package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/lock"
)

// This file says what went wrong on the command line, and what was meant.

// words are err for people: one line, whatever is in it.
func words(err error) string {
	if _, ok := errors.AsType[*status](err); ok {
		return plain.Text(oneLine(err)) // it says more than a refusal in it
	}
	return plain.Error(err)
}

func oneLine(err error) string { return plain.OneLine(err) }

var within = regexp.MustCompile(` within \d[\w.µ]*\b`)

// bounded is why a campaign that --once or --wait bounds ended without the lock.
func (r *runner) bounded(err error) error {
	var held *lock.HeldError
	switch code := codeOf(err); {
	case r.wait == 0 || code != exitHeld && code != exitUnavailable:
		return err
	case errors.Is(err, lock.ErrRefused) && !errors.Is(err, lock.ErrUnavailable):
		return err // it was not the time that was short
	case code == exitHeld && errors.As(err, &held):
		return &status{code, reworded{fmt.Sprintf("%s; it was not free within the %v of --wait", plain.Held(held), r.wait), err}}
	default:
		// What the last attempt had left of that time says nothing.
		why := within.ReplaceAllString(words(err), "")
		return &status{code, reworded{fmt.Sprintf("%s; it did not within the %v of --wait", why, r.wait), err}}
	}
}

// reworded is err in other words.
type reworded struct {
	text string
	err  error
}

func (r reworded) Error() string { return r.text }

func (r reworded) Unwrap() error { return r.err }

// commandWords is why a command can't be run, with what was probably meant.
func commandWords(command []string, err error) error {
	word := command[0]
	switch {
	case errors.Is(err, exec.ErrNotFound) && len(command) == 1 && strings.ContainsAny(word, " ;|&<>$`(){}*?'\"\n"):
		return fmt.Errorf("%s: command not found; a line for a shell is given as: sh -c %s", printable(word), quoted(word))
	case word == "":
		return errors.New("the command is empty: command not found")
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%s: command not found", printable(word))
	}
	why := err
	if e, ok := errors.AsType[*exec.Error](err); ok {
		why = e.Err
	}
	path := ""
	if e, ok := errors.AsType[*fs.PathError](why); ok {
		why, path = e.Err, e.Path
	}
	switch {
	case errors.Is(why, syscall.ENOEXEC):
		return fmt.Errorf("%s: %w; a script without #! is given as: sh %s", printable(word), why, quoted(word))
	case errors.Is(why, fs.ErrNotExist):
		if by := interpreter(path); by != "" {
			return fmt.Errorf("%s: %w: its first line names %q, which is not there", printable(word), why, by)
		}
	}
	return fmt.Errorf("%s: %w", printable(word), why)
}

// interpreter is what the first line of a script names, "" if that is no script.
func interpreter(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 128)
	n, _ := io.ReadFull(f, head)
	line, _, _ := strings.Cut(string(head[:n]), "\n")
	line, ok := strings.CutPrefix(line, "#!")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(strings.Trim(line, " \t"), " ")
	return name
}

// quoted is s as a shell takes it.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

var (
	badValue    = regexp.MustCompile(`(?s)^invalid argument "(.*)" for "(?:-\w, )?--([\w-]+)" flag: `)
	unknownFlag = regexp.MustCompile(`^unknown flag: --(.*)$`)
	flagNames   = regexp.MustCompile(`(?m)^ +(?:-\w, |    )--([\w-]+)`)
)

// flagError is a mistake in a flag, with what was expected.
func flagError(cmd *cobra.Command, err error) error {
	text := err.Error()
	if bad := badValue.FindStringSubmatch(text); bad != nil {
		want := "another value"
		switch cmd.Flags().Lookup(bad[2]).Value.Type() {
		case "duration":
			want = "a time with its unit, such as 5s, 500ms or 2m"
			if _, err := time.ParseDuration(bad[1] + "s"); err == nil {
				want = "a time with its unit, such as " + bad[1] + "s"
			}
		case "int":
			want = "a whole number"
		case "uint64":
			want = "a whole number, 0 or more"
		case "bool":
			want = "true or false, or nothing after --" + bad[2]
		}
		return usage("--%s is %q, want %s", bad[2], bad[1], want)
	}
	if unknown := unknownFlag.FindStringSubmatch(text); unknown != nil {
		var names []string
		for _, flag := range flagNames.FindAllStringSubmatch(cmd.Flags().FlagUsages(), -1) {
			names = append(names, flag[1])
		}
		if meant := nearest(unknown[1], names); meant != "" {
			return usage("%w; did you mean --%s?", err, meant)
		}
	}
	return usage("%w", err)
}

// unknownCommand names the command that was probably meant.
func unknownCommand(root *cobra.Command, word string) error {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if meant := nearest(word, names); meant != "" {
		return usage("there is no command %q; did you mean %s?", word, meant)
	}
	return usage("there is no command %q", word)
}

// nearest is the name that word is a slip of, "" if there is none.
func nearest(word string, names []string) string {
	best, least := "", len(word)/3+2
	for _, name := range names {
		if d := distance(word, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is how many letters must be put in, taken out, changed or swapped with the
// next one to make b of a.
func distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			changed := last[j]
			if a[i] != b[j] {
				changed++
			}
			row[j+1] = min(changed, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// helpCommand is help, to which an unknown topic is an error.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		Args:  cobra.ArbitraryArgs,
		ValidArgsFunction: func(_ *cobra.Command, args []string, typed string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			for _, c := range root.Commands() {
				if len(args) == 0 && c.IsAvailableCommand() && strings.HasPrefix(c.Name(), typed) {
					names = append(names, c.Name())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			at := root
			for _, word := range args {
				next, _, err := at.Find([]string{word})
				if err != nil || next == at {
					return unknownCommand(at, word)
				}
				at = next
			}
			at.InitDefaultHelpFlag()
			at.SetContext(context.Background())
			return at.Help()
		},
	}
}
