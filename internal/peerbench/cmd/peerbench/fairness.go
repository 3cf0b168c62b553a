package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// fairness: processes contend for one key, all with equal hold times.
func fairness(ctx context.Context, b *bench) error {
	const hold = 5 * time.Millisecond
	n := b.scale(16, 4)
	workers, err := b.startWorkers(n)
	if err != nil {
		return err
	}
	b.printf("\n### Fairness: %d processes contend for one key, each holds it for %v\n\n", n, hold)
	b.printf("Jain's index over their acquisitions is 1 when all have as many, and 1/%d when one has all. A waiter is overtaken by each one "+
		"that began to wait later and got the key earlier, during one wait; waits that had not ended count too.\n\n", n)
	b.printf("| | seconds | acquisitions | Jain's index | least and most of a process | most overtaken | the same after the first second | p99 | longest wait | hand-off p50 |\n|---|---|---|---|---|---|---|---|---|---|\n")
	var names []string
	var ours fair
	for _, name := range []string{us, pushPeer, etcdPeer, syncPeer, bsmPeer} {
		there, done, err := b.stage(ctx, []string{name}, workers, waitTTL, false)
		if err != nil {
			done()
			return err
		}
		if len(there) == 0 {
			continue
		}
		length := time.Duration(b.scale(12, 1)) * time.Second
		if name == us {
			length = time.Duration(b.scale(60, 5)) * time.Second
		}
		t, err := b.contend(ctx, contention{library: name, workers: workers, callers: 1, hold: hold, length: length})
		done()
		if err != nil {
			return err
		}
		f := t.fair(n)
		if name == us {
			ours = f
		}
		names = append(names, name)
		times, overlaps := t.handoffs()
		b.printf("| %s | %.0f | %d | %.3f | %d, %d | %d | %d | %d | %s | %s |\n", libraries[name].title, length.Seconds(), len(t.turns), f.jain,
			f.least, f.most, f.overtaken, f.overtakenLater, f.overtaken99, long(f.longest), long(quantile(times, 0.5)))
		if overlaps > 0 {
			b.printf("\n%s: TWO HOLDERS at once, %d times.\n", libraries[name].title, overlaps)
		}
	}
	if ours.most > 0 {
		b.goals([]goal{{"Jain's index at least 0.9", fmt.Sprintf("%.3f", ours.jain), ours.jain >= 0.9}})
	}
	b.settings(names)
	return nil
}

// fair is how a lock was shared out.
type fair struct {
	jain                   float64
	least, most            int
	overtaken, overtaken99 int
	overtakenLater         int // of those who began after the first second, when all have come to wait
	longest                time.Duration
}

func (t tally) fair(processes int) (f fair) {
	counts := make([]int, processes)
	for _, turn := range t.turns {
		counts[turn.who]++
	}
	var sum, squares float64
	f.least = counts[0]
	for _, c := range counts {
		sum += float64(c)
		squares += float64(c) * float64(c)
		f.least, f.most = min(f.least, c), max(f.most, c)
	}
	if squares > 0 {
		f.jain = sum * sum / (float64(processes) * squares)
	}
	var times []time.Duration // numbers: quantile takes durations
	look := func(w turn, got int64) {
		n := 0
		// Sorted by Got: who overtook w got the key during its wait.
		first, _ := slices.BinarySearchFunc(t.turns, w.Begun, func(o turn, begun int64) int { return cmp.Compare(o.Got, begun) })
		for _, other := range t.turns[first:] {
			if other.Got >= got {
				break
			}
			if other.who != w.who && other.Begun > w.Begun {
				n++
			}
		}
		times = append(times, time.Duration(n))
		f.longest = max(f.longest, time.Duration(got-w.Begun))
		f.overtaken = max(f.overtaken, n)
		if w.Begun > t.turns[0].Got+int64(time.Second) {
			f.overtakenLater = max(f.overtakenLater, n)
		}
	}
	for _, turn := range t.turns {
		look(turn, turn.Got)
	}
	for _, turn := range t.waiting {
		look(turn, t.end)
	}
	f.overtaken99 = int(quantile(times, 0.99))
	return f
}
