package inspect

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

// slotMark stands in the names that lock.Semaphore makes.
const slotMark = ";slot="

// Part is what a name stands for that says of itself that it is a part of a key: a slot, a
// reader's place, a request to resign. People count slots from 1, and write names that no lock
// has: those are free, whatever becomes of the key.
type Part struct {
	Of   string // the key
	What string // "slot 2"
	// Name is that of the lock which the part is: another one where the name that was read is
	// written otherwise, as "crawl" is for "crawl;slot=1". "" where the key has no such part.
	Name  string
	First string // the lock that is the first of the parts of this kind
	Most  int    // and how many a key can have; 0: any number
}

// PartOf reads a name; ok is false where it is that of an ordinary lock.
func PartOf(name string) (p Part, ok bool) {
	if key, token := resignOf(name); token > 0 {
		return Part{Of: key, What: fmt.Sprintf("the request to resign to the term with token %d", token), Name: name}, true
	}
	base, n, numbered := cutSlot(name)
	p = Part{Of: base, What: fmt.Sprintf("slot %d", n), First: base, Most: lock.MaxSlots}
	if key, is := rwlock.ReaderOf(base); is {
		p = Part{Of: key, What: fmt.Sprintf("place %d of the readers", n), First: base, Most: rwlock.MaxReaders}
	} else if !numbered {
		return Part{}, false
	}
	switch {
	case n == 1:
		p.Name = base
	case n > 1 && n <= p.Most:
		p.Name = base + slotMark + strconv.Itoa(n)
	}
	return p, true
}

// cutSlot is lock.SlotOf for whatever number people write, which may be out of range.
func cutSlot(name string) (base string, n int, ok bool) {
	i := strings.LastIndex(name, slotMark)
	if i <= 0 {
		return name, 1, false
	}
	digits := name[i+len(slotMark):]
	n, err := strconv.Atoi(digits)
	if err != nil || strings.Trim(digits, "0123456789") != "" {
		return name, 1, false
	}
	return name[:i], n, true
}

// StandsFor reports that k's name is no part's, and which lock has the name that is meant; ""
// where the key has no such part.
func (k Reading) StandsFor() (name string, ok bool) {
	if k.Part == nil || k.Part.Name == k.Key {
		return "", false
	}
	return k.Part.Name, true
}

// readPart reads the lock that a free name of a part may be taken for: the one that it stands
// for, or else the key.
func (k *Reading) readPart(ctx context.Context, l lock.Locker) {
	meant := k.Part.Of
	if name, other := k.StandsFor(); other && name != "" {
		meant = name
	}
	r, err := Key(ctx, l, meant)
	if err == nil {
		err = r.Unavailable()
	}
	if err != nil {
		k.GroupErr = err
		return
	}
	if _, part := PartOf(meant); !part {
		r.Group(ctx, l)
		k.GroupErr = r.GroupErr
	}
	k.Meant = &r
}

// Taken reports whether somebody has the key, or a part of it.
func (k Reading) Taken() bool { return !k.Free() || len(k.Slots)+len(k.Readers) > 0 }
