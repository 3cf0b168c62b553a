package fence_test

import (
	"context"
	"database/sql"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/fence"
	"github.com/tonsurance/lockkeeper/internal/fencetest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
)

// values are what is written, in memory.
type values struct {
	mu sync.Mutex
	of map[string]string
}

func (v *values) set(key, value string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.of == nil {
		v.of = map[string]string{}
	}
	v.of[key] = value
}

func (v *values) get(_ context.Context, key string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.of[key], nil
}

func TestMemory(t *testing.T) {
	var m fence.Memory
	var v values
	fencetest.Run(t, "", fencetest.Resource{
		Write: func(ctx context.Context, key string, token uint64, value string) error {
			return m.Do(ctx, key, token, func(ctx context.Context) error {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				v.set(key, value)
				return nil
			})
		},
		Read: v.get,
	})
}

func TestAFunctionThatIsNilAdmitsNothing(t *testing.T) {
	var m fence.Memory
	require.ErrorIs(t, m.Do(t.Context(), "k", 7, nil), lock.ErrInvalid)
	require.NoError(t, m.Do(t.Context(), "k", 1, func(context.Context) error { return nil }))
}

func TestALargerTokenEndsTheContextsOfEarlierOnesAndWaitsForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m fence.Memory
		var order []string
		goOn := make(chan struct{})
		go func() {
			_ = m.Do(t.Context(), "k", 1, func(ctx context.Context) error {
				<-ctx.Done()
				require.ErrorIs(t, context.Cause(ctx), fence.ErrStale)
				<-goOn // it takes its time to stop
				order = append(order, "first has ended")
				return nil
			})
		}()
		synctest.Wait()
		waiting := make(chan error, 1)
		go func() { // with a token between the two: it never runs
			waiting <- m.Do(t.Context(), "k", 2, func(context.Context) error {
				order = append(order, "second")
				return nil
			})
		}()
		synctest.Wait()
		go func() {
			_ = m.Do(t.Context(), "k", 3, func(context.Context) error {
				order = append(order, "third")
				return nil
			})
		}()
		synctest.Wait()
		require.Empty(t, order)
		require.ErrorIs(t, <-waiting, fence.ErrStale)
		close(goOn)
		synctest.Wait()
		require.Equal(t, []string{"first has ended", "third"}, order)
	})
}

func TestAWriteWhoseContextEndsWhileItWaitsIsNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m fence.Memory
		goOn := make(chan struct{})
		go func() { _ = m.Do(t.Context(), "k", 1, func(context.Context) error { <-goOn; return nil }) }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- m.Do(ctx, "k", 2, func(context.Context) error { t.Error("it ran"); return nil })
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		late := func(context.Context) error { t.Error("it ran"); return nil }
		require.ErrorIs(t, m.Do(t.Context(), "k", 1, late), fence.ErrStale, "its token counts all the same")
		close(goOn)
	})
}

func TestRedis(t *testing.T) {
	for name, address := range map[string]string{"real": redistest.Start(t).Addr(), "miniredis": miniredis.RunT(t).Addr()} {
		t.Run(name, func(t *testing.T) {
			client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, DisableCache: true})
			require.NoError(t, err)
			t.Cleanup(client.Close)
			r, err := fence.NewRedis(client)
			require.NoError(t, err)
			named := func(key string) string { return "value:{fence:" + key + "}" } // in a cluster, too
			fencetest.Run(t, "", fencetest.Resource{
				Write: func(ctx context.Context, key string, token uint64, value string) error {
					_, err := r.Do(ctx, key, token, []string{named(key)}, []string{"SET", named(key), value})
					return err
				},
				Read: func(ctx context.Context, key string) (string, error) {
					value, err := client.Do(ctx, client.B().Get().Key(named(key)).Build()).ToString()
					if rueidis.IsRedisNil(err) {
						return "", nil
					}
					return value, err
				},
			})

			replies, err := r.Do(t.Context(), "k", 1, []string{named("k"), "none{fence:k}"},
				[]string{"INCRBY", named("k"), "5"}, []string{"GET", "none{fence:k}"}, []string{"GET", named("k")})
			require.NoError(t, err)
			require.Len(t, replies, 3, "one for each command")
			n, err := replies[0].AsInt64()
			require.NoError(t, err)
			require.EqualValues(t, 5, n)

			require.NoError(t, client.Do(t.Context(), client.B().Set().Key(fence.RedisPrefix+"odd").Value("no number").Build()).Error())
			_, err = r.Do(t.Context(), "odd", 1, nil, []string{"SET", "n", "0"})
			require.ErrorContains(t, err, "fence:odd holds no token")
			_, err = r.Do(t.Context(), "k", 1, nil, nil)
			require.ErrorIs(t, err, lock.ErrInvalid)
			if name == "miniredis" { // which says that it is a cluster
				_, err = r.Do(t.Context(), "k", 1, []string{"elsewhere"}, []string{"SET", "elsewhere", "x"})
				require.ErrorIs(t, err, lock.ErrInvalid)
				require.ErrorContains(t, err, "several hash slots")
			}
		})
	}
}

