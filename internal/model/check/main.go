// Check searches the models of the algorithm and prints what holds, which rules are
// needed, and what crosses the limits: see package model.
//
//	go run ./internal/model/check                      # the table, some walks; status 1 if a row is not as wanted
//	go run ./internal/model/check -big                 # with what takes minutes and gigabytes
//	go run ./internal/model/check -only Phase2 -trace  # one counterexample, step by step
//	go run ./internal/model/check -walks 100000 -seed 7 # random walks: 5 nodes, 4 attempts
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/model"
)

func main() {
	only := flag.String("only", "", "cases with this in their `name`; by default all")
	trace := flag.Bool("trace", false, "print counterexamples")
	walks := flag.Int("walks", 0, "take so many random walks instead")
	big := flag.Bool("big", false, "with cases that take minutes and gigabytes")
	seed := flag.Uint64("seed", 1, "of the walks")
	flag.Parse()
	if flag.NArg() > 0 || *walks < 0 {
		fmt.Fprintln(os.Stderr, "check: want flags only, and -walks of 0 or more; see -help")
		os.Exit(2)
	}
	ok := false
	if *walks > 0 {
		ok = walk(*seed, *walks)
	} else {
		ok = search(*only, *trace, *big)
		if *only == "" {
			ok = walk(*seed, briefly) && ok
		}
	}
	if !ok {
		os.Exit(1)
	}
}

// briefly is how many walks come with a whole search.
const briefly = 3000

// atOnce is how many cases are searched at a time: most of them need some gigabyte.
const atOnce = 2

func search(only string, trace, big bool) bool {
	const row = "%-10s %-73s %9v %8v  %s\n"
	var cases []model.Case
	for _, c := range model.Cases() {
		if strings.Contains(c.Model+"/"+c.Name, only) {
			cases = append(cases, c)
		}
	}
	if len(cases) == 0 {
		fmt.Fprintf(os.Stderr, "check: no case has %q in its name\n", only)
		return false
	}
	type outcome struct {
		model.Result
		took time.Duration
	}
	outcomes := make([]chan outcome, len(cases))
	free := make(chan struct{}, atOnce)
	for i := range cases {
		outcomes[i] = make(chan outcome, 1)
	}
	go func() {
		for i, c := range cases {
			if c.Big && !big {
				continue
			}
			free <- struct{}{}
			go func() {
				defer func() { <-free }()
				begin := time.Now()
				r := c.Search()
				outcomes[i] <- outcome{r, time.Since(begin)}
			}()
		}
	}()

	ok := true
	fmt.Printf(row, "MODEL", "CASE", "STATES", "TIME", "FOUND")
	for i, c := range cases {
		if c.Big && !big {
			fmt.Printf(row, c.Model, c.Name, "", "", "left out: -big takes minutes and gigabytes")
			continue
		}
		r := <-outcomes[i]
		found := "nothing wrong"
		if r.Wrong != "" {
			found = fmt.Sprintf("%d steps: %s", len(r.Trace), r.Wrong)
		}
		if wrong := c.Check(r.Result); wrong != "" {
			ok = false
			found += "; NOT AS IT MUST BE: " + wrong
		}
		fmt.Printf(row, c.Model, c.Name, r.States, r.took.Round(10*time.Millisecond), found)
		if trace && r.Wrong != "" {
			fmt.Printf("     %s: %s\n", c.Wants, c.Says)
			r.Print(os.Stdout)
		}
	}
	return ok
}

func walk(seed uint64, walks int) bool {
	tokens, exclusion := model.Walks(rand.New(rand.NewPCG(seed, 0)), walks)
	for i, r := range []model.Result{tokens, exclusion} {
		fmt.Printf("%s: 5 nodes, 4 attempts: %d walks, %d steps\n", []string{"tokens", "exclusion"}[i], walks, r.States)
		if r.Wrong != "" {
			r.Print(os.Stdout)
		}
	}
	return tokens.Wrong == "" && exclusion.Wrong == ""
}
