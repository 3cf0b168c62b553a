package main

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/tonsurance/lockkeeper/internal/cli"
)

// literal keeps the columns of tables in a command's help, which would run together: cobra
// reads the help as Markdown for a manual page. It leaves out what stands below the flags.
func literal(c *cobra.Command) {
	if text := c.Annotations[cli.ExitStatus]; text != "" {
		c.Long += "\n\n" + strings.TrimSpace(text)
	}
	blocks := strings.Split(c.Long, "\n\n")
	for i, b := range blocks {
		if strings.HasPrefix(b, " ") || strings.Contains(b, "\n ") {
			blocks[i] = "    " + strings.ReplaceAll(b, "\n", "\n    ")
		}
	}
	c.Long = strings.Join(blocks, "\n\n")
	for _, sub := range c.Commands() {
		literal(sub)
	}
}

// makeDocs writes manual pages and completions from the command line itself.
func (r *release) makeDocs() ([]file, error) {
	pages := filepath.Join(r.work, "man")
	if err := os.MkdirAll(pages, 0o755); err != nil {
		return nil, err
	}
	c := cli.Command()
	c.DisableAutoGenTag = true // it has the day of the build
	literal(c)
	err := doc.GenManTree(c, &doc.GenManHeader{
		Section: "1", Date: &r.when, Source: "lockkeeper " + r.number(), Manual: "lockkeeper",
	}, pages)
	if err != nil {
		return nil, err
	}
	found, err := os.ReadDir(pages) // sorted
	if err != nil {
		return nil, err
	}
	var docs []file
	for _, e := range found {
		data, err := os.ReadFile(filepath.Join(pages, e.Name()))
		if err != nil {
			return nil, err
		}
		docs = append(docs, file{name: "man/" + e.Name(), data: data})
	}
	var bash, zsh, fish, powershell bytes.Buffer
	err = cmp.Or(c.GenBashCompletionV2(&bash, true), c.GenZshCompletion(&zsh), c.GenFishCompletion(&fish, true), c.GenPowerShellCompletionWithDesc(&powershell))
	return append(docs,
		file{name: "completions/lockkeeper.bash", data: bash.Bytes()},
		file{name: "completions/_lockkeeper", data: zsh.Bytes()},
		file{name: "completions/lockkeeper.fish", data: fish.Bytes()},
		file{name: "completions/lockkeeper.ps1", data: powershell.Bytes()},
	), err
}
