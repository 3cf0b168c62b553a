package lock

import "context"

type tokenKey struct{}

// Token returns the fencing token of the lease that ctx stands for, inside
// keepalive.Do, a Keeper's context and a leader's function. 0 means none: a
// store that checks tokens must refuse it.
func Token(ctx context.Context) uint64 {
	token, _ := ctx.Value(tokenKey{}).(uint64)
	return token
}

// WithToken returns a copy of ctx that stands for a lease with this token. It is
// for code that hands out such contexts, and for tests of stores that check them.
func WithToken(ctx context.Context, token uint64) context.Context {
	return context.WithValue(ctx, tokenKey{}, token)
}
