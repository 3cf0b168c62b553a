package fence_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/fence"
	"github.com/tonsurance/lockkeeper/keepalive"
)

// A service that takes writes from a leader over HTTP, and refuses those of one that was
// paused while another took over.
func ExampleHandler() {
	var tokens fence.Memory
	service := httptest.NewServer(fence.Handler(&tokens, func(*http.Request) string { return "price-feed" },
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Println("wrote", r.URL.Path) })))
	defer service.Close()
	write := func(ctx context.Context, price string) {
		r, _ := http.NewRequestWithContext(ctx, http.MethodPut, service.URL+"/"+price, nil)
		if err := fence.SetHeader(r, "price-feed"); err != nil {
			fmt.Println(err)
			return
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		response.Body.Close()
		fmt.Println(response.Status)
	}

	locker := memory.New()
	var paused context.Context
	lead := func(price string) {
		_ = keepalive.Do(context.Background(), locker, "price-feed", time.Minute, func(ctx context.Context) error {
			write(ctx, price)
			if paused == nil {
				paused = context.WithoutCancel(ctx) // as if this process slept here, and woke later
			}
			return nil
		}, nil)
	}
	lead("101")
	lead("102")
	write(paused, "99")
	write(context.Background(), "98") // under no lease
	// Output:
	// wrote /101
	// 200 OK
	// wrote /102
	// 200 OK
	// 412 Precondition Failed
	// fence: lock: invalid: the token of "price-feed" is 0, which stands for no lease: is this context one of a lease?
}
