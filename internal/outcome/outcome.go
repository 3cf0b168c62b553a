// Package outcome is the error of work done under a lease, of what the work said
// and what its release said.
package outcome

import (
	"errors"
	"fmt"

	"github.com/tonsurance/lockkeeper/lock"
)

// Join adds to the work's error what the release said. The work may have returned
// the very same loss, as its context's cause.
func Join(work, release error) error {
	switch {
	case release == nil:
		return work
	case work == nil:
		return release
	case errors.Is(work, release):
		return work
	}
	return fmt.Errorf("%w; %w", work, release)
}

// UnlessLost is err, or nil if it says that the lease was lost: where no work was
// done under it, that is nothing to report.
func UnlessLost(err error) error {
	if errors.Is(err, lock.ErrLost) {
		return nil
	}
	return err
}
