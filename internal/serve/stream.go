package serve

import (
	"bytes"
	"fmt"
	"net/http"
	"time"
)

const (
	// maxStreams bounds what pages that are left open can cost.
	maxStreams = 256
	// reconnect is when a browser comes back after the stream has ended.
	reconnect = 2 * time.Second
	// keepAlive is how long a stream may be silent: proxies cut those that are for longer.
	keepAlive = 15 * time.Second
)

// stream sends the parts of a page whenever they change. It sends the latest frame and
// skips those before it, so a slow reader costs nobody anything; one to which a write
// takes longer than writeTimeout is dropped.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	v, err := s.viewOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if s.streams.Add(1) > maxStreams {
		s.streams.Add(-1)
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d pages are open already.", maxStreams), http.StatusServiceUnavailable)
		return
	}
	defer s.streams.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not collect it
	if r.Method == http.MethodHead {
		return
	}
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // a test's writer may not have one
	sent := map[string][]byte{}
	var b bytes.Buffer
	fmt.Fprintf(&b, "retry: %d\n\n", reconnect.Milliseconds())
	last := time.Now()
	for {
		f := s.feed.frame()
		for _, name := range v.parts() {
			html, err := f.render(name, v)
			if err != nil || bytes.Equal(sent[name], html) {
				continue
			}
			sent[name] = html
			message(&b, name, html)
		}
		if b.Len() == 0 && time.Since(last) >= keepAlive {
			b.WriteString(":\n\n")
		}
		if b.Len() > 0 {
			last = time.Now()
			_ = out.SetWriteDeadline(last.Add(writeTimeout))
			if _, err := w.Write(b.Bytes()); err != nil {
				return
			}
			if err := out.Flush(); err != nil {
				return
			}
			b.Reset()
		}
		select {
		case <-f.over:
		case <-r.Context().Done():
			return
		}
	}
}

// message writes one server-sent event.
func message(b *bytes.Buffer, name string, html []byte) {
	fmt.Fprintf(b, "event: %s\n", name)
	for line := range bytes.Lines(html) {
		b.WriteString("data: ")
		b.Write(bytes.TrimRight(line, "\r\n"))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
}
