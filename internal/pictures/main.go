// Pictures draws the pictures of the pages, and records the one of them that is a recording.
//
//	go run ./internal/pictures           write the pictures
//	go run ./internal/pictures -record   first record anew, on Linux: two terminals, and a kill -9
//
// The pictures stand beside this file. A test fails if they are not what this program draws.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
)

// takeover is the recording's file; its picture has the same name.
const takeover = "takeover.txt"

func main() {
	again := flag.Bool("record", false, "record two keepers and a kill -9 before drawing")
	flag.Parse()
	if err := run(*again); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

func run(again bool) error {
	_, here, _, _ := runtime.Caller(0)
	dir := filepath.Dir(here)
	if again {
		events, err := record()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, takeover), []byte(formatEvents(events)), 0o644); err != nil {
			return err
		}
	}
	pictures, err := draw(dir)
	if err != nil {
		return err
	}
	for name, text := range pictures {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// draw draws all pictures, by the name of their file.
func draw(dir string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, takeover))
	if err != nil {
		return nil, err
	}
	events, err := parseEvents(string(text))
	if err != nil {
		return nil, err
	}
	if len(events) == 0 {
		return nil, fmt.Errorf("%s has no events", takeover)
	}
	return map[string]string{
		"takeover.svg": recording(events),
		"term.svg":     term(),
		"quorum.svg":   quorum(),
		"handoff.svg":  handoff(),
		"fenced.svg":   fenced(),
	}, nil
}

// degrees is the direction of a vector, clockwise from the right, as SVG turns.
func degrees(x, y int) float64 { return math.Atan2(float64(y), float64(x)) * 180 / math.Pi }
