package programtest

import (
	"bytes"
	"regexp"
	"sync"
	"testing"
	"time"
)

// Limit is for what has to happen, on however busy a machine.
const Limit = 2 * time.Minute

// Output is what was written, and can be read meanwhile. Its zero value is ready. It is safe
// for concurrent use.
type Output struct {
	mu   sync.Mutex // guards all below
	b    bytes.Buffer
	grew chan struct{} // closed by the next Write; nil: nobody waits for it
}

// Write appends p. Its error is always nil.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.grew != nil {
		close(o.grew)
		o.grew = nil
	}
	return o.b.Write(p)
}

// String is all that was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// now is all that was written so far, and what is closed when there is more.
func (o *Output) now() (text string, grew <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.grew == nil {
		o.grew = make(chan struct{})
	}
	return o.b.String(), o.grew
}

// Finds waits until pattern, a regular expression, matches anywhere in what was written, and
// returns the first match with its groups.
func (o *Output) Finds(t testing.TB, pattern string) []string {
	t.Helper()
	return o.finds(t, nil, pattern)
}

func (o *Output) finds(t testing.TB, ended <-chan struct{}, pattern string) (found []string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	o.await(t, ended, "a match of "+pattern, func(text string) bool {
		found = re.FindStringSubmatch(text)
		return found != nil
	})
	return found
}

// await returns when ok says that all which was written has what is wanted. Once ended is
// closed, nothing more is written.
func (o *Output) await(t testing.TB, ended <-chan struct{}, want string, ok func(text string) bool) {
	t.Helper()
	limit := time.NewTimer(Limit)
	defer limit.Stop()
	for last := false; ; {
		text, grew := o.now()
		switch {
		case ok(text):
			return
		case last:
			t.Fatalf("it ended without %s: %s", want, text)
		}
		select {
		case <-grew:
		case <-ended:
			last = true // after one more look: it may have written and ended
		case <-limit.C:
			t.Fatalf("not after %v: %s: %s", Limit, want, text)
		}
	}
}
