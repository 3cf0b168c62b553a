package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tonsurance/lockkeeper/backends/record"
)

// maxPayload is what a notification can carry, less a little.
const maxPayload = 7900 // bytes

// notification is the payload of one. Without a record, the receiver looks.
type notification struct {
	Name    []byte          `json:"name,omitempty"`
	Version string          `json:"version,omitempty"`
	Record  json.RawMessage `json:"record,omitempty"`
	Probe   string          `json:"probe,omitempty"`
}

func (n notification) text() string {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // of these types it can't
	}
	return string(b)
}

// payload is the notification of a state of name.
func payload(name string, r record.Record, version string) string {
	text := notification{Name: []byte(name), Version: version, Record: r.Encode()}.text()
	if len(text) > maxPayload {
		text = notification{Name: []byte(name)}.text()
	}
	return text
}

// Times of the listener.
const (
	probeTimeout = 2 * time.Second        // for a notification to oneself; silence means a pooler
	reconnect    = 200 * time.Millisecond // between two connections, doubled up to maxReconnect
	maxReconnect = 5 * time.Second
	pollPooled   = 250 * time.Millisecond // between two looks where no notifications come
	idle         = 30 * time.Second       // after which a quiet connection is made anew: it may be dead
)

// listener is the one connection of a process that listens, while somebody waits.
type listener struct {
	db      *sql.DB
	cfg     *pgx.ConnConfig
	channel string

	mu      sync.Mutex // guards all below
	watches map[string]map[*watch]struct{}
	ready   chan struct{} // closed when notifications flow, or are known not to come
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

type watch struct{ changed func(*record.Entry) }

func newListener(db *sql.DB, cfg *pgx.ConnConfig, table string) *listener {
	sum := sha256.Sum256([]byte(table))
	return &listener{db: db, cfg: cfg, channel: "lockkeeper_" + hex.EncodeToString(sum[:8]), watches: map[string]map[*watch]struct{}{}}
}

// watch joins the listener, and starts it for the first.
func (l *listener) watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	w := &watch{changed}
	l.mu.Lock()
	if l.watches[name] == nil {
		l.watches[name] = map[*watch]struct{}{}
	}
	l.watches[name][w] = struct{}{}
	if l.cancel == nil {
		listening, cancel := context.WithCancel(context.WithoutCancel(ctx))
		l.cancel, l.ready = cancel, make(chan struct{})
		ready := l.ready
		l.done.Go(func() { l.run(listening, ready) })
	}
	ready := l.ready
	l.mu.Unlock()
	stop := sync.OnceFunc(func() { l.leave(name, w) })
	select {
	case <-ready:
		return stop, nil
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}

// leave takes one out, and ends the connection with the last.
func (l *listener) leave(name string, w *watch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.watches[name], w)
	if len(l.watches[name]) == 0 {
		delete(l.watches, name)
	}
	if len(l.watches) == 0 && l.cancel != nil {
		l.cancel()
		l.cancel = nil
	}
}

// close ends the connection and waits for it.
func (l *listener) close() {
	l.mu.Lock()
	if l.cancel != nil {
		l.cancel()
		l.cancel = nil
	}
	l.mu.Unlock()
	l.done.Wait()
}

// deliver hands a state to those who watch name; nil to all: they look.
func (l *listener) deliver(name string, e *record.Entry) {
	l.mu.Lock()
	var to []*watch
	for n, watches := range l.watches {
		if n == name || name == "" {
			for w := range watches {
				to = append(to, w)
			}
		}
	}
	l.mu.Unlock()
	for _, w := range to {
		w.changed(e)
	}
}

// run keeps a connection that listens until ctx ends.
func (l *listener) run(ctx context.Context, ready chan struct{}) {
	once := sync.OnceFunc(func() { close(ready) })
	wait := reconnect
	for ctx.Err() == nil {
		conn, pooled, err := l.connect(ctx)
		if err == nil {
			wait = reconnect
			once()
			l.deliver("", nil) // what came before is looked for
			if pooled {
				l.poll(ctx)
			} else {
				l.receive(ctx, conn)
			}
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			_ = conn.Close(closing)
			cancel()
			l.deliver("", nil) // some may have been missed
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, maxReconnect)
		}
	}
}

// connect listens, and finds out whether notifications come: a pooler accepts LISTEN and never
// delivers. The notification is sent from another connection while this one is idle; on the
// same one it would seem to work.
func (l *listener) connect(ctx context.Context) (conn *pgx.Conn, pooled bool, err error) {
	connecting, cancel := context.WithTimeout(ctx, l.cfg.ConnectTimeout)
	defer cancel()
	conn, err = pgx.ConnectConfig(connecting, l.cfg.Copy())
	if err != nil {
		return nil, false, err
	}
	if _, err = conn.Exec(connecting, "LISTEN "+l.channel); err == nil {
		probe := rand.Text()
		sent := make(chan error, 1)
		go func() {
			_, err := l.db.ExecContext(connecting, "SELECT pg_notify($1, $2)", l.channel, notification{Probe: probe}.text())
			sent <- err
		}()
		waiting, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		for err == nil && !pooled {
			n, received := conn.WaitForNotification(waiting)
			var got notification
			switch {
			case received != nil && ctx.Err() == nil && waiting.Err() != nil:
				pooled = true
			case received != nil:
				err = received
			case json.Unmarshal([]byte(n.Payload), &got) == nil && got.Probe == probe:
				return conn, false, <-sent
			}
		}
		if sendErr := <-sent; err == nil {
			err = sendErr
		}
	}
	if err != nil || pooled {
		// A wait that timed out has ended the connection.
		_ = conn.Close(context.WithoutCancel(ctx))
	}
	return conn, pooled, err
}

// receive delivers notifications until the connection ends.
func (l *listener) receive(ctx context.Context, conn *pgx.Conn) {
	for ctx.Err() == nil {
		waiting, cancel := context.WithTimeout(ctx, idle)
		n, err := conn.WaitForNotification(waiting)
		cancel()
		if err != nil {
			return // if it was quiet for long, a new connection shows whether the server lives
		}
		var got notification
		if json.Unmarshal([]byte(n.Payload), &got) != nil || len(got.Name) == 0 {
			continue // a probe, or somebody else's
		}
		if r, err := record.Decode(got.Record); err == nil && got.Version != "" {
			l.deliver(string(got.Name), &record.Entry{Record: r, Version: got.Version})
		} else {
			l.deliver(string(got.Name), nil)
		}
	}
}

// poll has those who wait look again and again.
func (l *listener) poll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pollPooled):
			l.deliver("", nil)
		}
	}
}