func TestHandler(t *testing.T) {
	var m fence.Memory
	var v values
	server := httptest.NewServer(fence.Handler(&m, func(r *http.Request) string { return r.URL.Query().Get("key") },
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Context().Err() == nil {
				v.set(r.URL.Query().Get("key"), r.URL.Query().Get("value"))
			}
		})))
	t.Cleanup(server.Close)
	send := func(r *http.Request) (int, string) {
		response, err := server.Client().Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, strings.TrimSpace(string(body))
	}
	put := func(ctx context.Context, key, value string) *http.Request {
		r, err := http.NewRequestWithContext(ctx, http.MethodPut, server.URL, nil)
		require.NoError(t, err)
		q := r.URL.Query()
		q.Set("key", key)
		q.Set("value", value)
		r.URL.RawQuery = q.Encode()
		return r
	}
	fencetest.Run(t, "", fencetest.Resource{
		Write: func(ctx context.Context, key string, token uint64, value string) error {
			r := put(lock.WithTokenOf(ctx, key, token), key, value)
			if err := fence.SetHeader(r, key); err != nil {
				return err
			}
			switch status, body := send(r); status {
			case http.StatusOK:
				return nil
			case http.StatusPreconditionFailed:
				latest := uint64(0)
				if strings.HasSuffix(body, "one with 9 was admitted") {
					latest = 9
				}
				return &fence.StaleError{Key: key, Token: token, Latest: latest}
			default:
				t.Errorf("status %d: %s", status, body)
				return nil
			}
		},
		Read: v.get,
	})
	for header, want := range map[string]string{
		"":  "0 headers Fencing-Token",
		"0": `is "0", want a number from 1`, "-1": "want a number", "1.5": "want a number", "18446744073709551615": "want a number",
	} {
		r := put(t.Context(), "k", "x")
		if header != "" {
			r.Header.Set(fence.Header, header)
		}
		status, body := send(r)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, body, want)
	}
	r := put(t.Context(), "", "x")
	r.Header.Set(fence.Header, "1")
	status, body := send(r)
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "the key is empty")
}

// An earlier holder was paused while it sent its request, or while it read the answer: no context
// ends that.
func TestAHolderThatIsPausedWithinItsRequestHoldsUpNobody(t *testing.T) {
	for name, next := range map[string]http.HandlerFunc{
		"while it sends": func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) },
		"while it reads": func(w http.ResponseWriter, _ *http.Request) {
			for block := make([]byte, 1<<20); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			began := make(chan struct{})
			var m fence.Memory
			server := httptest.NewServer(fence.Handler(&m, func(*http.Request) string { return "k" },
				http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get(fence.Header) == "1" {
						close(began)
						next(w, r)
					}
				})))
			t.Cleanup(server.Close)
			paused, err := net.Dial("tcp", server.Listener.Addr().String())
			require.NoError(t, err)
			t.Cleanup(func() { _ = paused.Close() })
			_, err = io.WriteString(paused, "PUT / HTTP/1.1\r\nHost: localhost\r\nFencing-Token: 1\r\nContent-Length: 1000\r\n\r\nhalf")
			require.NoError(t, err)
			<-began
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodPut, server.URL, nil)
			require.NoError(t, err)
			r.Header.Set(fence.Header, "2")
			response, err := server.Client().Do(r)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusOK, response.StatusCode)
		})
	}
}

// A client sends its next request over the connection of the one before, be that late or not.
func TestAConnectionWhoseRequestWasLateServesTheNextOnes(t *testing.T) {
	for name, sent := range map[string]string{"no body": "", "a body that is read": "half"} {
		t.Run(name, func(t *testing.T) {
			began := make(chan struct{})
			var m fence.Memory
			server := httptest.NewServer(fence.Handler(&m, func(*http.Request) string { return "k" },
				http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/late" {
						_, _ = io.ReadAll(r.Body)
						began <- struct{}{}
						<-r.Context().Done()
					}
				})))
			t.Cleanup(server.Close)
			send := func(client *http.Client, path string, token int) (int, error) {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL+path, strings.NewReader(sent))
				if err != nil {
					return 0, err
				}
				r.Header.Set(fence.Header, strconv.Itoa(token))
				response, err := client.Do(r)
				if err != nil {
					return 0, err
				}
				return response.StatusCode, response.Body.Close()
			}
			one := &http.Client{Transport: &http.Transport{}}
			t.Cleanup(one.CloseIdleConnections)
			for token := 1; token < 100; token += 2 {
				ended := make(chan error)
				go func() {
					_, err := send(one, "/late", token)
					ended <- err
				}()
				<-began
				code, err := send(server.Client(), "/", token+1)
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, code)
				require.NoError(t, <-ended)
				code, err = send(one, "/", token+1)
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, code)
			}
		})
	}
}

func TestWhatCanNotBeATableOrADialectIsRefused(t *testing.T) {
	_, err := fence.NewSQL(fence.Postgres, "prices; DROP TABLE prices")
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = fence.NewSQL(0, "")
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = fence.NewRedis(nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	f, err := fence.NewSQL(fence.SQLite, "")
	require.NoError(t, err)
	require.ErrorIs(t, f.Admit(t.Context(), nil, "k", 1), lock.ErrInvalid)
	require.ErrorIs(t, f.Do(t.Context(), nil, "k", 1, func(*sql.Tx) error { return nil }), lock.ErrInvalid)
	require.ErrorIs(t, f.Do(t.Context(), new(sql.DB), "k", 1, nil), lock.ErrInvalid)
}
