package nats

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tonsurance/lockkeeper/backends/record"
)

const (
	heartbeat  = 2 * time.Second           // of a consumer that has nothing to send
	silence    = 2*heartbeat + heartbeat/2 // without heartbeats for so long, it has ended
	rewatch    = 200 * time.Millisecond    // between two attempts to follow anew, doubled up to rewatchMax
	rewatchMax = 2 * time.Second
)

// feed receives the last message of each subject that matches a filter, and every later one.
// The server has a consumer for it, which it removes by itself when nobody listens any more.
type feed struct {
	conn    *connection
	sub     *natsgo.Subscription
	pending uint64 // messages that were there when it began
	seq     uint64 // of the consumer's latest message
	ends    bool   // with all that there was
}

// follow begins a feed.
func (s *store) follow(ctx context.Context, filter string) (f *feed, err error) {
	err = s.inBucket(ctx, func() error {
		f, err = s.consume(ctx, filter)
		return err
	})
	return f, judge(err)
}

// consume makes a consumer, whose error may be the server's.
func (s *store) consume(ctx context.Context, filter string) (*feed, error) {
	r, err := s.conn.begin(ctx, s.conn.api+"CONSUMER.CREATE."+s.stream)
	if err != nil {
		return nil, err
	}
	defer r.end()
	conn := s.conn.js.Conn()
	sub, err := conn.SubscribeSync(conn.NewInbox())
	if err != nil {
		return nil, r.failed(err)
	}
	_ = sub.SetPendingLimits(-1, -1) // a record for each key, when all are listed
	consumer, err := s.conn.js.CreatePushConsumer(r.ctx, s.stream, jetstream.ConsumerConfig{
		DeliverSubject: sub.Subject, FilterSubject: filter, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
		AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1, IdleHeartbeat: heartbeat,
		MemoryStorage: true, Replicas: 1, // a lost one is made anew
	})
	if err == nil {
		return &feed{conn: s.conn, sub: sub, pending: consumer.CachedInfo().NumPending}, nil
	}
	_ = sub.Unsubscribe()
	if e, ok := errors.AsType[jetstream.JetStreamError](err); ok && e.APIError() != nil {
		return nil, err
	}
	return nil, r.failed(err)
}

func (f *feed) stop() { _ = f.sub.Unsubscribe() }

// errGap says that messages may be missing.
var errGap = errors.New("nats: messages of the bucket were not received")

// errAll says that a feed which ends has received all that there was.
var errAll = errors.New("nats: there is no other message")

// next is the next message, and its place. Its errors, but errAll, mean that messages may be
// missing.
func (f *feed) next(ctx context.Context) (*natsgo.Msg, *natsgo.MsgMetadata, error) {
	for {
		waiting, cancel := context.WithTimeout(ctx, silence)
		m, err := f.sub.NextMsgWithContext(waiting)
		cancel()
		if err != nil {
			return nil, nil, err
		}
		if m.Header.Get("Status") != "" {
			// A heartbeat says how much was sent, which may have been lost on its way. Any
			// other status says that the consumer has ended or moved.
			sent, err := strconv.ParseUint(m.Header.Get("Nats-Last-Consumer"), 10, 64)
			if err != nil || sent != f.seq {
				return nil, nil, errGap
			}
			if f.ends {
				return nil, nil, errAll // the server sends one only when there is nothing else
			}
			continue
		}
		at, err := m.Metadata()
		if err != nil || at.Sequence.Consumer != f.seq+1 {
			return nil, nil, errGap
		}
		f.seq++
		return m, at, nil
	}
}

// Watch follows a key, and begins anew when messages are missing: after the connection was
// lost, when the consumer's server hangs, or when the bucket was made anew.
func (s *store) Watch(ctx context.Context, name string, changed func(*record.Entry)) (func(), error) {
	f, err := s.follow(ctx, s.prefix+name)
	if err != nil {
		return nil, err
	}
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() {
		for {
			s.pass(watching, f, changed)
			f.stop()
			if watching.Err() != nil {
				return
			}
			changed(nil)
			if f = s.followAgain(watching, s.prefix+name); f == nil {
				return
			}
			changed(nil)
		}
	})
	return sync.OnceFunc(func() { cancel(); done.Wait() }), nil
}

// pass hands on what a feed receives, until messages are missing.
func (s *store) pass(ctx context.Context, f *feed, changed func(*record.Entry)) {
	// The loss of the connection is noticed at once, not by silence.
	r, err := s.conn.begin(ctx, f.sub.Subject)
	if err != nil {
		return
	}
	defer r.end()
	for {
		m, at, err := f.next(r.ctx)
		if err != nil {
			return
		}
		if marks(m.Header) {
			changed(&record.Entry{})
		} else if e, err := entry(m.Data, at.Sequence.Stream, at.Timestamp); err == nil {
			changed(&e)
		} else {
			changed(nil) // somebody else's writing: looking says so
		}
	}
}

// followAgain tries until it has a feed; nil: ctx has ended.
func (s *store) followAgain(ctx context.Context, filter string) *feed {
	for wait := rewatch; ; wait = min(2*wait, rewatchMax) {
		bounded, cancel := context.WithTimeout(ctx, silence)
		f, err := s.follow(bounded, filter)
		cancel()
		if err == nil {
			return f
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// List receives all records: subjects can be chosen by whole tokens only, and a key is one.
// What is no record is left out: it must not hide others.
func (s *store) List(ctx context.Context, prefix string) iter.Seq2[record.Entry, error] {
	return func(yield func(record.Entry, error) bool) {
		f, err := s.follow(ctx, s.prefix+">")
		if err != nil {
			yield(record.Entry{}, err)
			return
		}
		defer f.stop()
		s.list(ctx, f, s.prefix+prefix, yield)
	}
}

// list yields what a feed receives until it has all.
func (s *store) list(ctx context.Context, f *feed, prefix string, yield func(record.Entry, error) bool) {
	r, err := s.conn.begin(ctx, f.sub.Subject)
	if err != nil {
		yield(record.Entry{}, err)
		return
	}
	defer r.end()
	// Keys that are pruned meanwhile never come: what is left is only at most what there was.
	f.ends = true
	for left := f.pending; left > 0; {
		m, at, err := f.next(r.ctx)
		if errors.Is(err, errAll) {
			return
		}
		if err != nil {
			yield(record.Entry{}, r.failed(err))
			return
		}
		left = at.NumPending
		if marks(m.Header) || !strings.HasPrefix(m.Subject, prefix) {
			continue
		}
		if e, err := entry(m.Data, at.Sequence.Stream, at.Timestamp); err == nil && !yield(e, nil) {
			return
		}
	}
}
