// Package nats locks by keys of a NATS JetStream key-value bucket.
//
//	conn, err := natsgo.Connect("nats://10.0.0.1,nats://10.0.1.1,nats://10.0.2.1") // natsgo is github.com/nats-io/nats.go
//	...
//	js, err := jetstream.New(conn)
//	...
//	l, err := nats.New(js, nil)
//	...
//	defer l.Close()
//	err = leader.Run(ctx, l, "pricing-oracle-keeper", run, nil)
//
// # What is promised
//
// What [lock.Locker] says, among all clients of one bucket, as long as the servers keep what
// they have acknowledged. Each write goes by the key's revision, and reads are answered by
// the stream's leader. A bucket with three replicas goes on through the loss of one server,
// and forgets nothing. A bucket that was deleted and made anew uses no revision again. A ttl
// may be any; the bucket's own ttl, which frees up to a second early, is not used. Waiters
// are notified of a release, and take the key in their order.
//
// # What is not
//
// By default NATS acknowledges a write up to two minutes before it is on the disk
// (sync_interval). A power cut or a crash of the operating system then undoes locks that
// were granted, and gives them to a second holder: set sync_interval to always. No client
// can see this setting, so no program can check it for you.
//
// NATS reports no ages: after a crash the next process leads a ttl after it has first seen the
// dead holder's key. A job that runs once and leaves never sees that; its refusal says so,
// and record.Options.Grace is a way out. Who deletes the bucket, or restores it from a
// backup, frees every lock in it.
package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

// DefaultBucket is where locks are kept if no bucket is named.
const DefaultBucket = "lockkeeper"

// Options for [New]. nil means the defaults.
type Options struct {
	// Bucket is made on first use, where that is permitted. 1 to 128 letters, digits, "-"
	// and "_". It is for locks alone. Defaults to "lockkeeper".
	Bucket string

	// Replicas is how many servers keep the bucket, if it is made here. 1 to 5. Defaults to
	// 3 in a cluster, else 1.
	Replicas int

	// Record are the engine's. Names is ignored.
	Record record.Options
}

// Locker locks by keys of one bucket. It is safe for concurrent use.
type Locker struct {
	*record.Locker
	store *store
}

// New makes a Locker over a JetStream context, whose connection stays the caller's to close,
// after Close. It asks nothing of the server. With a connection whose PingInterval is 2s
// and MaxPingsOutstanding 2, a server that hangs is left within 6s, with the client's
// defaults within 6 minutes.
func New(js jetstream.JetStream, o *Options) (*Locker, error) {
	if js == nil {
		return nil, fmt.Errorf("nats: %w: the JetStream context is nil", lock.ErrInvalid)
	}
	return newLocker(existing(js), o)
}

func newLocker(c *connection, o *Options) (*Locker, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Bucket == "" {
		opts.Bucket = DefaultBucket
	}
	switch {
	case len(opts.Bucket) > 128 || strings.ContainsFunc(opts.Bucket, func(r rune) bool { return r >= 0x80 || !word(byte(r)) }):
		return nil, fmt.Errorf("nats: %w: Options.Bucket is %.140q, want 1 to 128 letters, digits, - and _", lock.ErrInvalid, opts.Bucket)
	case opts.Replicas < 0 || opts.Replicas > 5:
		return nil, fmt.Errorf("nats: %w: Options.Replicas is %d, want 1 to 5", lock.ErrInvalid, opts.Replicas)
	}
	opts.Record.Names = names
	s := newStore(c, opts.Bucket, opts.Replicas)
	l, err := record.New(s, &opts.Record)
	if err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	return &Locker{l, s}, nil
}

// Close ends what is under way, as record.Locker's Close says.
func (l *Locker) Close() error {
	err := l.Locker.Close()
	l.store.conn.close()
	return err
}

