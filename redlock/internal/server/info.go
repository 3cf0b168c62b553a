// Package server is what a node's server shows of itself by INFO, CONFIG and TIME: its run,
// its uptime, whether it can forget, and what an operator should change on it.
package server

import (
	"strconv"
	"strings"
	"time"
)

// Info is what INFO answers, by the fields' names. What is not reported is not there.
type Info map[string]string

// AllInfo is the section of INFO with all others, commandstats included.
const AllInfo = "all"

// ParseInfo reads the text of INFO.
func ParseInfo(text string) Info {
	info := Info{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// Uptime is the server's, rounded down; 0 where it is not reported.
func (i Info) Uptime() time.Duration {
	seconds, err := strconv.ParseInt(i["uptime_in_seconds"], 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<31 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
