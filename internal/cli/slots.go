package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// slotPrefix begins the names of a key's further slots: slot 1 is the key itself.
func slotPrefix(key string) string { return key + ";slot=" }

// slotsTimeout bounds the listing of one key's slots, which may have to look through
// all keys of a store.
const slotsTimeout = 5 * time.Second

// withSlots adds what further slots of the key are not free. That they can't be listed
// is part of the answer: the user of a store may not be allowed to.
func (k *look) withSlots(ctx context.Context, l lock.Locker) {
	if _, slot := lock.SlotOf(k.Key); slot > 1 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, slotsTimeout)
	defer cancel()
	found, err := looks(ctx, l, slotPrefix(k.Key))
	k.slotsErr = err
	for _, s := range found {
		if of, slot := lock.SlotOf(s.Key); of == k.Key && slot > 1 {
			k.slots = append(k.slots, s)
		}
	}
	slices.SortFunc(k.slots, bySlot)
}

// bySlot orders by key, and the slots of one by their number.
func bySlot(x, y look) int {
	key, slot := lock.SlotOf(x.Key)
	other, with := lock.SlotOf(y.Key)
	if c := strings.Compare(key, other); c != 0 {
		return c
	}
	return slot - with
}

// free reports whether nobody has the key itself.
func (k look) free() bool { return k.state() == string(redlock.StateFree) }

// heldSlots are the slots that are not free, the key itself as the first.
func (k look) heldSlots() []look {
	if k.free() {
		return k.slots
	}
	return append([]look{k}, k.slots...)
}

// writeSlots tells who has which slot.
func (a *app) writeSlots(b *strings.Builder, k look) error {
	if len(k.slots) == 0 {
		return nil
	}
	all := k.heldSlots()
	fmt.Fprintf(b, "%s is held in slots (run --slots), %d of them now; slot 1 is the key itself\n\n", printable(k.Key), len(all))
	t := table{}
	t.add("SLOT", "KEY", "HOLDER", "TOKEN", "LEFT", "STATE")
	for _, s := range all {
		_, slot := lock.SlotOf(s.Key)
		t.add(strconv.Itoa(slot), s.Key, s.holders(), s.tokenText(), leftText(s.left()), s.state())
	}
	if err := t.print(a, b); err != nil {
		return err
	}
	b.WriteByte('\n')
	return nil
}

// slotTexts are the column SLOT of a list of keys, or nil if none is a further slot.
func slotTexts(all []look) []string {
	several := map[string]bool{}
	for _, k := range all {
		if key, slot := lock.SlotOf(k.Key); slot > 1 {
			several[key] = true
		}
	}
	if len(several) == 0 {
		return nil
	}
	var texts []string
	for _, k := range all {
		text := "-"
		if key, slot := lock.SlotOf(k.Key); several[key] {
			text = strconv.Itoa(slot)
		}
		texts = append(texts, text)
	}
	return texts
}
