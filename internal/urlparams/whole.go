package urlparams

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/tonsurance/lockkeeper/lock"
)

// Whole refuses a URL with what a file of variables may have left on it, a space or a line's
// end: it would name another directory, file or prefix, and with it another store, than the
// same URL elsewhere. It quotes nothing. An empty one is another mistake.
//
// It also refuses what [Expanded] does.
func Whole(raw string) error {
	trimmed := strings.TrimSpace(raw)
	if trimmed == "" || trimmed == raw && !strings.ContainsFunc(raw, unicode.IsControl) {
		if err := Expanded(raw); err != nil {
			return fmt.Errorf("%w: %w", lock.ErrInvalid, err)
		}
		return nil
	}
	return fmt.Errorf("%w: the URL begins or ends with a space, or has a line's end or another control character in it, want it without, or percent-encoded if it is meant", lock.ErrInvalid)
}
