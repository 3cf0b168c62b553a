package nodeconn

import (
	"context"
	"sync"

	"github.com/redis/rueidis"
)

// detached is a client whose requests outlive those who wait for them. The library
// connects once for all requests that need the connection, under the context of the
// first of them, and closes a connection whose only request's context has ended: an
// Inspect that is given up would take other callers' votes with it. A request ends
// as those of holds do: by its answer or the death of the connection.
type detached struct {
	rueidis.Client
	wg *sync.WaitGroup // of the owner: callers are counted in it
}

func (p detached) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	if ctx.Done() == nil { // the requests of holds
		return p.Client.Do(ctx, cmd)
	}
	res, err := outlive(ctx, p.wg, func(ctx context.Context) rueidis.RedisResult { return p.Client.Do(ctx, cmd) })
	if err != nil {
		return rueidis.NewErrorResult(err)
	}
	return res
}

func (p detached) DoMulti(ctx context.Context, cmds ...rueidis.Completed) []rueidis.RedisResult {
	res, err := outlive(ctx, p.wg, func(ctx context.Context) []rueidis.RedisResult { return p.Client.DoMulti(ctx, cmds...) })
	if err != nil {
		res = make([]rueidis.RedisResult, len(cmds))
		for i := range res {
			res[i] = rueidis.NewErrorResult(err)
		}
	}
	return res
}

// Nodes are a Cluster's servers, as detached.
func (p detached) Nodes() map[string]rueidis.Client {
	nodes := map[string]rueidis.Client{}
	for addr, c := range p.Client.Nodes() {
		nodes[addr] = detached{c, p.wg}
	}
	return nodes
}

// outlive waits for what ask gives until ctx ends; ask goes on.
func outlive[T any](ctx context.Context, wg *sync.WaitGroup, ask func(context.Context) T) (res T, err error) {
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	answer := make(chan T, 1)
	wg.Go(func() { answer <- ask(context.WithoutCancel(ctx)) })
	select {
	case res = <-answer:
		return res, nil
	case <-ctx.Done():
		return res, ctx.Err()
	}
}
