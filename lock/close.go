package lock

import "io"

// Close ends what l holds open: connections, files, goroutines, of the store below all
// decorators. nil if it holds nothing, and if l is nil. Leases of l that are still held
// are not released: their owners do that first, or they run out with their ttl.
func Close(l Locker) error {
	if c, ok := As[io.Closer](l); ok {
		return c.Close()
	}
	return nil
}
