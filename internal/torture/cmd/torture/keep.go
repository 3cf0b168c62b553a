package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tonsurance/lockkeeper/internal/torture/history"
	"github.com/tonsurance/lockkeeper/internal/torture/timeline"
)

// kept is a run in a file.
type kept struct {
	Head    string
	LeftOut string
	Rules   history.Rules
	Found   []history.Violation
	History history.History
}

// keepIn writes all that is known of a run into a folder of its own.
func (r report) keepIn(dir string) (string, error) {
	dir, err := os.MkdirTemp(dir, fmt.Sprintf("torture-seed-%d-", r.Seed))
	if err != nil {
		return dir, err
	}
	return dir, errors.Join(
		create(filepath.Join(dir, "history.json"), func(w io.Writer) error {
			return json.NewEncoder(w).Encode(kept{r.head, r.leftOut, r.rules, r.violations, r.History})
		}),
		create(filepath.Join(dir, "report.md"), func(w io.Writer) error {
			r.print(w)
			return nil
		}),
		r.drawTo(filepath.Join(dir, "timeline.html"), len(r.violations) == 0),
	)
}

func (r report) drawTo(file string, all bool) error {
	return create(file, func(w io.Writer) error { return timeline.Draw(w, &r.History, r.head, r.violations, all) })
}

func create(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// checkAgain reads a kept history, checks it, and draws all of it into a file if that
// has a name.
func checkAgain(out io.Writer, name, draw string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r := report{History: k.History, Figures: k.History.Figures(), violations: k.History.Check(k.Rules), head: k.Head, leftOut: k.LeftOut, rules: k.Rules}
	r.print(out)
	if draw != "" {
		err = r.drawTo(draw, true)
	}
	if len(r.violations) > 0 {
		err = errors.Join(err, errBroken)
	}
	return err
}
