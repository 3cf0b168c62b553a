package lock

// Lines is how many lines w has now.
func (w *Waiters) Lines() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.lines)
}
