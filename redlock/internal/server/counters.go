package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// nearlyFull is the part of a node's memory in use above which Health warns. A node refuses
// votes for locks when no memory is left.
const nearlyFull = 0.9

// fullness is how much of its memory a node uses; 0 where it has no limit, or does not report it.
func (s *Survey) fullness() float64 {
	used, _ := strconv.ParseFloat(s.Info["used_memory"], 64)
	limit, _ := strconv.ParseFloat(s.Info["maxmemory"], 64)
	if limit <= 0 {
		return 0
	}
	return used / limit
}

// CounterAdvice names what fills a node's memory, if that is the counters of keys that were
// used once: they stay for the retention after the last use. One page of its keys shows it,
// since SCAN gives them in no order. prefix begins their names, and vote is why the node
// did not vote.
func (s *Survey) CounterAdvice(ctx context.Context, c rueidis.Client, prefix string, retention time.Duration, vote error) []string {
	full := s.fullness() > nearlyFull || vote != nil && strings.Contains(vote.Error(), "OOM")
	if !full || c.Mode() == rueidis.ClientModeCluster { // its servers differ
		return nil
	}
	total, err := c.Do(ctx, c.B().Arbitrary("DBSIZE").Build()).ToInt64()
	if err != nil {
		return nil
	}
	page, err := c.Do(ctx, c.B().Arbitrary("SCAN", "0", "COUNT", "1000").Build()).AsScanEntry()
	if err != nil {
		return nil
	}
	counters := 0
	for _, name := range page.Elements {
		if strings.HasPrefix(name, prefix) {
			counters++
		}
	}
	if 2*counters <= len(page.Elements) {
		return nil
	}
	return []string{fmt.Sprintf("about %.0f%% of its %d keys are fence counters (%s*): each stays for Options.Retention, %v, after the last use of its key. "+
		"Give the node more memory or, where most keys are used once, shorten Retention in all clients, to no less than the nodes' clocks may be apart; counters that are there now keep their time",
		100*float64(counters)/float64(len(page.Elements)), total, prefix, retention)}
}
