package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

// Survey is what a node reports about itself, for people.
type Survey struct {
	Info   Info   // as far as it is reported
	Conf   Config // as far as it is reported
	Clock  Clock
	denied map[string]error // by command: why it reported nothing
	// members is how many servers a Redis Cluster has; 0: it is none. What differs
	// from one to the other is not reported then.
	members int
}

// Clock is how far a node's is ahead of this machine's, with an uncertainty of slack
// either way, which is half of the round trip.
type Clock struct {
	Ahead, Slack time.Duration
	err          error // not reported
}

// Known reports whether the node reported its time.
func (c Clock) Known() bool { return c.err == nil && c.Slack > 0 }

var surveyed = []string{"appendonly", "appendfsync", "no-appendfsync-on-rewrite", "save", "maxmemory", "maxmemory-policy"}

// Take asks a node what it reports about itself. Of a Redis Cluster it gives what all servers
// report alike.
func Take(ctx context.Context, c rueidis.Client) Survey {
	if c.Mode() != rueidis.ClientModeCluster {
		return surveyServer(ctx, c)
	}
	servers := c.Nodes()
	var whole Survey
	for _, addr := range slices.Sorted(maps.Keys(servers)) {
		s := surveyServer(ctx, servers[addr])
		if whole.members++; whole.members == 1 {
			whole.Info, whole.Conf, whole.denied = s.Info, s.Conf, s.denied
			continue
		}
		common(whole.Info, s.Info)
		common(whole.Conf, s.Conf)
		maps.Copy(whole.denied, s.denied)
	}
	whole.Clock.err = errors.New("not reported: a Redis Cluster has many")
	return whole
}

// common deletes from a what b does not have alike.
func common(a, b map[string]string) {
	maps.DeleteFunc(a, func(name, value string) bool { return b[name] != value })
}

func surveyServer(ctx context.Context, c rueidis.Client) Survey {
	s := Survey{Info: Info{}, Conf: Config{}, denied: map[string]error{}}
	var asks []rueidis.Completed
	for _, name := range surveyed {
		asks = append(asks, c.B().Arbitrary("CONFIG", "GET", name).Build())
	}
	asks = append(asks, c.B().Info().Section(AllInfo).Build()) // after them, as ProveDurable wants it
	answers := c.DoMulti(ctx, asks...)
	s.readInfo("INFO", answers[len(surveyed)])
	if s.denied["INFO"] != nil {
		s.readInfo("INFO server", c.Do(ctx, c.B().Info().Section("server").Build()))
	}
	for i, name := range surveyed {
		got, err := answers[i].AsStrMap()
		if err != nil {
			s.denied["CONFIG GET"] = err
			break
		}
		s.Conf[name] = got[name]
	}
	// Some of it stands in INFO, too.
	if v := s.Conf["maxmemory-policy"]; v != "" {
		s.Info["maxmemory"], s.Info["maxmemory_policy"] = s.Conf["maxmemory"], v
	}
	s.Clock = readClock(ctx, c)
	return s
}

func (s *Survey) readInfo(what string, res rueidis.RedisResult) {
	text, err := res.ToString()
	if err != nil {
		s.denied[what] = err
		return
	}
	s.Info = ParseInfo(text)
}

// readClock compares the node's clock with this machine's in the middle of a round trip. TIME
// is asked alone, so that nothing before it takes a part of that trip.
func readClock(ctx context.Context, c rueidis.Client) Clock {
	start := time.Now()
	part, err := c.Do(ctx, c.B().Time().Build()).AsStrSlice()
	trip := time.Since(start)
	if err != nil {
		return Clock{err: unreported("TIME", err)}
	}
	if len(part) != 2 {
		return Clock{err: nodeerr.ErrReply}
	}
	seconds, err1 := strconv.ParseInt(part[0], 10, 64)
	micros, err2 := strconv.ParseInt(part[1], 10, 64)
	if err := errors.Join(err1, err2); err != nil || seconds < 0 || seconds > 1<<40 || micros < 0 || micros >= 1e6 {
		return Clock{err: nodeerr.ErrReply}
	}
	// Wall clocks, on purpose: that is what is compared.
	return Clock{Ahead: time.Unix(seconds, micros*1e3).Sub(start.Round(0).Add(trip / 2)), Slack: max(trip/2, time.Microsecond)}
}

