// Command peerbench measures lockkeeper beside other lock libraries, on real Redis
// servers that it starts on loopback, and prints Markdown tables.
//
//	cd internal/peerbench && go run ./cmd/peerbench
//
// The contenders of a table take turns in short blocks of one run, and every ratio
// is taken between neighbours: a machine that is busy with something else slows
// down both. Nothing is asserted; times depend on the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/rueidis"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
)

// bench is what the sections share.
type bench struct {
	t     testing.TB
	addrs []string
	nodes []*redistest.Server
	short bool
	only  *regexp.Regexp // contenders' names, for profiles; nil means all
	out   io.Writer

	observers []rueidis.Client // ask the servers what they used

	workers []*worker // other processes
	at      *places   // nil until something asks for it
	csv     string    // file for the figures of the plot; "" for none
}

// section is one table.
type section struct {
	name string
	run  func(ctx context.Context, b *bench) error
}

var sections = []section{
	{"uncontended", uncontended},
	{"uncontended-far", uncontendedFar},
	{"one-node", oneNode},
	{"parallel", parallel},
	{"hung", hung},
	{"memory", inMemory},
	{"held", held},
	{"handoff", handoff},
	{"handoff-far", handoffFar},
	{"leader", elections},
	{"crash", crash},
	{"waiters", waiters},
	{"fairness", fairness},
	{"idle", idle},
	{"blackout", blackout},
}

func main() {
	if os.Getenv(actorEnv) != "" {
		if err := act(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "peerbench: actor:", err)
			os.Exit(1)
		}
		return
	}
	short := flag.Bool("short", false, "a quick run, too short for numbers to be quoted")
	run := flag.String("run", "", "run only the sections whose names match this regular `expression`")
	only := flag.String("only", "", "measure only contenders whose names match this regular `expression`, for profiles: the ratios mean nothing then")
	csv := flag.String("csv", "", "write the figures of the section waiters to a `file`, for handoffplot")
	profile := flag.String("cpuprofile", "", "write a CPU profile of this process to a `file`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := realMain(ctx, os.Stdout, *short, *run, *only, *profile, *csv); err != nil {
		fmt.Fprintln(os.Stderr, "peerbench:", err)
		stop()
		os.Exit(1)
	}
}

func realMain(ctx context.Context, out io.Writer, short bool, run, only, profile, csv string) error {
	match, err := regexp.Compile(run)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	b := &bench{short: short, out: out, csv: csv}
	if only != "" {
		if b.only, err = regexp.Compile(only); err != nil {
			return fmt.Errorf("-only: %w", err)
		}
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	h := &storetest.Host{}
	return h.Within(func() error {
		b.start(h)
		b.facts()
		any := false
		for _, s := range sections {
			if !match.MatchString(s.name) {
				continue
			}
			any = true
			if err := s.run(ctx, b); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		if !any {
			return fmt.Errorf("-run: no section matches %q", run)
		}
		return nil
	})
}

// start runs three servers.
func (b *bench) start(t testing.TB) {
	if redistest.Binary() == "" {
		t.Fatal(errors.New("redis-server is not in PATH"))
	}
	b.t = t
	b.nodes = redistest.StartN(t, 3)
	b.addrs = redistest.Addrs(b.nodes)
	observers, done, err := dialRueidis(b.addrs, rueidisOption)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	b.observers = observers
}

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(b.out, format, args...) }

// facts says what the numbers depend on.
func (b *bench) facts() {
	server, err := exec.Command(redistest.Binary(), "--version").Output()
	if err != nil {
		server = []byte("unknown")
	}
	var peers []string
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if regexp.MustCompile(`redsync/v4$|/go-redis/v9$|redis/rueidis$|redislock$|/etcd/client/v3$|/client-go$`).MatchString(m.Path) {
				peers = append(peers, m.Path+" "+m.Version)
			}
		}
	}
	b.printf("%d CPUs, %s/%s, %s; servers on loopback, without persistence: %s.\n", runtime.GOMAXPROCS(0),
		runtime.GOOS, runtime.GOARCH, runtime.Version(), strings.Join(strings.Fields(string(server))[:3], " "))
	if len(peers) > 0 {
		b.printf("Peers: %s.\n", strings.Join(peers, ", "))
	}
	if b.short {
		b.printf("A short run: numbers not to be quoted.\n")
	}
	b.printf("Medians, with quartiles in brackets; ratios are taken within each round of turns.\n")
}

// scale is n, or the smaller number in a short run.
func (b *bench) scale(n, short int) int {
	if b.short {
		return short
	}
	return n
}

// chosen leaves out the contenders that -only does not want. The reference stays.
func (b *bench) chosen(contenders []contender) []contender {
	if b.only == nil {
		return contenders
	}
	var kept []contender
	for _, c := range contenders {
		if b.only.MatchString(c.name) {
			kept = append(kept, c)
		}
	}
	return kept
}
