package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/programtest"
)

// elections: a leader is asked to stop, and the next one starts. The time is from the
// cancellation to the start of the next one's function; the old one's returns at once.
func elections(ctx context.Context, b *bench) error {
	workers, err := b.startWorkers(2)
	if err != nil {
		return err
	}
	names, done, err := b.stage(ctx, []string{us}, workers, waitTTL, false)
	defer done()
	if err != nil || len(names) == 0 {
		return err
	}
	ours, err := passLeadership(ctx, [2]*worker(workers), b.scale(300, 5))
	if err != nil {
		return err
	}
	theirs, why := clientGo(ctx, b.scale(20, 3), time.Duration(b.scale(5000, 500))*time.Millisecond)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b.printf("\n### Graceful leader hand-off: from the cancellation to the start of the next leader's function\n\n")
	b.printf("| | p50 | fastest | p99 | slowest | hand-offs |\n|---|---|---|---|---|---|\n")
	row := func(title string, d []time.Duration) {
		b.printf("| %s | %s | %s | %s | %s | %d |\n", title, long(quantile(d, 0.5)), long(slices.Min(d)), long(quantile(d, 0.99)), long(slices.Max(d)), len(d))
	}
	row("lockkeeper, leader.Run, 3 nodes", ours)
	if why == "" {
		row("client-go leaderelection", theirs)
		faster := ratio(quantile(theirs, 0.5), quantile(ours, 0.5))
		b.goals([]goal{{"at least 500 times quicker than client-go's defaults", fmt.Sprintf("%.0f times", faster), faster >= 500}})
	} else {
		b.printf("\nclient-go is left out: %s.\n", why)
	}
	b.printf("\n- lockkeeper: two processes, no options; the time has the return of the old function in it, and its release.\n")
	b.printf("- client-go: LeaseDuration 15 s, RenewDeadline 10 s, RetryPeriod 2 s, ReleaseOnCancel; a Lease of its fake clientset, " +
		"both candidates in one process: no network and no API server, which would add to it.\n")
	return nil
}

func passLeadership(ctx context.Context, workers [2]*worker, n int) (times []time.Duration, err error) {
	o := order{Do: "lead", Library: us, Key: "leader"}
	if _, err := workers[0].ask(ctx, o); err != nil {
		return nil, err
	}
	leads := 0
	for range n {
		standingBy := workers[1-leads].send(o)
		time.Sleep(2*settled + rand.N(4*time.Millisecond))
		old, err := workers[leads].ask(ctx, order{Do: "resign", Library: us, Key: o.Key})
		if err != nil {
			return nil, err
		}
		next, err := await(ctx, o, standingBy)
		if err != nil {
			return nil, err
		}
		if next.At < old.At {
			return nil, fmt.Errorf("two leaders: the second started %v before the first had returned", time.Duration(old.At-next.At))
		}
		if old.Begun-next.Begun >= int64(settled) {
			times = append(times, time.Duration(next.At-old.Begun))
		}
		leads = 1 - leads
	}
	if len(times) == 0 {
		return nil, fmt.Errorf("no hand-off whose candidate had stood by")
	}
	_, err = workers[leads].ask(ctx, order{Do: "resign", Library: us, Key: o.Key})
	return times, err
}

// clientGo runs elections of client-go side by side, in a program of its own, so that
// its size is no burden of this one. why says what is in the way.
func clientGo(ctx context.Context, elections int, settle time.Duration) (times []time.Duration, why string) {
	dir, err := os.MkdirTemp("", "peerbench-")
	if err != nil {
		return nil, err.Error()
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "clientgo")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/tonsurance/lockkeeper/internal/peerbench/cmd/clientgo").CombinedOutput()
	if err != nil {
		return nil, fmt.Sprintf("its program can't be built here: %v: %s", err, strings.TrimSpace(string(out)))
	}
	cmd := exec.CommandContext(ctx, binary, "-elections", strconv.Itoa(elections), "-settle", settle.String())
	programtest.EndWithParent(cmd)
	out, err = cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &times)
	}
	if err == nil && len(times) == 0 {
		err = fmt.Errorf("no hand-offs")
	}
	if err != nil {
		return nil, err.Error()
	}
	return times, ""
}
