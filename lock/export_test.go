package lock

// Queues is how many queues w has now.
func (w *Waiters) Queues() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queues)
}
