//go:build linux || darwin || freebsd

package file

import "os"

// openPolling returns a notifier that never notifies: the hub polls.
func openPolling() (*notifier, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &notifier{file: r, other: w}, nil
}

func (n *notifier) close() {
	n.file.Close()
	if n.other != nil {
		n.other.Close()
	}
}
