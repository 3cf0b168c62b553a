package serve

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tonsurance/lockkeeper/internal/hostcheck"
	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/lock"
)

//go:embed assets
var assetFiles embed.FS

// Options are those of a server. nil means defaults.
type Options struct {
	Store    string        // what the source is, as pages name it; without a password
	Prefix   string        // what the source is limited to, which pages say; "": nothing
	Interval time.Duration // between two questions who holds what; LeastInterval or more. Defaults to DefaultInterval
	Hosts    []string      // names, without a port, that requests may ask for besides localhost and addresses
	AnyHost  bool          // requests may ask for any, as on a unix socket, which no browser reaches
}

// Server shows a source. It is safe for concurrent use.
type Server struct {
	opts    Options
	feed    *feed
	handler http.Handler
	build   string // differs where the assets do
	streams atomic.Int64
}

// New makes a server, which asks source nothing before [Server.Serve]. An error matches
// [lock.ErrInvalid].
func New(source Source, opts *Options) (*Server, error) {
	s := &Server{}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Interval == 0 {
		s.opts.Interval = DefaultInterval
	}
	switch {
	case source == nil:
		return nil, fmt.Errorf("serve: %w: source is nil", lock.ErrInvalid)
	case s.opts.Interval < LeastInterval:
		return nil, fmt.Errorf("serve: %w: Interval is %v, want %v or more", lock.ErrInvalid, s.opts.Interval, LeastInterval)
	}
	for _, host := range s.opts.Hosts {
		if !isHostName(host) {
			return nil, fmt.Errorf("serve: %w: host %q, want a name without a port, such as locks.example.com", lock.ErrInvalid, host)
		}
	}
	s.feed = newFeed(source, s.opts.Interval)
	s.build = buildOf(assetFiles)
	s.handler = s.guard(s.routes())
	return s, nil
}

func isHostName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r == '-' || r == '.' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	})
}

// buildOf is a sum of the assets: what browsers have kept of others is not used.
func buildOf(files fs.FS) string {
	sum := sha256.New()
	_ = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			text, _ := fs.ReadFile(files, name)
			fmt.Fprintf(sum, "%s %d ", name, len(text))
			sum.Write(text)
		}
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:6])
}

const (
	headerTimeout = 5 * time.Second  // for a request's head
	writeTimeout  = 10 * time.Second // for an answer, and for each write of a stream
	idleTimeout   = time.Minute
	endTimeout    = 3 * time.Second // for answers under way when the server ends
	maxHeader     = 16 << 10
)

// Serve asks the source and answers requests until ctx ends or the listener fails, and
// returns when neither a question nor a stream is under way any more. It closes the
// listener. Its result is nil if ctx has ended it.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	asked := make(chan struct{})
	go func() { defer close(asked); s.feed.run(ctx) }()
	defer func() { cancel(); <-asked }()
	server := &http.Server{
		Handler:           s.handler,
		BaseContext:       func(net.Listener) context.Context { return ctx }, // so that streams end with it
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout, // no request has a body
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, 0), // anyone who asks could fill the log
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		cancel()
		_ = server.Close()
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	ending, stop := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer stop()
	if err := server.Shutdown(ending); err != nil {
		_ = server.Close() // those that are left are slow readers
	}
	<-failed
	return nil
}

// Handler answers the requests. Without [Server.Serve] nobody asks the source.
func (s *Server) Handler() http.Handler { return s.handler }

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", s.page)
	mux.HandleFunc("/lock", s.page)
	mux.HandleFunc("/stream", s.stream)
	mux.HandleFunc("/api", s.api)
	mux.HandleFunc("/api/{what}", s.api)
	mux.HandleFunc("/metrics", s.metrics)
	mux.HandleFunc("/assets/{name}", s.asset)
	return mux
}

// policy allows a page this server's own files, and nothing that stands in the page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard refuses what is no request of a reader of this site.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "this server is read-only, want GET or HEAD", http.StatusMethodNotAllowed)
		case !s.opts.AnyHost && !hostcheck.Sent(r, s.opts.Hosts):
			http.Error(w, fmt.Sprintf("the Host %q is not known here, want localhost, an address, or a name that --allow-host has given", r.Host), http.StatusForbidden)
		case r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate":
			http.Error(w, "another site's page asks for this", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// types are those of the assets, which must not depend on the machine.
var types = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

func (s *Server) asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	text, err := assetFiles.ReadFile("assets/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", types[path.Ext(name)])
	w.Header().Set("Cache-Control", "no-cache")
	if r.URL.RawQuery == s.build {
		w.Header().Set("Cache-Control", "max-age=31536000, immutable")
	}
	_, _ = w.Write(text)
}

// viewOf is what a request wants to see.
func (s *Server) viewOf(r *http.Request) (view, error) {
	q := r.URL.Query()
	v := view{prefix: q.Get("prefix"), sort: q.Get("sort"), key: q.Get("key")}
	if len(v.prefix) > lock.MaxKeyLen || !utf8.ValidString(v.prefix) {
		return v, fmt.Errorf("prefix has %d bytes, want at most %d of UTF-8", len(v.prefix), lock.MaxKeyLen)
	}
	if !slices.Contains(sorts, v.sort) {
		return v, fmt.Errorf("sort is %q, want %s, %s, %s or nothing", v.sort, byHeld, byLeft, byWaiting)
	}
	if page := q.Get("page"); page != "" {
		n, err := strconv.Atoi(page)
		if err != nil || n < 1 || n > 1e6 {
			return v, fmt.Errorf("page is %q, want a number from 1", page)
		}
		v.page = n - 1
	}
	if !q.Has("key") {
		return v, nil
	}
	if err := lock.Check(v.key, lock.MinTTL); err != nil {
		return v, err
	}
	v.key = groupKey(v.key)
	if !strings.HasPrefix(v.key, s.opts.Prefix) {
		return v, fmt.Errorf("key is %q, want one that begins with %q: this server shows no others", v.key, s.opts.Prefix)
	}
	return v, nil
}

// pageModel is what a page is made of.
type pageModel struct {
	Title, Build, Stream, Store, Prefix, Key, Zone string
	View                                           pageView
	Parts                                          map[string]template.HTML
	Interval, HealthInterval                       time.Duration
}

type pageView struct{ Prefix, Sort string }

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	v, err := s.viewOf(r)
	if err == nil && r.URL.Path == "/lock" && v.key == "" {
		err = errors.New("no key, want /lock?key=KEY")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.URL.Path != "/lock" {
		v.key = ""
	}
	f := s.feed.frame()
	zone, _ := f.at.Zone()
	m := pageModel{
		Title: f.summary().Title + "lockkeeper", Build: s.build, Stream: v.stream(), Store: s.opts.Store, Prefix: s.opts.Prefix, Key: v.key, Zone: zone,
		View: pageView{v.prefix, v.sort}, Parts: map[string]template.HTML{},
		Interval: s.opts.Interval, HealthInterval: max(s.opts.Interval, healthInterval),
	}
	if v.key != "" {
		m.Title = f.summary().Title + plain.Printable(v.key) + " · lockkeeper"
	}
	for _, name := range v.parts() {
		html, err := f.render(name, v)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		m.Parts[name] = template.HTML(html)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = pages.ExecuteTemplate(w, "page.html", m) // the client has gone: nobody to notify
}
