package fence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// Header is the HTTP header that carries the fencing token, in decimal digits.
const Header = "Fencing-Token"

// SetHeader puts the token of key into a request that is made under a lease: that of
// [lock.TokenOf] of r's context. An error matches [lock.ErrInvalid]: the context is none
// of a lease of key, and the request must not be sent.
func SetHeader(r *http.Request, key string) error {
	token := lock.TokenOf(r.Context(), key)
	if err := check(key, token); err != nil {
		return err
	}
	r.Header.Set(Header, strconv.FormatUint(token, 10))
	return nil
}

// FromRequest reads the token that SetHeader has put there, for a server that keeps its
// tokens elsewhere than in a [Memory]. An error matches [lock.ErrInvalid].
func FromRequest(r *http.Request) (uint64, error) {
	values := r.Header.Values(Header)
	if len(values) != 1 {
		return 0, fmt.Errorf("fence: %w: the request has %d headers %s, want one", lock.ErrInvalid, len(values), Header)
	}
	token, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil || token == 0 {
		return 0, fmt.Errorf("fence: %w: the header %s is %.40q, want a number from 1 to %d", lock.ErrInvalid, Header, values[0], uint64(MaxToken))
	}
	return token, nil
}

// staleWrite is for a client whose request is late to take what next sends it.
const staleWrite = 2 * time.Second

// leave ends what is read from and sent to the client of a late request. Once the body is over,
// net/http itself reads on to notice that the client has gone: a deadline would seem to be that,
// and end the contexts of all later requests of the connection.
func leave(w http.ResponseWriter, body *tracked) {
	control := http.NewResponseController(w)
	if !body.over.Load() {
		_ = control.SetReadDeadline(time.Now()) // a test's writer may not have one
	}
	_ = control.SetWriteDeadline(time.Now().Add(staleWrite))
}

// tracked is a request's body that knows when nothing more of it is to be read.
type tracked struct {
	io.ReadCloser
	over atomic.Bool
}

func track(body io.ReadCloser) *tracked {
	t := &tracked{ReadCloser: body}
	t.over.Store(body == nil || body == http.NoBody)
	return t
}

func (t *tracked) Read(b []byte) (int, error) {
	n, err := t.ReadCloser.Read(b)
	if err == io.EOF {
		t.over.Store(true)
	}
	return n, err
}

func (t *tracked) Close() error {
	defer t.over.Store(true)
	return t.ReadCloser.Close()
}

// Handler serves each request by next under its token and the key that key returns for
// it: see [Memory.Do], whose guarantees it has. When a request of a later holder arrives,
// the contexts of those of earlier ones end, and it is served when they have returned; so
// next must stop writing when its context ends. What it reads of such a request's body ends at
// once, and what it sends to the client within a few seconds: an earlier holder that was paused
// within its request holds up nobody. (Where the ResponseWriter has deadlines; that of the
// net/http server does.)
//
// A request without a usable token, or for which key returns "", is answered 400; a late
// one 412 (Precondition Failed); one whose client gave up while it waited for an earlier
// holder's, 503. Wrap what writes: reads need no token.
//
// The tokens end with the process. Where what next writes does not, a restart in the
// moment between two leaders lets a late write in: keep them beside the data instead,
// with FromRequest and [SQL.Admit].
func Handler(m *Memory, key func(*http.Request) string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := FromRequest(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		served := false
		err = m.Do(r.Context(), key(r), token, func(ctx context.Context) error {
			served = true
			// A read of the body knows no context: it would last for as long as the client likes.
			mine, body := r.WithContext(ctx), track(r.Body)
			if !body.over.Load() {
				mine.Body = body
			}
			left := make(chan struct{})
			stop := context.AfterFunc(ctx, func() {
				defer close(left)
				if errors.Is(context.Cause(ctx), ErrStale) {
					leave(w, body)
				}
			})
			defer func() {
				if !stop() {
					<-left // w may not be used after this
				}
			}()
			next.ServeHTTP(w, mine)
			return nil
		})
		switch {
		case served || err == nil:
		case errors.Is(err, ErrStale):
			http.Error(w, err.Error(), http.StatusPreconditionFailed)
		case errors.Is(err, lock.ErrInvalid):
			http.Error(w, err.Error(), http.StatusBadRequest)
		default:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
}
