//go:build linux || darwin || freebsd

package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"sync"
	"syscall"
)

// A key's file has two slots of one page each. A change overwrites the older
// one, so the newer one stays whole whatever happens meanwhile; and since
// nothing is ever replaced by another file, the lock on the file is the lock on
// its record, and a change needs no space on the disk.
const (
	slotSize   = 4096
	fileSize   = 2 * slotSize
	headerSize = 8 + 1 + 20 + 1 // checksum, sequence number
	version    = 1
)

// record is what a key's file says.
type record struct {
	Version int    `json:"v"`
	Key     string `json:"key"` // verified: the file's name is only its hash
	Token   uint64 `json:"token"`
	// Reserved is durable on the disk before a token up to it is handed out. After
	// a crash of the machine counting goes on above it.
	Reserved uint64 `json:"reserved"`
	Boot     string `json:"boot"` // in which Token was counted and Expiry holds
	Holder   string `json:"holder,omitempty"`
	Expiry   int64  `json:"expiry,omitempty"` // nanoseconds on the machine's clock
	Life     life   `json:"life,omitzero"`    // zero: free
	// Since is when the term began, in nanoseconds on the machine's clock. It is for
	// people alone; records of before do not have it.
	Since int64 `json:"since,omitempty"`
	Kept  bool  `json:"kept,omitempty"` // until Expiry also without Life (lock.ReleaseAfter, Options.UntilExpiry)
	// Line has those who wait, in the order in which they came, and Freed the moment
	// when the first one's turn began. They say who goes first; who holds the key
	// never depends on them. A record that gets too long loses the end of the line.
	Line  []place `json:"line,omitempty"`
	Freed int64   `json:"freed,omitempty"`
	// Tidied is in the floor's file only: when all files were last looked through, in
	// seconds of the wall clock. It decides when that is done again, nothing else.
	Tidied int64 `json:"tidied,omitempty"`

	seq uint64
}

// clear makes r free, and nothing else.
func (r *record) clear() { r.Life, r.Holder, r.Expiry, r.Since, r.Kept = lifeless, "", 0, 0, false }

// highest is the largest token that r may have given.
func (r *record) highest() uint64 { return max(r.Token, r.Reserved) }

// nextBoot is for a record of an earlier boot: nobody waits any more, and what was
// written last may be lost, but not what was reserved.
func (r *record) nextBoot(boot string) {
	r.Boot, r.Token, r.Line = boot, r.highest(), nil
}

// unused reports whether no token was given since the last reservation: so it is in
// each new file, until its first one.
func (r *record) unused() bool { return r.Reserved == r.Token+reserve }

// errDamaged is what a record file is that no Locker has written so.
var errDamaged = errors.New("record is damaged")

var buffers = sync.Pool{New: func() any { return new([fileSize]byte) }}

// readRecord reads the newer slot. Without the file's lock a slot may be seen
// half-written: then, too, the answer is errDamaged.
func readRecord(fd int, boot string) (record, error) {
	buf := buffers.Get().(*[fileSize]byte)
	defer buffers.Put(buf)
	n, err := pread(fd, buf[:], 0)
	if err != nil {
		return record{}, err
	}
	if n != fileSize {
		return record{}, fmt.Errorf("%w: it has %d bytes, want %d", errDamaged, n, fileSize)
	}
	var seqs [2]uint64
	var errs [2]error
	for i := range seqs {
		seqs[i], errs[i] = checkSlot(buf[i*slotSize : (i+1)*slotSize])
	}
	newer := 0
	if errs[0] != nil || errs[1] == nil && seqs[1] > seqs[0] {
		newer = 1
	}
	if errs[newer] != nil {
		return record{}, fmt.Errorf("%w: %w", errDamaged, errs[newer])
	}
	text, _, _ := bytes.Cut(buf[newer*slotSize+headerSize:(newer+1)*slotSize], []byte("\n"))
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	r.seq = seqs[newer]
	if r.Version != version {
		return record{}, fmt.Errorf("record has version %d, want %d", r.Version, version)
	}
	if r.highest() > maxToken {
		return record{}, fmt.Errorf("%w: its token is %d, want at most %d", errDamaged, r.highest(), uint64(maxToken))
	}
	// A slot that a power cut tore is one of an earlier boot, and its hold is
	// over. In this boot a damaged slot may have been the newer one, and may have
	// named a holder: nobody can say.
	if other := errs[1-newer]; other != nil && r.Boot == boot {
		return record{}, fmt.Errorf("%w: %w", errDamaged, other)
	}
	return r, nil
}

// checkSlot returns a slot's sequence number.
func checkSlot(slot []byte) (uint64, error) {
	sum, err := strconv.ParseUint(string(slot[:8]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(slot[8:], castagnoli) {
		return 0, errors.New("wrong checksum")
	}
	return strconv.ParseUint(string(slot[9:29]), 10, 64)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendSlot adds r as it stands on the disk, padded to a page.
func appendSlot(buf []byte, r *record) ([]byte, error) {
	start := len(buf)
	out := bytes.NewBuffer(fmt.Appendf(buf, "%08x %020d ", 0, r.seq))
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false) // six bytes for one, where people should read it
	if err := enc.Encode(r); err != nil {
		return nil, err
	}
	if n := len(r.Line); n > 0 && out.Len()-start > slotSize {
		r.Line = r.Line[:n-1]
		return appendSlot(buf, r)
	}
	buf = out.Bytes() // ends with a newline
	if n := len(buf) - start; n > slotSize {
		return nil, fmt.Errorf("record takes %d bytes, more than %d", n, slotSize)
	}
	for len(buf)-start < slotSize {
		buf = append(buf, ' ')
	}
	slot := buf[start:]
	copy(slot, fmt.Sprintf("%08x", crc32.Checksum(slot[8:], castagnoli)))
	return buf, nil
}

// writeRecord makes r the file's newest record. The file's lock is held, and r
// was made from what readRecord gave under it.
func writeRecord(fd int, r *record) error {
	r.seq++
	buf := buffers.Get().(*[fileSize]byte)
	defer buffers.Put(buf)
	slot, err := appendSlot(buf[:0], r)
	if err != nil {
		return err
	}
	return pwrite(fd, slot, int64(r.seq%2)*slotSize)
}

// maxToken leaves room to count on: a token of 0 must never follow.
const maxToken = 1 << 63

// reserved is how many tokens one write to the disk itself pays for.
const reserve = 1024

// reserveTokens makes tokens above r.Token durable. Both slots get it, so that
// whichever of them a power cut leaves says so.
func reserveTokens(fd int, r *record) error {
	r.Reserved = r.Token + reserve
	for range 2 {
		if err := writeRecord(fd, r); err != nil {
			return err
		}
	}
	return fsync(fd)
}

func pread(fd int, buf []byte, off int64) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := syscall.Pread(fd, buf[n:], off+int64(n))
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		}
		n += m
	}
	return n, nil
}

func pwrite(fd int, buf []byte, off int64) error {
	for len(buf) > 0 {
		n, err := syscall.Pwrite(fd, buf, off)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		buf, off = buf[n:], off+int64(n)
	}
	return nil
}

// fsync returns once fd is on the disk itself.
func fsync(fd int) error {
	for {
		if err := flush(fd); err != syscall.EINTR {
			return err
		}
	}
}
