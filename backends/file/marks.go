//go:build linux || darwin || freebsd

package file

import (
	"slices"
	"syscall"
	"time"
)

// mark asks the kernel for notifications about a file.
func (h *hub) mark(k *watched, mark *int32, path string, what uint32) {
	m, err := h.notifier.mark(path, what)
	if err == syscall.ENOENT && what == onClosed {
		return // there is no notification of this life's end: the hold ends by its expiry
	}
	if err != nil {
		k.blind = true
		return
	}
	*mark = m
	h.marks[m] = append(h.marks[m], k)
}

func (h *hub) unmark(k *watched, mark *int32) {
	m := *mark
	if m == 0 {
		return
	}
	*mark = 0
	rest := slices.DeleteFunc(h.marks[m], func(x *watched) bool { return x == k })
	if h.marks[m] = rest; len(rest) == 0 {
		delete(h.marks, m)
		h.notifier.unmark(m)
	}
}

// moved reports whether the file that k watches is not the one of that name any more,
// and watches that. mu is held.
func (h *hub) moved(k *watched, now time.Time) bool {
	if k.file == 0 || len(k.watches) == 0 || now.Before(k.check) {
		return false
	}
	k.check = now.Add(checkEvery)
	mark, err := h.notifier.mark(h.l.keyPath(k.key), onChanged)
	if err == nil && mark == k.file { // the kernel has one mark a file
		return false
	}
	h.unmark(k, &k.file)
	k.notified = 0
	if err == nil {
		k.file, h.marks[mark] = mark, append(h.marks[mark], k)
	}
	return true
}
