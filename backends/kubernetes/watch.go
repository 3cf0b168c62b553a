package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

// Times of a watch. The server sends a bookmark about once a minute.
const (
	watchFor     = 5 * time.Minute        // what is asked for, and up to as much more at random
	watchSilence = 2 * time.Minute        // after which its connection counts as dead
	watchHead    = 10 * time.Second       // for the head of the server's reply
	rewatch      = 200 * time.Millisecond // between two tries, doubled up to maxRewatch
	maxRewatch   = 10 * time.Second
)

// errEnded says that the server has ended a watch as agreed, and nothing was missed.
var errEnded = errors.New("the watch has ended")

// watch follows one Lease.
type watch struct {
	s       *store
	name    string
	changed func(*record.Entry)
	at      string // the resource version up to which everything was received; "": not known
}

// Watch lists the one Lease, to learn the present resource version, and follows what comes
// after it. A watch that ends is made anew where it ended, so that nothing is missed; where
// the server has forgotten what was since then (410), it begins anew.
func (s *store) Watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	w := &watch{s: s, name: name, changed: changed}
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	opening := context.AfterFunc(ctx, cancel)
	body, err := w.open(watching)
	if !opening() { // ctx has ended
		if err == nil {
			_ = body.Close()
		}
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, judge(err)
	}
	var done sync.WaitGroup
	done.Go(func() { w.follow(watching, body) })
	return sync.OnceFunc(func() { cancel(); done.Wait() }), nil
}

// follow reads the watch and makes it anew until ctx ends.
func (w *watch) follow(ctx context.Context, body *stream) {
	for pause := rewatch; ; {
		began := time.Now()
		err := w.read(body)
		if ctx.Err() != nil {
			return
		}
		missed := !errors.Is(err, errEnded)
		if missed {
			w.changed(nil) // while it is away, the engine looks
		}
		// One that ended early, though as agreed, is not begun again without a pause, and the next
		// one after a longer pause: what stands between may end each of them.
		soon := time.Since(began) < time.Second
		if !soon {
			pause = rewatch
		}
		asked := time.Duration(0) // by the server, to come again
		for ; ; pause = min(2*pause, maxRewatch) {
			if (missed || soon) && sleep(ctx, max(asked, pause/2)+rand.N(pause)) != nil {
				return
			}
			if body, err = w.open(ctx); err == nil {
				if soon {
					pause = min(2*pause, maxRewatch)
				}
				break
			}
			if ctx.Err() != nil {
				return
			}
			missed, asked = true, 0
			if r, ok := errors.AsType[*refusal](err); ok {
				asked = min(r.after, time.Minute)
			}
		}
		if missed {
			w.changed(nil)
		}
	}
}

func (w *watch) selector() url.Values {
	return url.Values{"fieldSelector": {"metadata.name=" + objectName(w.name)}}
}

// open begins a watch where the last one has ended, or at the present.
func (w *watch) open(ctx context.Context) (*stream, error) {
	if w.at == "" {
		bounded, cancel := context.WithTimeout(ctx, watchHead)
		l, _, err := w.s.list(bounded, w.selector())
		cancel()
		if err != nil {
			return nil, err
		}
		w.at = l.Metadata.ResourceVersion
	}
	query := w.selector()
	query.Set("watch", "true")
	query.Set("allowWatchBookmarks", "true")
	query.Set("resourceVersion", w.at)
	query.Set("timeoutSeconds", strconv.Itoa(int((watchFor + rand.N(watchFor)).Seconds())))
	// The request lasts as long as its reply does, so its head has a time of its own.
	ctx, cancel := context.WithCancel(ctx)
	head := time.AfterFunc(watchHead, cancel)
	resp, err := w.s.api.ask(ctx, http.MethodGet, w.s.path, query, nil)
	if err == nil && !head.Stop() {
		_ = resp.Body.Close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxReply))
		_ = resp.Body.Close()
		cancel()
		r := refusalOf(resp, text)
		if isExpired(r) {
			w.at = ""
		}
		return nil, r
	}
	return newStream(resp.Body, cancel), nil
}

// event is one of a watch.
type event struct {
	Type   string
	Object json.RawMessage
}

// read passes on what comes until the watch ends, and says how.
func (w *watch) read(body *stream) error {
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var e event
		if err := dec.Decode(&e); err == io.EOF {
			return errEnded
		} else if err != nil {
			return err
		}
		if e.Type == "ERROR" {
			r := &refusal{}
			if json.Unmarshal(e.Object, &r.status) != nil || isExpired(r) {
				w.at = ""
			}
			return r
		}
		l, err := parseEvent(e)
		if err != nil {
			w.at = ""
			return err
		}
		w.at = l.Metadata.ResourceVersion
		w.notify(e.Type, l)
	}
}

// parseEvent reads an event's Lease; that of a bookmark has a version and nothing else.
func parseEvent(e event) (*lease, error) {
	if e.Type != "BOOKMARK" {
		return parseLease(e.Object)
	}
	l := &lease{}
	if err := json.Unmarshal(e.Object, l); err != nil || l.Metadata.ResourceVersion == "" {
		return nil, lock.ErrUnavailable
	}
	return l, nil
}

func (w *watch) notify(kind string, l *lease) {
	switch kind {
	case "ADDED", "MODIFIED":
		if l.Metadata.Name != objectName(w.name) {
			return
		}
		w.s.saw(w.name, l)
		if e, err := l.entry(keyOf(w.name)); err == nil {
			w.changed(&e)
		} else {
			w.changed(nil) // somebody else's writing: looking says so
		}
	case "DELETED":
		w.s.saw(w.name, nil)
		w.changed(&record.Entry{})
	}
}

// stream is the body of a watch. It ends when nothing has come for long: a server that hangs,
// or a connection that was cut, says nothing at all.
type stream struct {
	body   io.ReadCloser
	cancel context.CancelFunc // ends the request
	silent *time.Timer
}

func newStream(body io.ReadCloser, cancel context.CancelFunc) *stream {
	return &stream{body, cancel, time.AfterFunc(watchSilence, cancel)}
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.body.Read(b)
	if n > 0 {
		s.silent.Reset(watchSilence)
	}
	return n, err
}

// Close may be called more than once.
func (s *stream) Close() error {
	s.silent.Stop()
	s.cancel()
	return s.body.Close()
}
