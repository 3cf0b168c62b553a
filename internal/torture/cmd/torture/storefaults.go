package main

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/internal/torture/history"
)

// sqliteKinds are what a database file suffers.
func sqliteKinds() []kind {
	return append(clientKinds(), []kind{
		{name: "database: another program writes (BEGIN IMMEDIATE)", weight: 5, target: everyNode, shortest: 50 * ms, longest: 2500 * ms,
			do: holding("ROLLBACK", "BEGIN IMMEDIATE")},
		{name: "database: another program reads for long", weight: 2, target: everyNode, shortest: 50 * ms, longest: 2500 * ms,
			do: holding("ROLLBACK", "BEGIN", "SELECT count(*) FROM sqlite_master")},
		{name: "database: the records are deleted", weight: 8, target: everyNode, unsafe: true, do: statement("DELETE FROM lockkeeper")},
	}...)
}

// aServer is what one server of a database suffers.
func aServer() []kind {
	return slices.Concat(clientKinds(), pathKinds(), []kind{
		{name: "server: kill -9, restart with its data", weight: 3, target: aNode, shortest: 1 * ms, longest: 1500 * ms,
			impair: history.OneNode, restarts: true, do: restart(func(*torture, *node, planned) (string, error) { return "", nil })},
		{name: "server: SIGSTOP, SIGCONT", weight: 4, target: aNode, shortest: 50 * ms, longest: 4000 * ms, impair: history.OneNode, do: stopNode},
	})
}

func postgresKinds() []kind {
	return append(aServer(), []kind{
		{name: "server: every connection is ended", weight: 5, target: aNode,
			do: statement("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'app' AND pid <> pg_backend_pid()")},
		{name: "server: the table is locked", weight: 4, target: aNode, shortest: 50 * ms, longest: 3000 * ms, impair: history.OneNode,
			do: holding("ROLLBACK", "BEGIN", "LOCK TABLE lockkeeper IN ACCESS EXCLUSIVE MODE")},
		{name: "server: every row is locked", weight: 3, target: aNode, shortest: 50 * ms, longest: 2000 * ms, impair: history.OneNode,
			do: holding("ROLLBACK", "BEGIN", "SELECT count(*) FROM (SELECT * FROM lockkeeper FOR UPDATE) AS held")},
		{name: "server: read only", weight: 3, target: aNode, shortest: 50 * ms, longest: 2000 * ms, impair: history.OneNode, do: readOnly},
		{name: "server: the records are deleted", weight: 8, target: aNode, unsafe: true, do: statement("DELETE FROM lockkeeper")},
	}...)
}

func mysqlKinds() []kind {
	return append(aServer(), []kind{
		{name: "server: every connection is ended", weight: 5, target: aNode, do: killConnections},
		{name: "server: the table is locked", weight: 4, target: aNode, shortest: 50 * ms, longest: 3000 * ms, impair: history.OneNode,
			do: holding("UNLOCK TABLES", "LOCK TABLES lockkeeper WRITE")},
		{name: "server: every row is locked", weight: 3, target: aNode, shortest: 50 * ms, longest: 2000 * ms, impair: history.OneNode,
			do: holding("ROLLBACK", "BEGIN", "SELECT count(*) FROM (SELECT * FROM lockkeeper FOR UPDATE) AS held")},
		{name: "server: read only (FLUSH TABLES WITH READ LOCK)", weight: 3, target: aNode, shortest: 50 * ms, longest: 2000 * ms, impair: history.OneNode,
			do: holding("UNLOCK TABLES", "FLUSH TABLES WITH READ LOCK")},
		{name: "server: the records are deleted", weight: 8, target: aNode, unsafe: true, do: statement("DELETE FROM lockkeeper")},
	}...)
}

func etcdKinds() []kind {
	none := func(*torture, *node, planned) (string, error) { return "", nil }
	return slices.Concat(clientKinds(), networkKinds(), []kind{
		{name: "member: kill -9, restart with its data", weight: 5, target: aNode, shortest: 1 * ms, longest: 2500 * ms,
			impair: history.OneNode, restarts: true, do: restart(none)},
		{name: "member: SIGSTOP, SIGCONT", weight: 6, target: aNode, shortest: 50 * ms, longest: 4000 * ms, impair: history.OneNode, do: stopNode},
		{name: "member: the others do not reach it", weight: 4, target: aNode, shortest: 100 * ms, longest: 4000 * ms, impair: history.OneNode,
			do: inbound((*redistest.Proxy).Blackhole)},
		{name: "member: the others reach it late", weight: 4, target: aNode, shortest: 100 * ms, longest: 4000 * ms, impair: history.OneNode,
			do: inbound((*redistest.Proxy).Hold)},
		{name: "member: the history is compacted", weight: 5, target: aNode, do: compact},
		{name: "member: defragmented", weight: 3, target: aNode, do: defragment},
		{name: "members: all killed, restarted with their data", weight: 2, target: everyNode, shortest: 1 * ms, longest: 800 * ms,
			impair: history.OneNode, restarts: true, do: killAll},
		{name: "members: a majority stopped (SIGSTOP)", weight: 2, target: everyNode, shortest: 100 * ms, longest: 4000 * ms, impair: history.OneNode, do: stopMost},
		{name: "members: the records are deleted", weight: 8, target: aNode, unsafe: true, do: deleteRange},
	})
}

