package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"
)

// Config is what decides whether a node forgets, by the parameters' names.
type Config map[string]string

// Durable reports whether what is answered from now on has been written and synced
// before. It says nothing of what was answered earlier in this run: see [ProveDurable].
func (c Config) Durable() bool {
	return c["appendonly"] == "yes" && c["appendfsync"] == "always" && c["no-appendfsync-on-rewrite"] == "no"
}

func (c Config) String() string {
	return fmt.Sprintf("appendonly %s, appendfsync %s, no-appendfsync-on-rewrite %s", c["appendonly"], c["appendfsync"], c["no-appendfsync-on-rewrite"])
}

// Durability reads the configuration first and the statistics after it: a change in
// between shows in the statistics.
func Durability(ctx context.Context, c rueidis.Client) (Config, Info, error) {
	conf := Config{}
	for _, name := range []string{"appendonly", "appendfsync", "no-appendfsync-on-rewrite"} {
		got, err := c.Do(ctx, c.B().Arbitrary("CONFIG", "GET", name).Build()).AsStrMap()
		if err != nil {
			return nil, nil, err
		}
		conf[name] = got[name]
	}
	text, err := c.Do(ctx, c.B().Info().Section(AllInfo).Build()).ToString()
	if err != nil {
		return nil, nil, err
	}
	return conf, ParseInfo(text), nil
}

// ProveDurable returns nil if the server shows that it was durable ever since this
// run's start, so that it had no moment in which to forget what it answered. The
// present configuration does not show that: switched on after a start without data,
// it makes a node that forgot look like one that can't. What proves it is that
// nothing has changed the configuration in this run, by the server's own count of
// its commands. (conf must have been read before info, by CONFIG GET.)
//
// It can't show that the previous run was durable: a configuration file that was
// edited in between, or a server that was made durable and started again within the
// guard time, stay among the limits (doc.go of redlock).
func ProveDurable(conf Config, info Info) error {
	switch {
	case !conf.Durable():
		return fmt.Errorf("not durable (%s; want yes, always, no)", conf)
	case info["cmdstat_config|get"] == "":
		// Our own CONFIG GET would be there. Redis before 7 counts all of CONFIG as one.
		return errors.New("the server does not report whether CONFIG SET was used since it started (INFO commandstats, Redis 7 or later)")
	case called(info["cmdstat_config|set"]):
		return errors.New("CONFIG SET was used since it started, so that it may not have been durable before that")
	case called(info["cmdstat_config|resetstat"]): // it hides a CONFIG SET before it
		return errors.New("CONFIG RESETSTAT was used since it started, so that it does not report a CONFIG SET before that")
	case info["aof_last_rewrite_time_sec"] != "-1", info["aof_rewrite_in_progress"] != "0", info["aof_rewrite_scheduled"] != "0":
		// Switching appendonly on forces a rewrite, no matter who did it, a module included;
		// RESETSTAT does not hide this one.
		return errors.New("its append-only file was rewritten since it started, as when appendonly is switched on")
	case info["role"] != "master", info["master_replid2"] == "" || strings.Trim(info["master_replid2"], "0") != "":
		// A second replication id is that of the primary that it followed. It has that
		// one's data, as far as they had come, and not all of its own.
		return errors.New("it was a replica since it started")
	}
	return nil
}

// called finds out from a line of commandstats whether the command was run. One that
// was rejected was not; one that is not there was never called.
func called(stats string) bool { return stats != "" && !strings.HasPrefix(stats, "calls=0,") }
