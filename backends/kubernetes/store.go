package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

var (
	_ record.Store     = (*store)(nil)
	_ record.Watcher   = (*store)(nil)
	_ record.Lister    = (*store)(nil)
	_ record.Deleter   = (*store)(nil)
	_ record.Describer = (*store)(nil)
)

// store keeps records in Leases. A version is a Lease's uid and resourceVersion.
type store struct {
	api       *api
	namespace string
	path      string // of the namespace's Leases
	skew      time.Duration

	mu     sync.Mutex        // guards latest
	latest map[string]*lease // by name, as last seen: what a write leaves as it is
}

// maxLatest bounds what is remembered. A write whose Lease is forgotten reads it first.
const maxLatest = 4096

func newStore(a *api, namespace string, skew time.Duration) *store {
	return &store{
		api: a, namespace: namespace, path: "/apis/coordination.k8s.io/v1/namespaces/" + namespace + "/leases",
		skew: skew, latest: map[string]*lease{},
	}
}

// saw remembers a Lease; nil: there is none.
func (s *store) saw(name string, l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l == nil {
		delete(s.latest, name)
		return
	}
	if _, known := s.latest[name]; !known && len(s.latest) >= maxLatest {
		for other := range s.latest { // any
			delete(s.latest, other)
			break
		}
	}
	s.latest[name] = l
}

// at is the Lease in the state that version names. Another state is record.ErrChanged: the
// server would refuse a write over this one, now and later.
func (s *store) at(ctx context.Context, name, version string) (*lease, error) {
	s.mu.Lock()
	l := s.latest[name]
	s.mu.Unlock()
	if l != nil && l.version() == version {
		return l, nil
	}
	l, _, err := s.read(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case l == nil || l.version() != version:
		return nil, record.ErrChanged
	}
	return l, nil
}

// read asks for a Lease; nil: there is none. No resourceVersion is named, so the server
// answers with the latest state of its etcd, by a quorum of that.
func (s *store) read(ctx context.Context, name string) (*lease, http.Header, error) {
	text, header, err := s.api.call(ctx, http.MethodGet, s.path+"/"+objectName(name), nil, nil, http.StatusOK)
	if isAbsent(err) {
		s.saw(name, nil)
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, judge(err)
	}
	l, err := parseLease(text)
	if err != nil {
		return nil, nil, err
	}
	s.saw(name, l)
	return l, header, nil
}

func (s *store) Get(ctx context.Context, name string) (record.Entry, error) {
	l, header, err := s.read(ctx, name)
	if l == nil || err != nil {
		return record.Entry{}, err
	}
	e, err := l.entry(keyOf(name))
	s.timed(&e, l, header)
	return e, err
}

// timed adds what the server's clock says. Both times are whole seconds, cut off: so it is a
// second less that has passed for certain, and less what the clocks of two servers may
// differ by.
func (s *store) timed(e *record.Entry, l *lease, h http.Header) {
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	e.Time = now
	if written := l.written(); s.skew > 0 && !written.IsZero() {
		e.Age = max(1, now.Sub(written)-time.Second-s.skew)
	}
}

var written = url.Values{"fieldManager": {manager}}

func (s *store) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	if version == "" {
		body, note, err := newLease(objectName(name), r)
		if err != nil {
			return "", err
		}
		return s.write(ctx, name, http.MethodPost, s.path, body, note, http.StatusCreated)
	}
	l, err := s.at(ctx, name, version)
	if err != nil {
		return "", err
	}
	body, note, err := l.replaced(keyOf(name), r)
	if err != nil {
		return "", err
	}
	// With the uid in it. A PUT without makes what was deleted anew, and with it a hold that
	// is over.
	return s.write(ctx, name, http.MethodPut, s.path+"/"+objectName(name), body, note, http.StatusOK)
}

