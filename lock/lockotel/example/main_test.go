package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

func TestMetricsOfALeaderOnRealNodesAreServed(t *testing.T) {
	// Durable, or they would sit out the guard time of a restarted node first.
	nodes := redistest.StartN(t, 3, "--appendonly", "yes", "--appendfsync", "always")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out programtest.Output
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, config{
			nodes: strings.Join(redistest.Addrs(nodes), ","), listen: "127.0.0.1:0", key: "prices",
			ttl: 10 * time.Second, interval: 10 * time.Millisecond,
		}, slog.New(slog.NewTextHandler(&out, nil)))
	}()
	url := out.Finds(t, `url=(http://127\.0\.0\.1:\d+/metrics)`)[1]
	get := func() string {
		res, err := http.Get(url)
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return string(body)
	}
	// What the store reports has the store's name; what the leader reports has none.
	store := regexp.MustCompile(`\{lock_store="redlock"\}|,lock_store="redlock"`)
	require.Eventually(t, func() bool { return store.MatchString(get()) }, programtest.Limit, 10*time.Millisecond)
	for _, want := range []string{
		`lock_leader_state{lock_leader_state="leading"} 1`, `lock_leader_terms_total 1`, `lock_quorum_spare 1`,
		`lock_node_voting{lock_node_name="` + nodes[2].Addr() + `"} 1`,
		`lock_node_request_duration_seconds_count{lock_node_name="` + nodes[0].Addr() + `",lock_outcome="ok"}`,
		`lock_hold_duration_seconds_count{lock_hold_end="released"}`, `lock_keeper_losses_total{lock_loss_cause="taken"} 0`,
	} {
		require.Eventually(t, func() bool { return strings.Contains(store.ReplaceAllString(get(), ""), want) }, programtest.Limit, 10*time.Millisecond, want)
	}
	cancel()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(programtest.Limit):
		require.Fail(t, "it did not end")
	}
}
