package record

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// internalKey is the key in records that are no lock's. Their names are no key's.
const internalKey = "lockkeeper"

// Health reads and writes a record of its own, as a lock does, and adds what the store
// knows of its server ([Describer]). It returns an error only if the Locker is closed or
// ctx has ended before it began.
func (l *Locker) Health(ctx context.Context) (lock.Health, error) {
	ctx, done, err := l.begin(ctx)
	if err != nil {
		return lock.Health{}, fmt.Errorf("record: health: %w", err)
	}
	defer done()
	node := lock.NodeHealth{Name: "store"}
	start := time.Now()
	err = l.probe(ctx)
	latency := time.Since(start)
	if d, ok := l.store.(Describer); ok {
		bounded, cancel := context.WithTimeout(ctx, l.opts.Timeout)
		node = d.Describe(bounded)
		cancel()
	}
	node.Latency = latency
	if err != nil {
		node.Err = err // what a lock would meet comes first
	}
	return lock.Health{Nodes: []lock.NodeHealth{node}, Quorum: 1}, nil
}

// probe makes one write as a lock does. Another's at the same time is as good as its own.
func (l *Locker) probe(ctx context.Context) error {
	name := l.opts.Names.internal("health")
	e, err := l.get(ctx, name, internalKey)
	if err != nil {
		return err
	}
	r := Record{Key: internalKey, Seq: e.Record.Seq + 1, Holder: l.opts.Owner, Until: time.Now()}
	if _, err := l.put(ctx, name, r, e.Version); err != nil && !errors.Is(err, ErrChanged) {
		return err
	}
	return nil
}
