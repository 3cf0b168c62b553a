package inspect

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

// resignMark stands in the names that package resign makes.
const resignMark = ";resign="

// groupTimeout bounds the listing of one key's slots and readers, which may have to look
// through all keys of a store.
const groupTimeout = 5 * time.Second

// Group adds what other keys say of this one: its further slots, its readers and writer, and
// who has asked its holder to resign; and of a name that is a part's, what that is. That they
// can't be listed is part of the answer: the user of a store may not be allowed to.
func (k *Reading) Group(ctx context.Context, l lock.Locker) {
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	if p, ok := PartOf(k.Key); ok {
		k.Part = &p
		if k.Free() {
			k.readPart(ctx, l)
		}
		return
	}
	found, err := Keys(ctx, l, k.Key+";")
	k.GroupErr = err
	for _, other := range Fold(append([]Reading{*k}, found...), k.Key) {
		of, slot := lock.SlotOf(other.Key)
		switch {
		case other.Key == k.Key:
			k.Writer, k.AtGate, k.ResignBy = other.Writer, other.AtGate, other.ResignBy
		case other.ReaderOf == k.Key:
			k.Readers = append(k.Readers, other)
		case of == k.Key && slot > 1:
			k.Slots = append(k.Slots, other)
		}
	}
	slices.SortFunc(k.Slots, BySlot)
	slices.SortFunc(k.Readers, BySlot)
}

// BySlot orders by key, and the slots and the readers of one by their number.
func BySlot(x, y Reading) int {
	key, slot := x.part()
	other, with := y.part()
	return cmp.Or(strings.Compare(key, other), cmp.Compare(slot, with))
}

// part is which part of which key it is: the key itself, a slot, a reader's place.
func (k Reading) part() (key string, n int) {
	key, n = lock.SlotOf(k.Key)
	if k.ReaderOf != "" {
		return k.ReaderOf, lock.MaxSlots + n
	}
	return key, n
}

// Fold makes of all keys under prefix those that an operator knows: the places that a
// writer has are its key's alone, a reader's place names its key, and a request to resign
// is shown with the term that it is for.
//
// Places name their holder's process and no more. So a writer that comes in looks like the
// readers of its own process: where the store knows for how long each is held (Info.Held),
// what was there a second before the gate was taken is a reader's.
func Fold(all []Reading, prefix string) []Reading {
	byKey := map[string]*Reading{}
	for i := range all {
		byKey[all[i].Key] = &all[i]
	}
	mine := map[string]int{} // places of the gate's holder
	dropped := map[string]bool{}
	for i := range all {
		r := &all[i]
		if key, ok := rwlock.ReaderOf(r.Key); ok && strings.HasPrefix(key, prefix) { // else its gate is not among them
			gate := byKey[key]
			switch {
			case gate != nil && gate.Holder != "" && gate.Holder == r.Holder && !r.beganBefore(*gate):
				mine[key]++
				dropped[r.Key] = true
			default:
				r.ReaderOf = key
			}
			if gate != nil {
				gate.AtGate = gate.Holder != ""
			}
			continue
		}
		key, token := resignOf(r.Key)
		if token == 0 || !strings.HasPrefix(key, prefix) {
			continue
		}
		r.ResignOf = key
		if held := byKey[key]; held != nil && held.Holder != "" && held.Token == token {
			held.ResignBy = r.Holder
			dropped[r.Key] = true
		}
	}
	for key, n := range mine {
		if n == rwlock.MaxReaders {
			byKey[key].Writer, byKey[key].AtGate = true, false
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(r Reading) bool { return dropped[r.Key] })
}

// beganBefore reports that k is known to have been held for a second when gate was taken:
// so long may pass between the readings of the two.
func (k Reading) beganBefore(gate Reading) bool {
	return k.Held > 0 && gate.Held > 0 && k.At.Add(-k.Held).Before(gate.At.Add(-gate.Held-time.Second))
}

// resignOf is which term of which key a name is a request of, as package resign makes it;
// token 0: it is none.
func resignOf(name string) (key string, token uint64) {
	i := strings.LastIndex(name, resignMark)
	if i <= 0 {
		return "", 0
	}
	token, err := strconv.ParseUint(name[i+len(resignMark):], 10, 64)
	if err != nil {
		return "", 0
	}
	return name[:i], token
}

// Name is the key as its users know it: of a reader's place, that which it reads.
func (k Reading) Name() string {
	switch {
	case k.ReaderOf != "":
		return k.ReaderOf
	case k.ResignOf != "":
		return k.ResignOf
	}
	return k.Key
}

// What a key is held as, in KeyJSON and events.
const (
	AsWriter  = "writer"         // alone, of a key with readers and writers
	AsReader  = "reader"         // beside other readers
	AsGate    = "gate"           // it comes in, or waits for the readers that are in
	AsRequest = "resign_request" // no hold of the key: a request to a holder that is gone by now
)

// As is what the holder holds the key as; "" of an ordinary lock.
func (k Reading) As() string {
	switch {
	case k.Writer:
		return AsWriter
	case k.AtGate:
		return AsGate
	case k.ReaderOf != "":
		return AsReader
	case k.ResignOf != "":
		return AsRequest
	}
	return ""
}
