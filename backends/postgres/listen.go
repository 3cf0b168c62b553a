package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/tonsurance/lockkeeper/backends/record"
)

// maxPayload is what a notification can carry, less a little.
const maxPayload = 7900 // bytes

// notification is the payload of one. Without a record, the receiver looks. Table is the table's
// number in this database: tables with one name in several schemas share a channel.
type notification struct {
	Table   int64           `json:"table,omitempty"`
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
	// In ASCII: a database in EUC_JP, say, takes other bytes for wrong ones of its own, and would
	// refuse the write with it.
	var ascii strings.Builder
	for _, r := range string(b) {
		if r < utf8.RuneSelf {
			ascii.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&ascii, `\u%04x`, unit)
		}
	}
	return ascii.String()
}

// payload is the notification of a state of name, for notify to complete.
func payload(name string, r record.Record, version string) string {
	text := notification{Name: []byte(name), Version: version, Record: r.Encode()}.text()
	if len(text) > maxPayload {
		text = notification{Name: []byte(name)}.text()
	}
	return strings.TrimPrefix(text, "{")
}

// Times of the listener.
const (
	probeTimeout = 2 * time.Second        // for a notification to oneself that was sent; silence means a pooler
	reconnect    = 200 * time.Millisecond // between two connections, doubled up to maxReconnect
	maxReconnect = 5 * time.Second
	pollPooled   = 250 * time.Millisecond // between two looks where no notifications come
	askAgain     = time.Minute            // whether notifications come now; a busy server can look like a pooler
	idle         = 30 * time.Second       // after which a quiet connection is made anew: it may be dead
)

// listener is the one connection of a process that listens, while somebody waits.
type listener struct {
	db      *sql.DB
	hosts   *hosts
	channel string
	table   string // as SQL that gives its number, or 0

	mu      sync.Mutex // guards all below
	watches map[string]map[*watch]struct{}
	ready   chan struct{} // closed when notifications flow, or are known not to come
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

type watch struct{ changed func(*record.Entry) }

// newListener makes one for a table. The channel is that of all tables of its name, because a
// table can be named with its schema or without, and in any case.
func newListener(db *sql.DB, h *hosts, table string) *listener {
	base := strings.ToLower(table[strings.LastIndex(table, ".")+1:])
	sum := sha256.Sum256([]byte(base))
	return &listener{
		db: db, hosts: h, channel: "lockkeeper_" + hex.EncodeToString(sum[:8]),
		table: "coalesce(to_regclass('" + table + "')::oid::bigint, 0)", watches: map[string]map[*watch]struct{}{},
	}
}

// notify is SQL that sends a payload, its second parameter, on the channel, its first.
func (l *listener) notify() string {
	return `pg_notify(%s, '{"table":' || ` + l.table + ` || ',' || %s)`
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
		conn, table, err := l.connect(ctx)
		if pooled := errors.Is(err, errPooled); err == nil || pooled {
			wait = reconnect
			once()
			l.deliver("", nil) // what came before is looked for
			if pooled {
				l.poll(ctx)
			} else {
				l.receive(ctx, conn, table)
				end(conn)
			}
			l.deliver("", nil) // some may have been missed
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, maxReconnect)
		}
	}
}

// errPooled says that what sends notifications does not reach what listens.
var errPooled = errors.New("a pooler delivers no notifications")

// connect listens, and returns the table's number.
func (l *listener) connect(ctx context.Context) (conn *pgx.Conn, table int64, err error) {
	connecting, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	if conn, err = l.hosts.open(connecting); err != nil {
		return nil, 0, err
	}
	if err = conn.QueryRow(connecting, "SELECT "+l.table).Scan(&table); err == nil {
		err = l.listen(connecting, conn)
	}
	if err != nil {
		end(conn)
		return nil, 0, err
	}
	return conn, table, nil
}

// end closes a connection, and does not wait for a server that hangs.
func end(conn *pgx.Conn) {
	closing, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(closing)
}

// listen finds out whether notifications come: a pooler accepts LISTEN and never delivers. The
// notification is sent from another connection while this one is idle; on the same one it
// would seem to work. How long sending it takes says nothing about that.
func (l *listener) listen(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "LISTEN "+l.channel); err != nil {
		return err
	}
	probe := rand.Text()
	if _, err := l.db.ExecContext(ctx, "SELECT pg_notify($1, $2)", l.channel, notification{Probe: probe}.text()); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for {
		n, err := conn.WaitForNotification(waiting)
		var got notification
		switch {
		case err != nil && ctx.Err() == nil && waiting.Err() != nil:
			return errPooled
		case err != nil:
			return err
		case json.Unmarshal([]byte(n.Payload), &got) == nil && got.Probe == probe:
			return nil
		}
	}
}

// receive delivers notifications of the table with this number until the connection ends.
func (l *listener) receive(ctx context.Context, conn *pgx.Conn, table int64) {
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
		// A state of another table must not be taken for one of this. It may be this one all the
		// same, dropped and made anew, so it is looked at. Old senders don't say which it is.
		same := got.Table == 0 || got.Table == table
		if r, err := record.Decode(got.Record); err == nil && got.Version != "" && same {
			l.deliver(string(got.Name), &record.Entry{Record: r, Version: got.Version})
		} else {
			l.deliver(string(got.Name), nil)
		}
	}
}

// poll has those who wait look again and again, until it is time to ask whether
// notifications come.
func (l *listener) poll(ctx context.Context) {
	for began := time.Now(); time.Since(began) < askAgain; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pollPooled):
			l.deliver("", nil)
		}
	}
}
