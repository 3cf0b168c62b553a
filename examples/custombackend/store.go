package main

import (
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Store is the stand-in for a document store with conditional writes. It forgets
// all when the program ends, which a store for locks must not.
type Store struct {
	mu   sync.Mutex // guards documents
	docs map[string]document
}

type document struct {
	body    []byte
	version int // 0: absent
	written time.Time
}

// ServeHTTP answers GET and PUT of ?name=.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	s.mu.Lock()
	defer s.mu.Unlock()
	doc := s.docs[name]
	switch r.Method {
	case http.MethodGet:
		w.Header().Set("ETag", strconv.Itoa(doc.version))
		if doc.version == 0 {
			doc.body, doc.written = []byte("{}"), time.Now()
		}
		w.Header().Set("Document-Age", time.Since(doc.written).String())
		_, _ = w.Write(doc.body)
	case http.MethodPut:
		if r.Header.Get("If-Match") != strconv.Itoa(doc.version) {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if s.docs == nil {
			s.docs = map[string]document{}
		}
		s.docs[name] = document{body, doc.version + 1, time.Now()}
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}