// unreported is why what command answers is not known.
func unreported(command string, err error) error {
	if nodeerr.Forbidden(err) {
		return fmt.Errorf("not permitted (%s)", command)
	}
	return errors.New("not reported")
}

// Facts are what Health shows of the node.
func (s *Survey) Facts() []lock.Fact {
	return []lock.Fact{
		{Name: "version", Value: s.version()},
		{Name: "role", Value: s.role()},
		{Name: "persistence", Value: s.persistence()},
		{Name: "memory", Value: s.memory(), Measures: s.measures("memory_bytes", "used_memory", "memory_limit_bytes", "maxmemory")},
		{Name: "eviction", Value: s.field("maxmemory_policy")},
		{Name: "uptime", Value: s.uptime(), Measures: s.measures("uptime_seconds", "uptime_in_seconds")},
		{Name: "clock", Value: s.Clock.String(), Measures: s.Clock.measures()},
	}
}

// measures are fields of INFO's that are numbers, each as a pair of the measure's name and
// the field's. What is not reported is left out, and so is a limit of 0, which is none.
func (s *Survey) measures(pairs ...string) []lock.Measure {
	var all []lock.Measure
	for pair := range slices.Chunk(pairs, 2) {
		n, err := strconv.ParseInt(s.Info[pair[1]], 10, 64)
		if err == nil && !(n == 0 && pair[1] == "maxmemory") {
			all = append(all, lock.Measure{Name: pair[0], Value: float64(n)})
		}
	}
	return all
}

func (c Clock) measures() []lock.Measure {
	if c.err != nil {
		return nil
	}
	return []lock.Measure{
		{Name: "clock_ahead_seconds", Value: c.Ahead.Seconds()},
		{Name: "clock_error_seconds", Value: c.Slack.Seconds()},
	}
}

// field is one of INFO's, or why it is not known.
func (s *Survey) field(name string) string {
	if value := s.Info[name]; value != "" {
		return value
	}
	if err := s.denied["INFO"]; err != nil {
		return unreported("INFO", err).Error()
	}
	if s.members > 1 {
		return "differs"
	}
	return "not reported"
}

func (s *Survey) version() string {
	if v := s.Info["valkey_version"]; v != "" {
		return "Valkey " + v
	}
	if v := s.Info["redis_version"]; v != "" {
		return "Redis " + v
	}
	return s.field("redis_version")
}

func (s *Survey) role() string {
	if s.members > 0 {
		return fmt.Sprintf("cluster of %d servers", s.members)
	}
	role := s.field("role")
	switch role {
	case "slave":
		return fmt.Sprintf("replica of %s:%s", s.Info["master_host"], s.Info["master_port"])
	case "master":
		role = "primary"
		if n := s.Info["connected_slaves"]; n != "" && n != "0" {
			role += ", replicas: " + n
		}
		if s.Info["cluster_enabled"] == "1" {
			role += ", cluster mode"
		}
	}
	return role
}

func (s *Survey) persistence() string {
	if err := s.denied["CONFIG GET"]; err != nil {
		switch s.Info["aof_enabled"] {
		case "1":
			return "aof, fsync " + unreported("CONFIG GET", err).Error()
		case "0":
			return "no aof, snapshots " + unreported("CONFIG GET", err).Error()
		}
		return unreported("CONFIG GET", err).Error()
	}
	save, reported := s.Conf["save"]
	switch {
	case s.Conf.Durable():
		return "durable (aof, always)"
	case s.Conf["appendonly"] == "yes" && s.Conf["appendfsync"] == "":
		return "aof, fsync differs"
	case s.Conf["appendonly"] == "yes" && s.Conf["no-appendfsync-on-rewrite"] == "yes":
		return "aof, " + s.Conf["appendfsync"] + ", not during rewrites"
	case s.Conf["appendonly"] == "yes":
		return "aof, " + s.Conf["appendfsync"]
	case s.Conf["appendonly"] == "" || !reported:
		return "differs"
	case save != "":
		return "snapshots"
	}
	return "none"
}

