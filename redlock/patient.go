package redlock

import (
	"context"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// patient is a client whose requests outlive those who wait for them. The library
// connects once for all requests that need the connection, under the context of the
// first of them, and closes a connection whose only request's context has ended: an
// Inspect that is given up would take other callers' votes with it.
type patient struct {
	rueidis.Client
	closing context.Context // ends with the locker
	wg      *sync.WaitGroup // the locker's: whoever asks has begun
}

// longest is above the library's own limits for a connect and an answer, which end a
// request; it is for a caller's client that tries again by itself.
const longest = 15 * time.Second

func (p patient) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	if ctx.Done() == nil { // the requests of holds
		return p.Client.Do(ctx, cmd)
	}
	res, err := outlive(ctx, p, func(ctx context.Context) rueidis.RedisResult { return p.Client.Do(ctx, cmd) })
	if err != nil {
		return rueidis.NewErrorResult(err)
	}
	return res
}

func (p patient) DoMulti(ctx context.Context, cmds ...rueidis.Completed) []rueidis.RedisResult {
	res, err := outlive(ctx, p, func(ctx context.Context) []rueidis.RedisResult { return p.Client.DoMulti(ctx, cmds...) })
	if err != nil {
		res = make([]rueidis.RedisResult, len(cmds))
		for i := range res {
			res[i] = rueidis.NewErrorResult(err)
		}
	}
	return res
}

// Nodes are a Cluster's servers, as patient.
func (p patient) Nodes() map[string]rueidis.Client {
	nodes := p.Client.Nodes()
	for addr, c := range nodes {
		nodes[addr] = patient{c, p.closing, p.wg}
	}
	return nodes
}

// outlive waits for what ask gives until ctx ends. ask goes on: the answer, the death of
// the connection or the locker's Close ends it.
func outlive[T any](ctx context.Context, p patient, ask func(context.Context) T) (res T, err error) {
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	answer := make(chan T, 1)
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longest)
		defer cancel()
		defer context.AfterFunc(p.closing, cancel)()
		answer <- ask(ctx)
	})
	select {
	case res = <-answer:
		return res, nil
	case <-ctx.Done():
		return res, ctx.Err()
	}
}
