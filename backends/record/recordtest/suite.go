// Package recordtest is for authors of a [record.Store]. [Run] checks the obligations of a
// store on the real thing; [Locks] then runs package locktest over the engine on it, with
// the faults that a network can have ([Faults]). [Memory] is a store in memory, for tests
// of what is built on records.
//
//	func TestStore(t *testing.T) { recordtest.Run(t, recordtest.Stores{Dial: dial}) }
//	func TestLocks(t *testing.T) { locktest.Run(t, recordtest.Locks{Open: open}.Harness()) }
package recordtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

// Stores says how Run reaches a store.
type Stores struct {
	// Dial returns a client of the store, each time another. What it starts it must end
	// by t.Cleanup. The store may be shared with earlier runs.
	Dial func(t *testing.T) record.Store

	// Names are those that the store's Locker has.
	Names record.Names

	// Remove deletes a record as an operator does, whatever its version. nil means that
	// the store is a record.Deleter, which serves as well; or that what happens after a
	// deletion is not checked, which is printed.
	Remove func(t *testing.T, name string)

	// Ages says that the store reports ages: Run then fails if it never does.
	Ages bool
}

// testTimeout is for what must happen, on a busy machine too.
const testTimeout = 20 * time.Second

// suite is one run.
type suite struct {
	Stores
	a, b record.Store
	key  string // begins each key: of this run alone
}

// Run checks what [record.Store] and its optional interfaces promise.
func Run(t *testing.T, s Stores) {
	u := &suite{Stores: s, a: s.Dial(t), b: s.Dial(t), key: "recordtest-" + rand.Text()[:10] + "/"}
	for _, c := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"WhatIsPutIsRead", u.whatIsPutIsRead},
		{"AnyKeyHasARecord", u.anyKeyHasARecord},
		{"AnOldVersionIsRefused", u.anOldVersionIsRefused},
		{"EachStateHasAVersionOfItsOwn", u.eachStateHasAVersionOfItsOwn},
		{"AVersionDiesWithItsRecord", u.aVersionDiesWithItsRecord},
		{"OneOfManyWritesWins", u.oneOfManyWritesWins},
		{"AReadIsNoOlderThanAWriteThatHasReturned", u.aReadIsNoOlderThanAWriteThatHasReturned},
		{"AnAgeIsNeverTooLarge", u.anAgeIsNeverTooLarge},
		{"CallsEndWithTheirContext", u.callsEndWithTheirContext},
		{"WatchNotifiesOfTheLatestState", u.watchNotifiesOfTheLatestState},
		{"ListStaysWithinThePrefix", u.listStaysWithinThePrefix},
		{"DeleteGoesByTheVersion", u.deleteGoesByTheVersion},
	} {
		t.Run(c.name, c.run)
	}
}

// fresh is a record of a key that no other case has, and its name.
func (u *suite) fresh(t *testing.T, key string) (string, record.Record) {
	t.Helper()
	key = u.key + key + rand.Text()[:6]
	return Name(t, u.Names, key), record.Record{
		Key: key, Token: 1 << 52, Term: rand.Text(), Holder: "host:1 é", TTL: 1500 * time.Millisecond,
		Seq: 1, Beat: 1, Until: time.UnixMilli(time.Now().UnixMilli()),
	}
}