// write sends a body with this note in it.
func (s *store) write(ctx context.Context, name, method, path string, body []byte, note string, want int) (string, error) {
	text, _, err := s.api.call(ctx, method, path, written, body, want)
	switch {
	case isConflict(err), method == http.MethodPut && isAbsent(err):
		return "", record.ErrChanged
	case err != nil:
		return "", judge(err)
	}
	l, err := parseLease(text)
	if err != nil {
		return "", err
	}
	// What passes for an answer and shows another state is of something in between, such as a
	// cache, or of a read that was sent in place of the write.
	if l.Metadata.Annotations[annotation] != note {
		return "", fmt.Errorf("%w: the answer to a write shows another state than was written", lock.ErrUnavailable)
	}
	s.saw(name, l)
	return l.version(), nil
}

// Delete removes a Lease that was made here. One that others have made is theirs, although
// its record was written here: for pruning, it has changed.
func (s *store) Delete(ctx context.Context, name, version string) error {
	l, err := s.at(ctx, name, version)
	if err != nil {
		return err
	}
	if l.Metadata.Labels[createdBy] != createdByValue {
		return record.ErrChanged
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "DeleteOptions",
		"preconditions": map[string]string{"uid": l.Metadata.UID, "resourceVersion": l.Metadata.ResourceVersion},
	})
	if err != nil {
		return err
	}
	_, _, err = s.api.call(ctx, http.MethodDelete, s.path+"/"+objectName(name), nil, body, http.StatusOK)
	switch {
	case isConflict(err), isAbsent(err):
		return record.ErrChanged
	case err != nil:
		if r, ok := errors.AsType[*refusal](err); ok && r.code == http.StatusForbidden {
			return fmt.Errorf("%w: %w; Prune needs delete on leases, too", lock.ErrRefused, err)
		}
		return judge(err)
	}
	s.saw(name, nil)
	return nil
}

// page is how many Leases one request of List reads.
const page = 500

// leases is one page of them.
type leases struct {
	Kind     string
	Metadata struct{ ResourceVersion, Continue string }
	Items    []json.RawMessage
}

func (s *store) list(ctx context.Context, query url.Values) (*leases, http.Header, error) {
	text, header, err := s.api.call(ctx, http.MethodGet, s.path, query, nil, http.StatusOK)
	if err != nil {
		return nil, nil, err
	}
	var l leases
	if err := json.Unmarshal(text, &l); err != nil || l.Kind != "LeaseList" || l.Metadata.ResourceVersion == "" {
		return nil, nil, fmt.Errorf("%w: what the server sent is no list of Leases", lock.ErrUnavailable)
	}
	return &l, header, nil
}

// List reads all Leases of the namespace page by page, those of others included: they are
// held, too, under their names. What can't be read is left out: it must not hide others.
func (s *store) List(ctx context.Context, _ string) iter.Seq2[record.Entry, error] {
	return func(yield func(record.Entry, error) bool) {
		for next := ""; ; {
			query := url.Values{"limit": {strconv.Itoa(page)}}
			if next != "" {
				query.Set("continue", next)
			}
			l, header, err := s.list(ctx, query)
			if r, ok := errors.AsType[*refusal](err); ok && isExpired(err) && r.Metadata.Continue != "" {
				next = r.Metadata.Continue // goes on with what is there now
				continue
			}
			if err != nil {
				yield(record.Entry{}, judge(err))
				return
			}
			for _, raw := range l.Items {
				if e, ok := s.listed(raw, header); ok && !yield(e, nil) {
					return
				}
			}
			if next = l.Metadata.Continue; next == "" {
				return
			}
		}
	}
}

// listed is one item of a list; false if it is no lock.
func (s *store) listed(raw []byte, header http.Header) (record.Entry, bool) {
	l, err := parseLease(raw)
	if err != nil {
		return record.Entry{}, false
	}
	own, err := l.own("")
	if err != nil {
		return record.Entry{}, false
	}
	key := own.Key
	if key == "" && isPlain(l.Metadata.Name) {
		key = l.Metadata.Name
	}
	// Of a record that was copied by hand, the Lease is another key's.
	if name, err := names.Name(key); err != nil || objectName(name) != l.Metadata.Name {
		return record.Entry{}, false
	}
	e, err := l.entry(key)
	s.timed(&e, l, header)
	return e, err == nil
}
