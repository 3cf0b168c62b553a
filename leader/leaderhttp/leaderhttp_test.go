package leaderhttp_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/leader/leaderhttp"
)

func TestHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locker := memory.New()
		e := leader.New(locker, "oracle", &leader.Options{TTL: 10 * time.Second})
		h := leaderhttp.Handler(e)
		get := func(method, path string) (int, map[string]any) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			var body map[string]any
			if w.Header().Get("Content-Type") == "application/json" {
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
				require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			}
			return w.Code, body
		}
		codes := func(root, live, ready, standby int) {
			t.Helper()
			for path, want := range map[string]int{"/": root, "/livez": live, "/readyz": ready, "/readyz?standby=ok": standby} {
				code, body := get("GET", path)
				require.Equal(t, want, code, path)
				require.Equal(t, "oracle", body["key"], path)
			}
		}

		codes(200, 200, 503, 503)
		_, body := get("GET", "/")
		require.Equal(t, "stopped", body["state"])

		other, err := locker.Client("other-host").TryAcquire(t.Context(), "oracle", time.Hour)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		stuck := make(chan struct{})
		done := make(chan error)
		go func() {
			done <- e.Run(ctx, func(context.Context) error { <-stuck; return nil })
		}()
		time.Sleep(time.Second)
		codes(200, 200, 503, 200)
		_, body = get("GET", "/")
		require.Equal(t, "standing by", body["state"])
		require.Contains(t, body["last_attempt"], "other-host")

		require.NoError(t, other.Release(ctx))
		time.Sleep(time.Second)
		codes(200, 200, 200, 200)
		_, body = get("GET", "/")
		require.Equal(t, "leading", body["state"])
		require.Equal(t, true, body["leading"])
		require.EqualValues(t, 2, body["token"])
		require.EqualValues(t, 1, body["terms"])

		require.NoError(t, locker.ForceRelease(ctx, "oracle", 0))
		time.Sleep(4300 * time.Millisecond) // the next renewal, 4.5s to 5s after the election
		codes(200, 200, 503, 503)
		time.Sleep(time.Second) // the margin
		codes(200, 503, 503, 503)
		_, body = get("GET", "/")
		require.Equal(t, "lost", body["state"])
		require.Equal(t, true, body["overdue"])

		cancel()
		close(stuck)
		require.Error(t, <-done)
		codes(200, 200, 503, 503)
		_, body = get("GET", "/")
		require.Contains(t, body["last_result"], "lost")

		code, _ := get("POST", "/")
		require.Equal(t, http.StatusMethodNotAllowed, code)
		code, _ = get("HEAD", "/livez")
		require.Equal(t, 200, code)
		code, _ = get("GET", "/other")
		require.Equal(t, 404, code)
	})
}

func TestACopyThatCanNotReachTheStoreIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locker := memory.New()
		_, err := locker.Client("other-host").TryAcquire(t.Context(), "oracle", time.Hour)
		require.NoError(t, err)
		e := leader.New(locker, "oracle", &leader.Options{TTL: 10 * time.Second})
		h := leaderhttp.Handler(e)
		get := func() (int, map[string]any) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/readyz?standby=ok", nil))
			var body map[string]any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
			return w.Code, body
		}
		locker.FailNext(-1, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- e.Run(ctx, func(context.Context) error { return nil }) }()
		time.Sleep(9 * time.Second)
		code, _ := get()
		require.Equal(t, 200, code, "a short outage replaces no copy")
		time.Sleep(2 * time.Second)
		code, body := get()
		require.Equal(t, 503, code)
		require.NotEmpty(t, body["outage_since"])
		locker.FailNext(0, nil)
		time.Sleep(5 * time.Second)
		code, body = get()
		require.Equal(t, 200, code)
		require.Empty(t, body["outage_since"])
		cancel()
		<-done
	})
}

func TestResignEndsATermAndOnlyByAPostOfTheSameSite(t *testing.T) {
	elector := leader.New(memory.New(), "k", &leader.Options{Once: true})
	resign := leaderhttp.Resign(elector)
	ask := func(method string, header ...string) int {
		r := httptest.NewRequest(method, "http://keeper/resign", nil)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		answer := httptest.NewRecorder()
		resign.ServeHTTP(answer, r)
		return answer.Code
	}
	require.Equal(t, http.StatusConflict, ask(http.MethodPost), "it does not lead")
	require.NoError(t, elector.Run(t.Context(), func(ctx context.Context) error {
		require.Equal(t, http.StatusMethodNotAllowed, ask(http.MethodGet))
		require.Equal(t, http.StatusForbidden, ask(http.MethodPost, "Sec-Fetch-Site", "cross-site"))
		require.NoError(t, ctx.Err())
		require.Equal(t, http.StatusAccepted, ask(http.MethodPost))
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), leader.ErrResigned)
		require.Equal(t, http.StatusConflict, ask(http.MethodPost), "once")
		return nil
	}))
}

// A site's page may have its own name lead to loopback, and is of the same origin then.
func TestAPageWhoseNameLeadsToLoopbackEndsNoTerm(t *testing.T) {
	elector := leader.New(memory.New(), "k", &leader.Options{Once: true})
	server := httptest.NewServer(leaderhttp.Resign(elector))
	t.Cleanup(server.Close)
	post := func(host string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
		require.NoError(t, err)
		r.Host = host
		r.Header.Set("Origin", "http://"+host)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		answer, err := server.Client().Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return answer.StatusCode
	}
	require.NoError(t, elector.Run(t.Context(), func(ctx context.Context) error {
		require.Equal(t, http.StatusForbidden, post("evil.example:80"))
		require.NoError(t, ctx.Err())
		require.Equal(t, http.StatusAccepted, post("localhost:8080"))
		<-ctx.Done()
		return nil
	}))
}
