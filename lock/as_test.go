package lock_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

type plain struct{}

func (plain) TryAcquire(context.Context, string, time.Duration) (lock.Lease, error) {
	return nil, errors.New("not used")
}

type closing struct {
	plain
	name string
}

func (closing) Close() error { return nil }

type wrapping struct {
	plain
	inner lock.Locker
}

func (w wrapping) Unwrap() lock.Locker { return w.inner }

// translating gives an io.Closer of its own by As, and nothing else.
type translating struct{ plain }

func (translating) As(target any) bool {
	c, ok := target.(*io.Closer)
	if ok {
		*c = closing{name: "translated"}
	}
	return ok
}

type translatingAndWrapping struct {
	translating
	inner lock.Locker
}

func (w translatingAndWrapping) Unwrap() lock.Locker { return w.inner }

func TestAsTriesTheLockerThenItsAsThenTheOneBelow(t *testing.T) {
	bottom := closing{name: "bottom"}
	for name, c := range map[string]struct {
		l    lock.Locker
		want any
	}{
		"itself":              {bottom, bottom},
		"below":               {wrapping{inner: wrapping{inner: bottom}}, bottom},
		"its As":              {translating{}, closing{name: "translated"}},
		"As before Unwrap":    {translatingAndWrapping{inner: bottom}, closing{name: "translated"}},
		"As of the one below": {wrapping{inner: translating{}}, closing{name: "translated"}},
		"nothing":             {plain{}, nil},
		"nothing below":       {wrapping{inner: plain{}}, nil},
		"Unwrap to nil":       {wrapping{}, nil},
		"no locker":           {nil, nil},
	} {
		got, ok := lock.As[io.Closer](c.l)
		require.Equal(t, c.want != nil, ok, name)
		if c.want != nil {
			require.Equal(t, c.want, got, name)
		} else {
			require.Nil(t, got, name)
		}
	}
}

func TestAsGoesOnBelowALockerWhoseAsSaysNo(t *testing.T) {
	_, ok := lock.As[lock.Watcher](translatingAndWrapping{inner: closing{}})
	require.False(t, ok)
	below := &fakeLocker{}
	w, ok := lock.As[lock.Locker](below)
	require.True(t, ok)
	require.Same(t, below, w)
	type unusual interface{ onlyFake() }
	u, ok := lock.As[unusual](translatingAndWrapping{inner: below})
	require.True(t, ok)
	require.Same(t, below, u)
}
