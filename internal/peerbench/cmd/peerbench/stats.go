package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// calls is how often each command was run on a node, by INFO commandstats. What a
// script runs counts as well as the script.
type calls map[string]float64

// commands asks every node. It is itself an INFO on each.
func (b *bench) commands(ctx context.Context) ([]calls, error) {
	nodes := make([]calls, len(b.observers))
	for i, c := range b.observers {
		text, err := c.Do(ctx, c.B().Info().Section("commandstats").Build()).ToString()
		if err != nil {
			return nil, err
		}
		nodes[i] = calls{}
		for line := range strings.Lines(text) {
			line, ok := strings.CutPrefix(line, "cmdstat_")
			if !ok {
				continue
			}
			name, rest, _ := strings.Cut(line, ":calls=")
			number, _, _ := strings.Cut(rest, ",")
			n, err := strconv.ParseFloat(number, 64)
			if err != nil {
				return nil, fmt.Errorf("INFO commandstats: %q: %w", line, err)
			}
			nodes[i][name] = n
		}
	}
	return nodes, nil
}

// since is what was run from one answer of commands to a later one, without the
// question itself and without PING, which client libraries send to see whether a
// connection lives.
func since(before, after []calls) (other []calls, pings float64) {
	for i := range after {
		d := calls{}
		for name, n := range after[i] {
			n -= before[i][name]
			switch {
			case name == "ping":
				pings += n
				continue
			case name == "info":
				n--
			}
			if n != 0 {
				d[name] = n
			}
		}
		other = append(other, d)
	}
	return other, pings
}

func total(nodes []calls) (sum float64) {
	for _, c := range nodes {
		for _, n := range c {
			sum += n
		}
	}
	return sum
}

// list names the commands: "evalsha 7, get 7".
func (c calls) list() string {
	if len(c) == 0 {
		return "none"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%s %.4g", strings.ReplaceAll(name, "|", " "), c[name]))
	}
	return strings.Join(parts, ", ")
}
