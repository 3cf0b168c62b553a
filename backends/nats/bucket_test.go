package nats

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestABucketThatCanNotKeepLocksIsRefused(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	js, ctx := dialed(t, c), t.Context()
	// edited is a bucket that was made here and changed by somebody.
	edited := func(bucket string, edit func(*jetstream.StreamConfig)) {
		require.NoError(t, opened(t, js, bucket).bind(ctx))
		info, err := js.Stream(ctx, "KV_"+bucket)
		require.NoError(t, err)
		cfg := info.CachedInfo().Config
		edit(&cfg)
		_, err = js.UpdateStream(ctx, cfg)
		require.NoError(t, err)
	}
	_, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "foreign"})
	require.NoError(t, err)
	edited("forgets", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })
	edited("overflows", func(c *jetstream.StreamConfig) { c.Discard, c.MaxBytes = jetstream.DiscardOld, 1<<20 })
	edited("consumed", func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy })
	edited("moved", func(c *jetstream.StreamConfig) {
		c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "$KV.moved.>", Destination: "elsewhere.>"}
	})
	edited("silent", func(c *jetstream.StreamConfig) { c.NoAck = true })
	edited("sealed", func(c *jetstream.StreamConfig) { c.Sealed = true })
	edited("once", func(c *jetstream.StreamConfig) { c.DiscardNewPerSubject = true })
	edited("endless", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = -1 })
	edited("small", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 300 })
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "KV_low", Subjects: []string{"$KV.low.>"}, MaxMsgsPerSubject: 1, FirstSeq: 7})
	require.NoError(t, err)
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "KV_mirror", Mirror: &jetstream.StreamSource{Name: "KV_forgets"}})
	require.NoError(t, err)
	for bucket, want := range map[string]string{
		"foreign":   "its revisions begin at 1",
		"forgets":   "set its ttl to 0",
		"overflows": "set its discard policy to new",
		"mirror":    "name the original",
		"consumed":  "set its retention to limits",
		"moved":     "remove its subject transform",
		"silent":    "set no_ack to false",
		"sealed":    "is sealed",
		"once":      "discard_new_per_subject",
		"endless":   "set max_msgs_per_subject to 1",
		"small":     "messages of up to 300 bytes",
		"low":       "its revisions begin at 1",
	} {
		l := locker(t, js, &Options{Bucket: bucket})
		_, err := l.TryAcquire(ctx, "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrRefused, bucket)
		require.ErrorContains(t, err, want)
		h, err := l.Health(ctx)
		require.NoError(t, err)
		require.ErrorContains(t, h.Nodes[0].Err, want)
	}
	edited("direct", func(c *jetstream.StreamConfig) { c.AllowDirect = true })
	lease, err := locker(t, js, &Options{Bucket: "direct"}).TryAcquire(ctx, "k", time.Minute)
	require.NoError(t, err, "direct reads are not used, and do no harm")
	require.NoError(t, lease.Release(ctx))
}

// Who has a key replaces it; a new key finds no room, which is no outage.
func TestAFullBucketRefusesNewKeysAndKeepsWhatIsHeld(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	js, ctx := dialed(t, c), t.Context()
	l, fresh := locker(t, js, nil), locker(t, js, nil)
	lease, err := l.TryAcquire(ctx, "k", time.Minute)
	require.NoError(t, err)
	stream, err := js.Stream(ctx, "KV_"+DefaultBucket)
	require.NoError(t, err)
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs = int64(stream.CachedInfo().State.Msgs)
	if _, err = js.UpdateStream(ctx, cfg); err != nil || cfg.MaxMsgs != 1 {
		t.Fatalf("%d messages: %v", cfg.MaxMsgs, err)
	}
	for range 3 {
		require.NoError(t, lease.Extend(ctx, time.Minute))
	}
	_, err = fresh.TryAcquire(ctx, "another", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "raise the bucket's limits")
	h, err := l.Health(ctx)
	require.NoError(t, err)
	require.Contains(t, strings.Join(h.Nodes[0].Warnings, "\n"), "has 1 of 1 messages")
	require.NoError(t, lease.Release(ctx))
}

// The connection stays, so nothing but the revisions shows it.
func TestABucketThatIsReplacedByAnotherToolsIsRefused(t *testing.T) {
	t.Parallel()
	c := storetest.StartNats(t, 1, storetest.NatsConfig{})
	js, ctx := dialed(t, c), t.Context()
	l, other := locker(t, js, nil), locker(t, js, nil)
	lease, err := l.TryAcquire(ctx, "k", time.Hour)
	require.NoError(t, err)
	_, err = other.TryAcquire(ctx, "other", time.Hour)
	require.NoError(t, err)
	require.NoError(t, js.DeleteKeyValue(ctx, DefaultBucket))
	_, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: DefaultBucket})
	require.NoError(t, err)
	_, err = other.TryAcquire(ctx, "k", time.Hour)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "replaced by one that lockkeeper has not made")
	_, err = other.TryAcquire(ctx, "k", time.Hour)
	require.ErrorContains(t, err, "its revisions begin at 1")
	require.Error(t, lease.Extend(ctx, time.Hour))
}