func (u *suite) ctx(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

func (u *suite) get(t *testing.T, s record.Store, name string) record.Entry {
	t.Helper()
	e, err := s.Get(u.ctx(t), name)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return e
}

func (u *suite) put(t *testing.T, s record.Store, name string, r record.Record, version string) string {
	t.Helper()
	v, err := s.Put(u.ctx(t), name, r, version)
	if err != nil || v == "" {
		t.Fatalf("Put over version %q: version %q, error %v", version, v, err)
	}
	return v
}

func (u *suite) refused(t *testing.T, s record.Store, name string, r record.Record, version, why string) {
	t.Helper()
	if v, err := s.Put(u.ctx(t), name, r, version); !errors.Is(err, record.ErrChanged) {
		t.Errorf("Put over %s: version %q, error %v, want one matching record.ErrChanged", why, v, err)
	}
}

func (u *suite) whatIsPutIsRead(t *testing.T) {
	name, r := u.fresh(t, "k")
	if e := u.get(t, u.a, name); e.Version != "" {
		t.Fatalf("nothing has version %q", e.Version)
	}
	version := ""
	for i := range 3 {
		r.Seq, r.Queue = r.Seq+1, append(r.Queue, fmt.Sprint("process", i))
		if i == 2 {
			r.TTL, r.Queue = 0, nil
		}
		version = u.put(t, u.a, name, r, version)
		for _, s := range []record.Store{u.a, u.b} {
			e := u.get(t, s, name)
			got, want := string(e.Record.Encode()), string(r.Encode())
			if e.Version != version || got != want {
				t.Errorf("Get returns version %q of %s, want version %q of %s", e.Version, got, version, want)
			}
		}
	}
}

func (u *suite) anyKeyHasARecord(t *testing.T) {
	long := strings.Repeat("é", (lock.MaxKeyLen-len(u.key)-8)/2)
	keys := []string{"K", "k", ".", "..", "a/b", "a//b", "a\x00b", "%", "'; --", "\"", "k ", " k", "ключ", "*", long + "a", long + "b", "a\nb", "k=", "=k"}
	versions := map[string]string{}
	for _, key := range keys {
		name := Name(t, u.Names, u.key+key)
		if e := u.get(t, u.b, name); e.Version != "" {
			t.Errorf("%.60q shares its record with %.60q", key, e.Record.Key)
			continue
		}
		r := record.Record{Key: u.key + key, Token: 1, Term: rand.Text(), Seq: 1, Beat: 1, TTL: time.Hour}
		versions[key] = u.put(t, u.a, name, r, "")
	}
	for key, version := range versions {
		e := u.get(t, u.b, Name(t, u.Names, u.key+key))
		if e.Record.Key != u.key+key || e.Version != version {
			t.Errorf("the record of %.60q is that of %.60q", key, e.Record.Key)
			continue
		}
		e.Record.Seq++ // it can be replaced, too
		u.put(t, u.b, Name(t, u.Names, u.key+key), e.Record, e.Version)
	}
}

func (u *suite) anOldVersionIsRefused(t *testing.T) {
	name, r := u.fresh(t, "k")
	first := u.put(t, u.a, name, r, "")
	u.refused(t, u.b, name, r, "", "what is there, as if nothing were")
	r.Seq++
	second := u.put(t, u.b, name, r, first)
	r.Seq++
	u.refused(t, u.a, name, r, first, "an old version")
	if e := u.get(t, u.a, name); e.Version != second || e.Record.Seq != 2 {
		t.Errorf("a refused write changed the record: %+v", e)
	}
}

func (u *suite) eachStateHasAVersionOfItsOwn(t *testing.T) {
	name, r := u.fresh(t, "k")
	var versions []string
	for range 5 {
		last := ""
		if n := len(versions); n > 0 {
			last = versions[n-1]
		}
		v := u.put(t, u.a, name, r, last)
		if slices.Contains(versions, v) {
			t.Fatalf("version %q was used twice", v)
		}
		versions = append(versions, v)
		r.Seq++
	}
	for _, v := range versions[:4] {
		u.refused(t, u.b, name, r, v, "an old version")
	}
}

// remove deletes a record, or skips the case.
func (u *suite) remove(t *testing.T, name string) {
	t.Helper()
	d, ok := u.a.(record.Deleter)
	switch {
	case u.Remove != nil:
		u.Remove(t, name)
	case ok:
		if err := d.Delete(u.ctx(t), name, u.get(t, u.a, name).Version); err != nil {
			t.Fatalf("Delete: %v", err)
		}
	default:
		t.Skip("recordtest: skips for lack of Stores.Remove and record.Deleter")
	}
}

func (u *suite) aVersionDiesWithItsRecord(t *testing.T) {
	name, r := u.fresh(t, "k")
	first := u.put(t, u.a, name, r, "")
	u.remove(t, name)
	if e := u.get(t, u.b, name); e.Version != "" {
		t.Fatalf("a deleted record has version %q", e.Version)
	}
	r.Seq++
	u.refused(t, u.a, name, r, first, "the version of a record that is gone")
	if e := u.get(t, u.b, name); e.Version != "" {
		t.Errorf("a write brought a deleted record back: %+v", e)
	}
	u.put(t, u.b, name, r, "")
	u.refused(t, u.a, name, r, first, "the version of a record that is gone, after another has come")
}

func (u *suite) oneOfManyWritesWins(t *testing.T) {
	for round := range 10 {
		name, r := u.fresh(t, "k")
		version := ""
		if round%2 == 1 {
			version = u.put(t, u.a, name, r, "")
		}
		var won atomic.Int64
		var wg sync.WaitGroup
		for i := range 16 {
			r := r
			r.Seq, r.Term = r.Seq+1, rand.Text()
			wg.Go(func() {
				s := []record.Store{u.a, u.b}[i%2]
				for {
					_, err := s.Put(u.ctx(t), name, r, version)
					switch {
					case err == nil:
						won.Add(1)
					case !errors.Is(err, record.ErrChanged):
						// Not known: a store may be busy. Its own write shows.
						if e, err := s.Get(u.ctx(t), name); err != nil || e.Version == version {
							continue
						} else if e.Record.Term == r.Term {
							won.Add(1)
						}
					}
					return
				}
			})
		}
		wg.Wait()
		if n := won.Load(); n != 1 {
			t.Errorf("round %d: %d of 16 writes over version %q were applied, want 1", round, n, version)
		}
	}
}

func (u *suite) aReadIsNoOlderThanAWriteThatHasReturned(t *testing.T) {
	name, r := u.fresh(t, "k")
	version := ""
	for range 50 {
		r.Seq++
		version = u.put(t, u.a, name, r, version)
		if e := u.get(t, u.b, name); e.Version != version {
			t.Fatalf("after a Put returned version %q, another client's Get returns %q", version, e.Version)
		}
	}
}

func (u *suite) anAgeIsNeverTooLarge(t *testing.T) {
	name, r := u.fresh(t, "k")
	version, reported := "", false
	for range 3 {
		r.Seq++
		began := time.Now()
		version = u.put(t, u.a, name, r, version)
		for time.Since(began) < 1500*time.Millisecond {
			e := u.get(t, u.b, name)
			if since := sinceByAnyClock(began); e.Age > since || e.Age < 0 {
				t.Fatalf("Age is %v at most %v after its Put began", e.Age, since)
			}
			reported = reported || e.Age > 0
			time.Sleep(50 * time.Millisecond)
		}
	}
	if u.Ages && !reported {
		t.Error("the store reports no age, 1.5s after a Put")
	}
}

// sinceByAnyClock is the longest that began can be ago by a clock which keeps to the
// engine's terms: this process's and the store's may each be off by 1 %. A store on this
// machine may go by its wall clock, and one that is set, or made to catch up, ages the
// record; that is for the store's page to say, and no mistake of its code.
func sinceByAnyClock(began time.Time) time.Duration {
	now := time.Now()
	longest := max(now.Sub(began), now.Round(0).Sub(began.Round(0)))
	return longest + longest/50
}

func (u *suite) callsEndWithTheirContext(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	name, r := u.fresh(t, "k")
	if _, err := u.a.Get(ended, name); err == nil {
		t.Error("Get with an ended ctx returns nil")
	}
	if _, err := u.a.Put(ended, name, r, ""); err == nil || errors.Is(err, record.ErrChanged) {
		t.Errorf("Put with an ended ctx returns %v", err)
	}
}
