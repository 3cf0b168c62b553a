package lock

import "context"

type tokenKey struct{}

// tokens is what a context knows of the leases that it stands for, the innermost first.
type tokens struct {
	key   string // "" where only the token is known
	token uint64
	outer *tokens
}

// Token returns the fencing token of the innermost lease that ctx stands for, inside
// keepalive.Do, a Keeper's context and a leader's function. 0 means none: a store that
// checks tokens must refuse it.
//
// Where locks are nested, the innermost lease may not be the one that the write is
// under: use [TokenOf].
func Token(ctx context.Context) uint64 {
	if t := tokensOf(ctx); t != nil {
		return t.token
	}
	return 0
}

// TokenOf returns the fencing token of the lease of key that ctx stands for, however
// many leases of other keys are nested inside it. 0 means none. key is the name that
// keepalive.Do or package leader was given, or the full name that Lease.Key returns.
func TokenOf(ctx context.Context, key string) uint64 {
	for t := tokensOf(ctx); t != nil; t = t.outer {
		if t.key == key && key != "" {
			return t.token
		}
	}
	return 0
}

// WithToken returns a copy of ctx that stands for a lease with this token, of a key that
// is not said: TokenOf does not find it. It is for tests of stores that check tokens.
func WithToken(ctx context.Context, token uint64) context.Context {
	return WithTokenOf(ctx, "", token)
}

// WithTokenOf returns a copy of ctx that stands for a lease of key with this token. It
// is for code that hands out such contexts, as keepalive and leader do.
func WithTokenOf(ctx context.Context, key string, token uint64) context.Context {
	return context.WithValue(ctx, tokenKey{}, &tokens{key, token, tokensOf(ctx)})
}

func tokensOf(ctx context.Context) *tokens {
	t, _ := ctx.Value(tokenKey{}).(*tokens)
	return t
}
