package serve

import (
	"bytes"
	"sync"
	"time"
)

// frame is a state at a moment, with what pages show of it. It never changes.
type frame struct {
	state
	at   time.Time
	over chan struct{} // closed when there is a later one

	mu    sync.Mutex // guards parts
	parts map[partView]*part
}

// partView names a part of a page and what it shows: what a rendering depends on.
type partView struct {
	name string
	view view
}

// part is rendered once for all pages that show it.
type part struct {
	once sync.Once
	html []byte
	err  error
}

func newFrame(s state, at time.Time) *frame {
	return &frame{state: s, at: at, over: make(chan struct{}), parts: map[partView]*part{}}
}

// mostParts bounds what a frame keeps: each request may ask for another view. Beyond it
// a part is rendered for its own page.
const mostParts = 256

// render is the HTML of a part.
func (f *frame) render(name string, v view) ([]byte, error) {
	key := partView{name, v.of(name)}
	f.mu.Lock()
	p := f.parts[key]
	if p == nil {
		p = &part{}
		if len(f.parts) < mostParts {
			f.parts[key] = p
		}
	}
	f.mu.Unlock()
	p.once.Do(func() {
		var b bytes.Buffer
		p.err = pages.ExecuteTemplate(&b, name+".html", f.model(name, key.view))
		p.html = b.Bytes()
	})
	return p.html, p.err
}
