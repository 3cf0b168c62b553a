package leaderhttp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/leader/leaderhttp"
)

// A readiness probe that only the leader passes. In a program the handler is served
// beside it: go http.ListenAndServe(":8080", leaderhttp.Handler(elector)).
func ExampleHandler() {
	elector := leader.New(memory.New(), "pricing-oracle-keeper", nil)
	handler := leaderhttp.Handler(elector)
	probe := func(path string) int {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		return answer.Code
	}

	fmt.Println("before:", probe("/readyz"))
	err := elector.Run(context.Background(), func(context.Context) error {
		fmt.Println("leading:", probe("/readyz"))
		return nil
	})
	fmt.Println("resigned:", probe("/readyz"), err)
	fmt.Println("alive:", probe("/livez"))
	// Output:
	// before: 503
	// leading: 200
	// resigned: 503 <nil>
	// alive: 200
}
