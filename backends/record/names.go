package record

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/tonsurance/lockkeeper/lock"
)

// Names makes names that a store can have out of keys. No two keys share a name, and the
// names of keys with a common prefix have one, so that they can be listed. The zero value
// is usable.
type Names struct {
	// Prefix begins each name, as it is.
	Prefix string

	// Max is how many bytes a name can have; one that would be longer ends in a hash
	// of its key. 0 means no bound, else at least 64 more than Prefix has.
	Max int

	// Safe reports which ASCII bytes stand for themselves; all others are escaped.
	// Defaults to letters, digits and "-_.", but for a dot at the beginning of a key.
	Safe func(c byte) bool

	// Escape begins an escape, and two hexadecimal digits follow. It must be a character
	// that the store can have. Defaults to '='.
	Escape byte
}

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

const hashed = 2 + 52 // bytes of two escape characters and a hash

func (n Names) withDefaults() (Names, error) {
	if n.Max != 0 && n.Max < len(n.Prefix)+hashed+10 {
		return n, fmt.Errorf("%w: Names.Max is %d, want 0 or at least %d, which is %d more than Prefix has", lock.ErrInvalid, n.Max, len(n.Prefix)+hashed+10, hashed+10)
	}
	if n.Safe == nil {
		n.Safe = func(c byte) bool {
			return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
		}
	}
	if n.Escape == 0 {
		n.Escape = '='
	}
	return n, nil
}

// name is the one of a key.
func (n Names) name(key string) string {
	if s, whole := n.escape(key, n.Max); whole {
		return s
	}
	s, _ := n.escape(key, n.Max-hashed)
	sum := sha256.Sum256([]byte(key))
	return s + n.reserved() + base32Lower.EncodeToString(sum[:])
}

// start is what the names of all keys with this prefix begin with.
func (n Names) start(prefix string) string {
	most := 0
	if n.Max > 0 {
		most = n.Max - hashed
	}
	s, _ := n.escape(prefix, most)
	return s
}

// reserved is what no escaped key has in it.
func (n Names) reserved() string { return string([]byte{n.Escape, n.Escape}) }

// internal is the name of a record that is no key's.
func (n Names) internal(what string) string { return n.Prefix + n.reserved() + what }

// escape is as much of key's name as fits into most bytes, never half an escape. 0: all.
func (n Names) escape(key string, most int) (s string, whole bool) {
	const hex = "0123456789abcdef"
	var b strings.Builder
	b.WriteString(n.Prefix)
	for i := range len(key) {
		c := key[i]
		plain := c < 0x80 && n.Safe(c) && c != n.Escape && !(c == '.' && i == 0)
		width := 3
		if plain {
			width = 1
		}
		if most > 0 && b.Len()+width > most {
			return b.String(), false
		}
		if plain {
			b.WriteByte(c)
		} else {
			b.Write([]byte{n.Escape, hex[c>>4], hex[c&15]})
		}
	}
	return b.String(), true
}

// Name is the name that a Locker gives to key's record: for operators and tests.
func (n Names) Name(key string) (string, error) {
	if err := lock.Check(key, lock.MinTTL); err != nil {
		return "", err
	}
	n, err := n.withDefaults()
	if err != nil {
		return "", err
	}
	return n.name(key), nil
}