func word(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// names are one token of a subject: a dot would part it, and * and > match others. A request
// must fit into the server's max_control_line of 4096 bytes, with its subjects.
var names = record.Names{Max: 1000, Safe: func(c byte) bool { return word(c) || c == '/' }}

var (
	_ record.Store     = (*store)(nil)
	_ record.Watcher   = (*store)(nil)
	_ record.Lister    = (*store)(nil)
	_ record.Deleter   = (*store)(nil)
	_ record.Describer = (*store)(nil)
)

// store keeps records as the last messages of a bucket's subjects. A version is a message's
// sequence number in its stream, which is never used again; see firstRevision.
type store struct {
	conn     *connection
	replicas int
	stream   string // of the bucket
	prefix   string // of the subjects of its keys
	binding  *binding
}

func newStore(c *connection, bucket string, replicas int) *store {
	return &store{conn: c, replicas: replicas, stream: "KV_" + bucket, prefix: "$KV." + bucket + ".", binding: newBinding()}
}

// message is what the server returns of one. Headers are as they are on the wire.
type message struct {
	Seq     uint64    `json:"seq"`
	Headers []byte    `json:"hdrs"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

// Get asks the stream's leader. The client's own Get may ask any replica, which may lag: it
// does so in every bucket that allows direct reads.
func (s *store) Get(ctx context.Context, name string) (record.Entry, error) {
	m, err := s.last(ctx, name)
	if err != nil || m == nil {
		return record.Entry{}, err
	}
	if deleted(m.Headers) {
		return record.Entry{}, nil
	}
	return entry(m.Data, m.Seq, m.Time)
}

func entry(data []byte, seq uint64, put time.Time) (record.Entry, error) {
	r, err := record.Decode(data)
	return record.Entry{Record: r, Version: strconv.FormatUint(seq, 10), Time: put}, err
}

// last is the last message of name's subject, which may be a mark that it was deleted; nil:
// there is none.
func (s *store) last(ctx context.Context, name string) (*message, error) {
	body, err := json.Marshal(map[string]string{"last_by_subj": s.prefix + name})
	if err != nil {
		return nil, err
	}
	var reply struct {
		Message *message `json:"message"`
	}
	err = s.inBucket(ctx, func() error { return s.conn.ask(ctx, "STREAM.MSG.GET."+s.stream, body, &reply) })
	switch {
	case is(err, jetstream.JSErrCodeMessageNotFound):
		return nil, nil
	case err != nil:
		return nil, judge(err)
	case reply.Message == nil:
		return nil, errors.New("the server has sent neither a message nor an error")
	}
	if err := s.ours(reply.Message.Seq); err != nil {
		return nil, err
	}
	return reply.Message, nil
}

// deleted reports whether a message marks the deletion of a key: by the client's Delete or
// Purge, or by the server.
func deleted(headers []byte) bool {
	if len(headers) == 0 {
		return false
	}
	h, err := natsgo.DecodeHeadersMsg(headers)
	return err == nil && marks(h)
}

func marks(h natsgo.Header) bool {
	return h.Get("KV-Operation") != "" || h.Get("Nats-Marker-Reason") != ""
}

// Put writes if the subject's last message is still the one with this sequence number; the
// server compares and writes in one step.
func (s *store) Put(ctx context.Context, name string, r record.Record, version string) (string, error) {
	expected, err := revision(version)
	if err != nil {
		return "", err
	}
	data := r.Encode()
	seq, err := s.publish(ctx, name, data, nil, expected)
	if version == "" && errors.Is(err, record.ErrChanged) {
		// The mark of a deletion may be in the way: for the bucket's other users nothing
		// is there, too.
		m, got := s.last(ctx, name)
		switch {
		case got != nil:
			return "", got // the refused write will never be applied, but it is no conflict for certain
		case m == nil || !deleted(m.Headers):
			return "", err
		}
		seq, err = s.publish(ctx, name, data, nil, m.Seq)
	}
	if err != nil {
		return "", err
	}
	return strconv.FormatUint(seq, 10), nil
}

// revision is the sequence number of a version; 0: nothing is there.
func revision(version string) (uint64, error) {
	if version == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w: version %q", lock.ErrInvalid, version)
	}
	return n, nil
}

// publish writes a message in place of the one with sequence number expected.
func (s *store) publish(ctx context.Context, name string, data []byte, h natsgo.Header, expected uint64) (uint64, error) {
	if err := s.bind(ctx); err != nil {
		return 0, err
	}
	began := time.Now()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		seq, err := s.conn.publish(ctx, s.prefix+name, data, h, expected)
		switch {
		case errors.Is(err, jetstream.ErrNoStreamResponse):
			return 0, fmt.Errorf("no stream takes writes of %s*: the bucket is gone, or its servers can't be reached", s.prefix)
		case err == nil:
			return seq, s.ours(seq)
		case !errors.Is(err, errUndecided):
			return 0, err
		case time.Since(began) >= answerLimit:
			// Nothing was written. A leader that is cut off from the replicas goes on like
			// this until it notices.
			s.conn.answered(began, false)
			return 0, err
		}
		// Whether it is a conflict shows when the other write is decided.
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Delete marks the key as deleted, as the client's Purge does, so that who watches is
// notified. Then it removes the mark, where that is permitted: nothing depends on it.
func (s *store) Delete(ctx context.Context, name, version string) error {
	expected, err := revision(version)
	if err != nil {
		return err
	}
	if expected == 0 {
		return record.ErrChanged
	}
	mark, err := s.publish(ctx, name, nil, natsgo.Header{"KV-Operation": {"PURGE"}, jetstream.MsgRollup: {jetstream.MsgRollupSubject}}, expected)
	if err != nil {
		return err
	}
	// Only what is older than mark+1 goes: the mark itself, and nothing that came after it.
	body, err := json.Marshal(map[string]any{"filter": s.prefix + name, "seq": mark + 1})
	if err != nil {
		return err
	}
	var reply struct{}
	_ = s.conn.ask(ctx, "STREAM.PURGE."+s.stream, body, &reply)
	return nil
}
