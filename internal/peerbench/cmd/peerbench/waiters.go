package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Where waiters are.
const (
	oneProcess = "goroutines of one process"
	processes  = "processes, one waiter each"
)

// point is one library's hand-off among so many waiters.
type point struct {
	library  string
	where    string
	waiters  int
	handoffs int
	p50, p99 time.Duration
	commands float64 // for each hand-off; 0 where there is no Redis
	pings    float64
}

// waiters: how hand-off and its price change with the number of those who wait.
func waiters(ctx context.Context, b *bench) error {
	sizes := []int{1, 2, 5, 10, 20, 50, 100}
	if b.short {
		sizes = []int{1, 3}
	}
	most := sizes[len(sizes)-1]
	workers, err := b.startWorkers(most + 1)
	if err != nil {
		return err
	}
	var points []point
	var names []string
	for _, name := range []string{us, pushPeer, etcdPeer, syncPeer, bsmPeer} {
		for _, where := range []string{oneProcess, processes} {
			there, err := b.crowd(ctx, name, where, sizes, workers, &points)
			if err != nil {
				return err
			}
			if there && where == processes {
				names = append(names, name)
			}
		}
	}
	b.printf("\n### Hand-off by number of waiters\n\n")
	b.printf("One key; each holds it for %v and waits for it again, so that at any time one holds it and the others wait (who polls pauses before he waits again: else he would take back what he freed). Only who had waited at the release counts. p50, p99 in brackets.\n", crowdHold)
	for _, where := range []string{oneProcess, processes} {
		b.pointTable("Waiters are "+where+": from release to the waiter's success", where, names, sizes, points, func(p point) string {
			return fmt.Sprintf("%s [%s]", long(p.p50), long(p.p99))
		})
	}
	var onRedis []string
	for _, name := range names {
		if name != etcdPeer {
			onRedis = append(onRedis, name)
		}
	}
	for _, where := range []string{oneProcess, processes} {
		b.pointTable("Waiters are "+where+": Redis commands for each hand-off, all nodes together; in brackets the PINGs of the client library, not counted in it", where, onRedis, sizes, points, func(p point) string {
			return fmt.Sprintf("%.1f [%.1f]", p.commands, p.pings)
		})
	}
	b.printf("\nCommands are those of INFO commandstats: a script counts, and each command that it runs.\n")
	b.crowdGoals(most, points)
	b.settings(names)
	if b.csv == "" {
		return nil
	}
	return writePoints(b.csv, points)
}

const crowdHold = 2 * time.Millisecond

// crowd measures one library with growing numbers of waiters, and reports whether it is
// there.
func (b *bench) crowd(ctx context.Context, name, where string, sizes []int, workers []*worker, points *[]point) (bool, error) {
	length := time.Duration(b.scale(1500, 300)) * time.Millisecond
	rest := libraries[name].poll
	if rest > 0 {
		length += time.Duration(b.scale(3000, 700)) * time.Millisecond
	}
	open := 0
	for _, n := range sizes {
		f := contention{library: name, workers: workers[:1], callers: n + 1, hold: crowdHold, rest: rest, length: length}
		if where == processes {
			f.workers, f.callers = workers[:n+1], 1
		}
		there, done, err := b.stage(ctx, []string{name}, f.workers[open:], waitTTL, false)
		defer done()
		if err != nil || open < len(f.workers) && len(there) == 0 {
			return false, err
		}
		open = len(f.workers)
		t, err := b.contend(ctx, f)
		if err != nil {
			return false, err
		}
		times, overlaps := t.handoffs()
		if overlaps > 0 {
			b.printf("\n%s, %d waiters: TWO HOLDERS at once, %d times.\n", libraries[name].title, n, overlaps)
		}
		p := point{library: name, where: where, waiters: n, handoffs: len(times), p50: quantile(times, 0.5), p99: quantile(times, 0.99)}
		if len(times) > 0 && name != etcdPeer {
			p.commands, p.pings = total(t.commands)/float64(len(times)), t.pings/float64(len(times))
		}
		*points = append(*points, p)
	}
	return true, nil
}

func find(points []point, library, where string, waiters int) (point, bool) {
	for _, p := range points {
		if p.library == library && p.where == where && p.waiters == waiters && p.handoffs > 0 {
			return p, true
		}
	}
	return point{}, false
}

func (b *bench) pointTable(title, where string, names []string, sizes []int, points []point, cell func(point) string) {
	b.printf("\n%s:\n\n| waiters |", title)
	for _, name := range names {
		b.printf(" %s |", libraries[name].title)
	}
	b.printf("\n|---|%s\n", strings.Repeat("---|", len(names)))
	for _, n := range sizes {
		b.printf("| %d |", n)
		for _, name := range names {
			if p, ok := find(points, name, where, n); ok {
				b.printf(" %s |", cell(p))
			} else {
				b.printf(" no hand-off |")
			}
		}
		b.printf("\n")
	}
}

func (b *bench) crowdGoals(most int, points []point) {
	var goals []goal
	for _, g := range []struct {
		where string
		limit float64
		want  string
	}{
		{oneProcess, 2, "%d waiters in one process: at most twice the commands of one waiter"},
		{processes, float64(most), "%d processes: commands grow less than their number"},
	} {
		one, ok1 := find(points, us, g.where, 1)
		many, ok2 := find(points, us, g.where, most)
		if !ok1 || !ok2 || one.commands == 0 {
			continue
		}
		grown := many.commands / one.commands
		goals = append(goals, goal{fmt.Sprintf(g.want, most), fmt.Sprintf("%.2f times", grown), grown <= g.limit})
	}
	if len(goals) > 0 {
		b.goals(goals)
	}
}

// writePoints keeps the figures for handoffplot, and for those who want to draw them
// otherwise.
func writePoints(path string, points []point) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := csv.NewWriter(f)
	_ = w.Write([]string{"library", "waiters are", "waiters", "hand-offs", "p50 ms", "p99 ms", "commands for each", "PINGs for each"})
	for _, p := range points {
		if p.handoffs == 0 {
			continue
		}
		number := func(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }
		_ = w.Write([]string{libraries[p.library].title, p.where, strconv.Itoa(p.waiters), strconv.Itoa(p.handoffs),
			number(ms(p.p50)), number(ms(p.p99)), number(p.commands), number(p.pings)})
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return f.Close()
}