// natsKinds are rarer than etcd's: without its stream's leader a cluster of NATS needs 4 to 9
// seconds to choose another, in which nothing can be had.
func natsKinds() []kind {
	none := func(*torture, *node, planned) (string, error) { return "", nil }
	return slices.Concat(clientKinds(), networkKinds(), []kind{
		{name: "server: kill -9, restart with its data", weight: 3, target: aNode, shortest: 1 * ms, longest: 2500 * ms,
			impair: history.OneNode, restarts: true, do: restart(none)},
		{name: "server: SIGSTOP, SIGCONT", weight: 4, target: aNode, shortest: 50 * ms, longest: 4000 * ms, impair: history.OneNode, do: stopNode},
		{name: "server: long SIGSTOP, SIGCONT", weight: 1, target: aNode, shortest: 6000 * ms, longest: 12000 * ms, impair: history.OneNode, do: stopNode},
		{name: "server: the others do not reach it", weight: 3, target: aNode, shortest: 100 * ms, longest: 12000 * ms, impair: history.OneNode, do: cutOff},
		{name: "servers: all killed, restarted with their data", weight: 1, target: everyNode, shortest: 1 * ms, longest: 800 * ms,
			impair: history.OneNode, restarts: true, do: killAll},
		{name: "servers: a majority stopped (SIGSTOP)", weight: 1, target: everyNode, shortest: 100 * ms, longest: 4000 * ms, impair: history.OneNode, do: stopMost},
		{name: "servers: the stream's leader steps down", weight: 3, target: aNode, do: stepDown},
		{name: "servers: the records are deleted", weight: 8, target: aNode, unsafe: true, do: purge},
	})
}

// cutOff parts a server of NATS from the others.
func cutOff(t *torture, f planned, pause func()) (string, error) {
	m := t.nodes[f.node].nats
	m.Cut(true)
	pause()
	m.Cut(false)
	return "", nil
}

// askNats sends a request to JetStream's API by way of a server. One that does not answer just
// now does not do it, which the note says.
func (t *torture) askNats(f planned, what string) (note string, err error) {
	conn, err := nats.Connect("nats://"+t.nodes[f.node].Addr(), nats.NoReconnect(), nats.Timeout(time.Second))
	if err != nil {
		return "not done: " + err.Error(), nil
	}
	defer conn.Close()
	reply, err := conn.Request("$JS.API.STREAM."+what+".KV_lockkeeper", nil, 2*time.Second)
	if err != nil {
		return "not done: " + err.Error(), nil
	}
	var outcome struct{ Error *struct{ Description string } }
	if err := json.Unmarshal(reply.Data, &outcome); err != nil {
		return "", err
	}
	if outcome.Error != nil {
		return "not done: " + outcome.Error.Description, nil
	}
	return "", nil
}

func stepDown(t *torture, f planned, _ func()) (string, error) {
	return t.askNats(f, "LEADER.STEPDOWN")
}

func purge(t *torture, f planned, _ func()) (string, error) { return t.askNats(f, "PURGE") }

func s3Kinds() []kind {
	return append(aServer(), []kind{
		{name: "server: the objects are deleted", weight: 8, target: aNode, unsafe: true, do: removeObjects},
	}...)
}

func removeObjects(t *torture, f planned, _ func()) (string, error) {
	return "", t.nodes[f.node].server.(*storetest.S3).RemoveObjects()
}

// database opens the store's database for one fault.
func (t *torture) database(use func(ctx context.Context, c *sql.Conn) (string, error)) (note string, err error) {
	db, err := sql.Open(t.place.driver, t.place.dsn)
	if err != nil {
		return "", err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.ctx, bound)
	defer cancel()
	c, err := db.Conn(ctx)
	if err == nil {
		defer c.Close()
		note, err = use(ctx, c)
	}
	switch {
	case err == nil || t.ctx.Err() != nil:
		return note, nil
	case strings.Contains(err.Error(), "does not exist"), strings.Contains(err.Error(), "doesn't exist"), strings.Contains(err.Error(), "no such table"):
		return "no table yet", nil // the first client makes it
	}
	return note, err
}

