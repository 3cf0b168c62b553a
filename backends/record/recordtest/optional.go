package recordtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
)

func (u *suite) watchNotifiesOfTheLatestState(t *testing.T) {
	w, ok := u.a.(record.Watcher)
	if !ok {
		t.Skip("recordtest: skips for lack of record.Watcher")
	}
	name, r := u.fresh(t, "k")
	other, o := u.fresh(t, "other")
	version := u.put(t, u.b, name, r, "")
	received := make(chan string, 1000)
	ctx, cancel := context.WithCancel(u.ctx(t))
	defer cancel()
	stop, err := w.Watch(ctx, name, func(e *record.Entry) {
		if e != nil {
			received <- e.Version
		} else {
			received <- u.get(t, u.b, name).Version
		}
	})
	if err != nil {
		t.Fatalf("Watch: %v", err)
	}
	cancel() // it has returned
	wait := func(want string) {
		t.Helper()
		timeout := time.After(testTimeout)
		for {
			select {
			case got := <-received:
				if got == want {
					return
				}
			case <-timeout:
				t.Fatalf("no notification of version %q in %v", want, testTimeout)
			}
		}
	}
	u.put(t, u.b, other, o, "")
	for range 5 {
		r.Seq, r.TTL = r.Seq+1, 0 // of a release at least
		version = u.put(t, u.b, name, r, version)
		wait(version)
	}
	stop()
	stop() // may be called again
	for len(received) > 0 {
		<-received
	}
	r.Seq++
	u.put(t, u.b, name, r, version)
	select {
	case v := <-received:
		t.Errorf("a notification of version %q after stop", v)
	case <-time.After(200 * time.Millisecond):
	}
}

func (u *suite) listStaysWithinThePrefix(t *testing.T) {
	l, ok := u.a.(record.Lister)
	if !ok {
		t.Skip("recordtest: skips for lack of record.Lister")
	}
	want := map[string]string{}
	for i := range 30 {
		name, r := u.fresh(t, fmt.Sprintf("list_%%/%d", i))
		want[name] = u.put(t, u.a, name, r, "")
	}
	outside, r := u.fresh(t, "listx")
	u.put(t, u.a, outside, r, "")
	prefix := Name(t, u.Names, u.key+"list_%/")
	for e, err := range l.List(u.ctx(t), prefix) {
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		name := Name(t, u.Names, e.Record.Key)
		if version, ok := want[name]; ok && e.Version != version {
			t.Errorf("List shows version %q of %q, want %q", e.Version, e.Record.Key, version)
		}
		if e.Name != "" && e.Name != name {
			t.Errorf("List shows %q at %q, want %q or nothing", e.Record.Key, e.Name, name)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("List lacks %d of 30 records", len(want))
	}
	for range l.List(u.ctx(t), prefix) {
		break // may be left at any time
	}
}

func (u *suite) deleteGoesByTheVersion(t *testing.T) {
	d, ok := u.a.(record.Deleter)
	if !ok {
		t.Skip("recordtest: skips for lack of record.Deleter")
	}
	name, r := u.fresh(t, "k")
	first := u.put(t, u.b, name, r, "")
	r.Seq++
	second := u.put(t, u.b, name, r, first)
	if err := d.Delete(u.ctx(t), name, first); !errors.Is(err, record.ErrChanged) {
		t.Errorf("Delete of an old version: %v, want an error matching record.ErrChanged", err)
	}
	if e := u.get(t, u.b, name); e.Version != second {
		t.Fatalf("a refused Delete changed the record: %+v", e)
	}
	if err := d.Delete(u.ctx(t), name, second); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if e := u.get(t, u.b, name); e.Version != "" {
		t.Errorf("a deleted record is there: %+v", e)
	}
	if err := d.Delete(u.ctx(t), name, second); !errors.Is(err, record.ErrChanged) {
		t.Errorf("Delete of what is gone: %v, want an error matching record.ErrChanged", err)
	}
}
