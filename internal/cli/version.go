package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// commit is set by the linker in the binaries of a release, which are built from published
// modules, of which the go command knows no commit; +modified follows it in a trial.
var commit string

// versionReport is what --output json prints.
type versionReport struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source, where the go command knew it
	Modified bool   `json:"modified,omitempty"` // the source was not as committed
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit, the Go version and the platform",
		Long: `Version prints the version, the commit where it is known, the version of Go that
built the program, and the platform. The commit is followed by +modified if the
program was built from a checkout with changes.`,
		Example: `  lockkeeper version
  lockkeeper version --output json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			v := version()
			if a.output == "json" {
				return a.printJSON(v)
			}
			_, err := fmt.Fprintln(a.out, versionText())
			return err
		},
	}
	a.outputFlag(c)
	return c
}

// versionText is what version prints, and --version.
func versionText() string {
	v := version()
	words := []string{"lockkeeper", v.Version}
	if v.Revision != "" {
		revision := v.Revision[:min(len(v.Revision), shownOfCommit)]
		if v.Modified {
			revision += modified
		}
		words = append(words, revision)
	}
	return strings.Join(append(words, v.Go, v.Platform), " ")
}

// shownOfCommit is how much of a commit's name is shown, as the go command does in its
// pseudo-versions.
const shownOfCommit = 12

// modified follows the commit of a checkout with changes.
const modified = "+modified"

// version is what the go command recorded in the binary, and the linker.
func version() versionReport {
	v := versionReport{Version: "(unknown)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	v.Revision, v.Modified = strings.CutSuffix(commit, modified)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