// statement runs one.
func statement(query string) func(*torture, planned, func()) (string, error) {
	return func(t *torture, _ planned, _ func()) (string, error) {
		return t.database(func(ctx context.Context, c *sql.Conn) (string, error) {
			_, err := c.ExecContext(ctx, query)
			return "", err
		})
	}
}

// holding runs statements on one connection, keeps what they took while the fault lasts,
// and ends it.
func holding(end string, begin ...string) func(*torture, planned, func()) (string, error) {
	return func(t *torture, _ planned, pause func()) (string, error) {
		return t.database(func(ctx context.Context, c *sql.Conn) (string, error) {
			asked := time.Now()
			for _, query := range begin {
				if _, err := c.ExecContext(ctx, query); err != nil {
					return "", fmt.Errorf("%s: %w", query, err)
				}
			}
			note := fmt.Sprintf("taken after %v", time.Since(asked).Round(ms))
			pause()
			_, err := c.ExecContext(ctx, end)
			return note, err
		})
	}
}

// readOnly makes every new transaction of Postgres one that may not write.
func readOnly(t *torture, _ planned, pause func()) (string, error) {
	set := func(ctx context.Context, c *sql.Conn, to string) error {
		for _, query := range []string{"SET transaction_read_only = off", "SET default_transaction_read_only = off",
			"ALTER SYSTEM SET default_transaction_read_only = " + to, "SELECT pg_reload_conf()"} {
			if _, err := c.ExecContext(ctx, query); err != nil {
				return fmt.Errorf("%s: %w", query, err)
			}
		}
		return nil
	}
	return t.database(func(ctx context.Context, c *sql.Conn) (string, error) {
		if err := set(ctx, c, "on"); err != nil {
			return "", err
		}
		pause()
		return "", set(ctx, c, "off")
	})
}

// killConnections ends every connection of MariaDB but its own.
func killConnections(t *torture, _ planned, _ func()) (string, error) {
	return t.database(func(ctx context.Context, c *sql.Conn) (string, error) {
		var ids []int64
		rows, err := c.QueryContext(ctx, "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()")
		if err != nil {
			return "", err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return "", err
			}
			ids = append(ids, id)
		}
		killed := 0
		for _, id := range ids {
			if _, err := c.ExecContext(ctx, fmt.Sprint("KILL ", id)); err == nil { // or it has ended by itself
				killed++
			}
		}
		return fmt.Sprint(killed, " of them"), rows.Err()
	})
}

// inbound does something to the other members' connections to one.
func inbound(set func(*redistest.Proxy, bool)) func(*torture, planned, func()) (string, error) {
	return func(t *torture, f planned, pause func()) (string, error) {
		x := t.nodes[f.node].member.Inbound()
		set(x, true)
		pause()
		set(x, false)
		x.Reset() // so that what a lost byte made silent is dialed again
		return "", nil
	}
}

func encoded(key string) string { return base64.StdEncoding.EncodeToString([]byte(key)) }

// post asks a member for something. One that has no quorum just now does not do it, which
// the note says.
func (t *torture) post(f planned, path, body string) (reply []byte, note string) {
	reply, err := t.nodes[f.node].member.Post(path, body)
	if err != nil {
		return nil, "not done: " + err.Error()
	}
	return reply, ""
}

// compact forgets all revisions but the last: watchers that lag are ended.
func compact(t *torture, f planned, _ func()) (string, error) {
	text, note := t.post(f, "/v3/kv/range", fmt.Sprintf(`{"key":%q}`, encoded("revision")))
	if note != "" {
		return note, nil
	}
	var reply struct{ Header struct{ Revision string } }
	if err := json.Unmarshal(text, &reply); err != nil {
		return "", fmt.Errorf("%w: %s", err, text)
	}
	_, note = t.post(f, "/v3/kv/compaction", fmt.Sprintf(`{"revision":%q,"physical":true}`, reply.Header.Revision))
	return note, nil
}

func defragment(t *torture, f planned, _ func()) (string, error) {
	_, note := t.post(f, "/v3/maintenance/defragment", "{}")
	return note, nil
}

func deleteRange(t *torture, f planned, _ func()) (string, error) {
	_, note := t.post(f, "/v3/kv/deleterange", fmt.Sprintf(`{"key":%q,"range_end":%q}`, encoded("lockkeeper/"), encoded("lockkeeper0")))
	return note, nil
}
