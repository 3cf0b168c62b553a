// Command simulate builds the simulation so that a seed replays exactly, and runs it
// (the first build compiles Go's runtime, too, which takes a minute):
//
//	go run ./internal/simulation/simulate -hours 10000
//	go run ./internal/simulation/simulate -seed 42 -runs 1 -each
//
// Its arguments are the simulation's flags.
package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tonsurance/lockkeeper/internal/overlay"
)

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, args []string) error {
	root, err := overlay.Root()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "simulate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	path, err := overlay.Write(root, dir, append(overlay.Ordered(strings.TrimSpace(string(goroot))), overlay.Seeded...))
	if err != nil {
		return err
	}
	binary := filepath.Join(dir, "simulation.test")
	build := exec.Command("go", "test", "-c", "-overlay", path, "-o", binary, "./internal/simulation")
	build.Dir, build.Stdout, build.Stderr = root, out, os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	sim := exec.Command(binary, append([]string{"-test.run=UnderRandomFaults", "-test.timeout=0"}, args...)...)
	sim.Dir, sim.Stdout, sim.Stderr = root, out, os.Stderr
	sim.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOGC=off", "GOMEMLIMIT=1GiB") // what else can change the order of goroutines
	return sim.Run()
}
