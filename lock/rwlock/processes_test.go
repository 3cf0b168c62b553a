//go:build unix

package rwlock_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// processEnv makes this program one of the processes of a test.
const processEnv = "RWLOCK_PROCESS"

func TestMain(m *testing.M) {
	if job := os.Getenv(processEnv); job != "" {
		if err := process(job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// job is what one process does: rounds terms, or with 0 as many as it can until its
// standard input ends.
type job struct {
	Who    string
	Write  bool
	Rounds int
	Hold   time.Duration
	Nodes  []string
}

// term is one line of its output. All processes share the machine's clock.
type term struct{ Token, Asked, Begin, Until int64 }

func process(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() { // also when the test is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	store, err := redlock.Dial(ctx, j.Nodes, &redlock.Options{Owner: j.Who})
	if err != nil {
		return err
	}
	defer store.Close()
	rw, err := rwlock.New(store, rwlock.MaxReaders)
	if err != nil {
		return err
	}
	l := rw.Readers()
	if j.Write {
		l = rw.Writer()
	}
	for n := 0; j.Rounds == 0 || n < j.Rounds; n++ {
		asked := time.Now()
		lease, err := lock.Acquire(ctx, l, "k", 30*time.Second, nil)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		begin := time.Now()
		time.Sleep(j.Hold)
		until := time.Now()
		if err := lease.Release(context.Background()); err != nil {
			return err
		}
		line, _ := json.Marshal(term{int64(lease.Token()), asked.UnixNano(), begin.UnixNano(), until.UnixNano()})
		fmt.Println(string(line))
	}
	return nil
}

// run runs jobs side by side. Those without rounds end when all others have ended.
func run(t *testing.T, jobs []job) (holds []hold) {
	t.Helper()
	var mu sync.Mutex
	var rounds, all sync.WaitGroup
	var streams []io.Closer
	for _, j := range jobs {
		text, err := json.Marshal(j)
		require.NoError(t, err)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), processEnv+"="+string(text))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe() // it ends with this test, whatever becomes of it
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		of := &rounds
		if j.Rounds == 0 {
			of = &all
			streams = append(streams, in)
		}
		of.Go(func() {
			for lines := bufio.NewScanner(out); lines.Scan(); {
				var term term
				if err := json.Unmarshal(lines.Bytes(), &term); err != nil {
					t.Errorf("%s: %v: %s", j.Who, err, lines.Text())
				}
				mu.Lock()
				holds = append(holds, hold{j.Who, j.Write, uint64(term.Token), time.Unix(0, term.Asked), time.Unix(0, term.Begin), time.Unix(0, term.Until)})
				mu.Unlock()
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("%s: %v", j.Who, err)
			}
		})
	}
	rounds.Wait()
	for _, in := range streams {
		_ = in.Close()
	}
	all.Wait()
	return holds
}

// Sixteen processes on three Redis nodes. A stream of readers never ends by itself, and
// writers have all their terms all the same; and the reverse. With RWLOCK_ROUNDS it is the
// measurement of the package's page: RWLOCK_ROUNDS=50 go test -v -run SixteenProcesses.
func TestSixteenProcessesNeitherStarvesTheOther(t *testing.T) {
	rounds := 5
	if s := os.Getenv("RWLOCK_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		rounds = n
	}
	nodes := redistest.Addrs(redistest.StartN(t, 3, "--appendonly", "yes", "--appendfsync", "always"))
	for i, addr := range nodes {
		nodes[i] = "redis://" + addr
	}
	const held = 20 * time.Millisecond
	for name, writers := range map[string]int{"WritersUnderAStreamOfReaders": 2, "ReadersUnderAStreamOfWriters": 14} {
		t.Run(name, func(t *testing.T) {
			var jobs []job
			for i := range 16 {
				j := job{Who: "process-" + strconv.Itoa(i), Write: i < writers, Hold: held, Nodes: nodes}
				if j.Write == (writers < 8) { // the few
					j.Rounds = rounds
				}
				jobs = append(jobs, j)
			}
			holds := run(t, jobs)
			require.Empty(t, check(slices.Clone(holds), rwlock.MaxReaders))
			for _, write := range []bool{true, false} {
				var waits []time.Duration
				for _, h := range holds {
					if h.write == write {
						waits = append(waits, h.begin.Sub(h.asked))
					}
				}
				slices.Sort(waits)
				require.NotEmpty(t, waits)
				who := "readers"
				if write {
					who = "writers"
				}
				t.Logf("%s: %d terms of %v, waited %v in the middle, %v at the longest", who, len(waits), held,
					waits[len(waits)/2].Round(time.Millisecond), waits[len(waits)-1].Round(time.Millisecond))
			}
		})
	}
}
