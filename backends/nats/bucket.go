package nats

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tonsurance/lockkeeper/lock"
)

// binding is whether the bucket was found and can keep locks.
type binding struct {
	slot chan struct{} // full while one call looks; the others wait for what it finds

	mu    sync.Mutex // guards bound
	bound bool
}

func newBinding() *binding { return &binding{slot: make(chan struct{}, 1)} }

func (b *binding) is() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bound
}

func (b *binding) set(bound bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bound = bound
}

// forget has the next call look anew.
func (b *binding) forget() { b.set(false) }

// bind finds the bucket, makes it if there is none, and refuses one that can't keep locks.
func (s *store) bind(ctx context.Context) error {
	if s.binding.is() {
		return nil
	}
	select {
	case s.binding.slot <- struct{}{}:
		defer func() { <-s.binding.slot }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.binding.is() {
		return nil // by the call before
	}
	info, err := s.info(ctx)
	if is(err, jetstream.JSErrCodeStreamNotFound) {
		if err = s.make(ctx); err == nil {
			info, err = s.info(ctx)
		} else {
			return fmt.Errorf("there is no bucket %s, and it can't be made: %w", s.bucket(), judge(err))
		}
	}
	if err != nil {
		return judge(err)
	}
	if err := s.fit(info.Config); err != nil {
		return err
	}
	s.binding.set(true)
	return nil
}

// inBucket does something with the bucket, and once more if somebody has deleted it.
func (s *store) inBucket(ctx context.Context, do func() error) error {
	for again := true; ; again = false {
		if err := s.bind(ctx); err != nil {
			return err
		}
		err := do()
		if !again || !is(err, jetstream.JSErrCodeStreamNotFound) {
			return err
		}
		s.binding.forget()
	}
}

// is reports whether err is the server's with this code.
func is(err error, code jetstream.ErrorCode) bool {
	e, ok := errors.AsType[jetstream.JetStreamError](err)
	return ok && e.APIError() != nil && e.APIError().ErrorCode == code
}

// info is the stream's, as its leader has it.
func (s *store) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	var reply jetstream.StreamInfo
	if err := s.conn.ask(ctx, "STREAM.INFO."+s.stream, nil, &reply); err != nil {
		return nil, err
	}
	return &reply, nil
}

// codeNotClustered is the server's for "replicas > 1 not supported in non-clustered mode".
const codeNotClustered = 10074

// make makes the bucket, with the configuration that the client would give it but for two
// fields: reads come from the leader alone, and revisions begin at a random one.
func (s *store) make(ctx context.Context) error {
	cfg := jetstream.StreamConfig{
		Name: s.stream, Subjects: []string{s.prefix + ">"}, Description: "locks of lockkeeper",
		MaxMsgsPerSubject: 1, MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, Duplicates: 2 * time.Minute,
		AllowRollup: true, DenyDelete: true, AllowDirect: false,
		Replicas: s.replicas, FirstSeq: firstRevision(),
	}
	if cfg.Replicas == 0 {
		cfg.Replicas = 3
	}
	err := s.conn.makeStream(ctx, cfg)
	if is(err, codeNotClustered) && s.replicas == 0 {
		cfg.Replicas = 1
		err = s.conn.makeStream(ctx, cfg)
	}
	if is(err, jetstream.JSErrCodeStreamNameInUse) {
		return nil // another process was quicker
	}
	return err
}

// firstRevision is where the revisions of a new bucket begin: at a random number of 52 bits.
// Else a bucket that is deleted and made anew would begin at 1 again, and a holder of before,
// or a write of before that comes late, could replace another's record that happens to have
// the same revision. It stays below 2^53, which every tool that reads JSON can show.
func firstRevision() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return leastRevision + binary.LittleEndian.Uint64(b[:])>>12
}

// leastRevision is below every one of a bucket that was made here, and above those of others:
// their revisions begin at 1.
const leastRevision = 1 << 40

// ours refuses a revision of a bucket that somebody has made by another tool in place of the one
// that was found, and has the next call look at what is there.
func (s *store) ours(revision uint64) error {
	if revision >= leastRevision {
		return nil
	}
	s.binding.forget()
	return fmt.Errorf("%w: the bucket %s was replaced by one that lockkeeper has not made; delete it", lock.ErrRefused, s.bucket())
}

func (s *store) bucket() string { return s.stream[len("KV_"):] }

// leastMessage is what the server must take as a message: more than a record has, with a key of
// any length, a long name of its holder and a queue of hundreds.
const leastMessage = 8 << 10

// fit refuses a bucket in which locks would be lost or mixed up.
func (s *store) fit(c jetstream.StreamConfig) error {
	why, do := "", ""
	switch {
	case c.Mirror != nil || len(c.Sources) > 0:
		why, do = "mirrors another", "name the original"
	case c.FirstSeq < leastRevision:
		why = "was not made by lockkeeper: its revisions begin at 1, so that those of before would be used again when it is deleted and made anew"
		do = "name another bucket, which lockkeeper makes, or delete this one if it is not used"
	case c.MaxAge > 0:
		why, do = fmt.Sprintf("deletes keys after %v (its ttl), also those of locks that are held", c.MaxAge), "set its ttl to 0"
	case c.Discard == jetstream.DiscardOld && (c.MaxMsgs > 0 || c.MaxBytes > 0):
		why, do = "discards old keys when it is full, also those of locks that are held", "set its discard policy to new"
	case c.PersistMode == jetstream.AsyncPersistMode:
		why, do = "acknowledges writes before they are written (persist_mode async)", "name another bucket, which lockkeeper makes"
	case c.Retention != jetstream.LimitsPolicy:
		why, do = fmt.Sprintf("deletes keys that were read (its retention is %s), also those of locks that are held", strings.ToLower(c.Retention.String())), "set its retention to limits"
	case c.SubjectTransform != nil:
		why, do = "keeps keys under other subjects", "remove its subject transform"
	case c.NoAck:
		why, do = "acknowledges no writes", "set no_ack to false"
	case c.Sealed:
		why, do = "is sealed, and takes no writes", "name another bucket, which lockkeeper makes"
	case c.Discard == jetstream.DiscardNew && c.DiscardNewPerSubject:
		why, do = "takes one write for each key (discard_new_per_subject)", "set that to false"
	case c.MaxMsgsPerSubject < 1:
		why, do = "keeps every renewal for ever (its history has no limit)", "set max_msgs_per_subject to 1"
	case c.MaxMsgSize > 0 && c.MaxMsgSize < leastMessage:
		why, do = fmt.Sprintf("takes messages of up to %d bytes", c.MaxMsgSize), fmt.Sprintf("allow %d", leastMessage)
	default:
		return nil
	}
	return fmt.Errorf("%w: the bucket %s %s; %s", lock.ErrRefused, s.bucket(), why, do)
}
