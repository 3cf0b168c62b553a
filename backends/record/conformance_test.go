package record_test

import (
	"flag"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// kind is what a store and the way to it can be like.
type kind struct {
	ages, pushes, queue, late, silent, remove, doubled bool
}

func (k kind) String() string {
	s := ""
	for _, f := range []struct {
		on      bool
		yes, no string
	}{
		{k.ages, "ages", "observed"}, {k.pushes, "pushes", "polled"}, {k.queue, "queue", "unordered"}, {k.late, "late", "slow"},
		{k.silent, "silent", "reset"}, {k.remove, "deleted", "freed"}, {k.doubled, "doubled", "once"},
	} {
		if f.on {
			s += f.yes + ","
		} else {
			s += f.no + ","
		}
	}
	return s[:len(s)-1]
}

func (k kind) harness() locktest.Harness {
	o := &record.Options{Names: record.Names{Max: 253}, Poll: 20 * time.Millisecond, HeadStart: -1}
	if k.queue {
		o.HeadStart = 50 * time.Millisecond
	}
	stores := map[record.Store]*recordtest.Memory{}
	return recordtest.Locks{
		Open: func(t *testing.T) func(t *testing.T) record.Store {
			m := recordtest.NewMemory()
			return func(t *testing.T) record.Store {
				s := m.Client(k.ages, k.pushes)
				stores[s] = m
				return s
			}
		},
		Options: o,
		Wrap:    synctest.Test,
		Skew:    func(_ *testing.T, s record.Store, d time.Duration) { stores[s].Skew(d) },
		Late:    k.late, Silent: k.silent, Delete: k.remove,
		Prepare: func(f *recordtest.Faults) {
			f.Double(k.doubled)
		},
		AllowSkips: []string{},
	}.Harness()
}

// every runs all kinds of store: make simulate does. A part of them in which each pair of
// properties meets is enough for every day.
var every = flag.Bool("every", false, "run the conformance suite over every kind of store")

func TestConformance(t *testing.T) {
	for i := range 128 {
		k := kind{i&1 > 0, i&2 > 0, i&4 > 0, i&8 > 0, i&16 > 0, i&32 > 0, i&64 > 0}
		if !*every && i%5 > 0 || testing.Short() && i%9 > 0 {
			continue
		}
		t.Run(k.String(), func(t *testing.T) { locktest.Run(t, k.harness()) })
	}
}
