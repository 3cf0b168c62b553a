package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// Contend takes and frees many keys with a dozen clients at once, three of each locker that open
// makes. Whatever is no refusal by a holder fails the test.
func Contend(t *testing.T, rounds int, open func() lock.Locker) {
	t.Helper()
	var clients sync.WaitGroup
	for range 4 {
		l := open()
		for range 3 {
			clients.Go(func() {
				for i := range rounds {
					lease, err := l.TryAcquire(t.Context(), fmt.Sprint("k", i), time.Minute)
					if err == nil {
						err = lease.Release(t.Context())
					}
					if err != nil && !errors.Is(err, lock.ErrHeld) {
						t.Error(err)
					}
				}
			})
		}
	}
	clients.Wait()
}