func (s *Survey) memory() string {
	used, err1 := strconv.ParseInt(s.Info["used_memory"], 10, 64)
	limit, err2 := strconv.ParseInt(s.Info["maxmemory"], 10, 64)
	switch {
	case err2 != nil:
		return s.field("maxmemory")
	case limit == 0 && err1 == nil:
		return megabytes(used) + ", no limit"
	case limit == 0:
		return "no limit"
	case err1 != nil:
		return "limit " + megabytes(limit)
	}
	return megabytes(used) + " of " + megabytes(limit)
}

func megabytes(n int64) string {
	if mb := float64(n) / (1 << 20); mb < 100 {
		return strconv.FormatFloat(mb, 'f', 1, 64) + " MB"
	}
	return strconv.FormatInt(n>>20, 10) + " MB"
}

func (s *Survey) uptime() string {
	seconds, err := strconv.ParseInt(s.Info["uptime_in_seconds"], 10, 64)
	switch {
	case err != nil:
		return s.field("uptime_in_seconds")
	case seconds >= 86400:
		return fmt.Sprintf("%dd%dh", seconds/86400, seconds%86400/3600)
	case seconds >= 3600:
		return fmt.Sprintf("%dh%dm", seconds/3600, seconds%3600/60)
	case seconds >= 60:
		return fmt.Sprintf("%dm%ds", seconds/60, seconds%60)
	}
	return fmt.Sprintf("%ds", seconds)
}

func (c Clock) String() string {
	if c.err != nil {
		return c.err.Error()
	}
	unit := time.Microsecond
	if c.Slack >= time.Millisecond {
		unit = 100 * time.Microsecond
	}
	if c.Ahead.Abs() >= time.Minute {
		unit = time.Second
	}
	sign := "+"
	if c.Ahead < 0 {
		sign = "-"
	}
	if c.Slack < unit {
		return sign + c.Ahead.Abs().Round(unit).String()
	}
	return sign + c.Ahead.Abs().Round(unit).String() + " ±" + c.Slack.Round(unit).String()
}

// Advice says what an operator should change on a node. restartEffect is what it does
// after a restart if it is not durable.
func (s *Survey) Advice(restartEffect string) []string {
	var warnings []string
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	err := s.denied["CONFIG GET"]
	switch {
	case nodeerr.Refusal(err) != nil:
		warn("its configuration can't be read (allow CONFIG GET, ACL +config|get): after each restart it sits out the restart guard, durable or not")
	case err != nil:
		return append(warnings, "its configuration could not be read: "+err.Error())
	case !s.Conf.Durable():
		warn("not durable (%s; want yes, always, no): after a restart it %s. Set them by CONFIG SET while it runs, then in its file, and don't restart it for the restart guard's time after that: started anew with appendonly, it begins without its data",
			s.Conf, restartEffect)
	}
	if policy := s.Info["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		warn("maxmemory-policy is %s, want noeviction: a full node could evict a held lock", policy)
	}
	replicas, _ := strconv.Atoi(s.Info["connected_slaves"])
	switch {
	case s.members > 0: // has replicas as a rule
	case s.Info["cluster_enabled"] == "1":
		warn("cluster mode is on, but a node is a server of its own: switch cluster-enabled off while no lock is in use, or list a whole, formed cluster as one node, with cluster=true")
	case s.Info["role"] == "slave":
		// Promoted, it votes at once, without what others promised in its place.
		warn("is a replica of %s:%s and can't vote: list its primary in its place. REPLICAOF NO ONE can give a held lock a second holder: use it only once every client of the locks has been stopped for the longest ttl (Options.RestartGuard)", s.Info["master_host"], s.Info["master_port"])
	case replicas > 0:
		warn("has %d replicas: a fail-over to one that lags can forget locks; count on fencing tokens, not on the lock alone", replicas)
	}
	if s.Info["aof_last_write_status"] == "err" || s.Info["rdb_last_bgsave_status"] == "err" {
		warn("its last write to disk failed (aof_last_write_status %s, rdb_last_bgsave_status %s)", s.Info["aof_last_write_status"], s.Info["rdb_last_bgsave_status"])
	}
	if full := s.fullness(); full > nearlyFull {
		warn("memory is %.0f%% full: a full node refuses locks", 100*full)
	}
	return warnings
}
