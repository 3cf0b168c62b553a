package main

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/torture/history"
)

// startRedis starts the nodes of a redlock.
func startRedis(t *torture) (nodes []*node, _ place, err error) {
	found := programs()
	if len(found) == 0 {
		return nil, place{}, errors.New("neither redis-server nor valkey-server is in PATH")
	}
	env, was := os.LookupEnv(redistest.BinaryEnv)
	for i := range t.config.nodes {
		program := found[i%len(found)]
		if err := os.Setenv(redistest.BinaryEnv, program); err != nil {
			return nil, place{}, err
		}
		k := keepingOf(i)
		s := redistest.Start(t.h, k.options()...)
		nodes = append(nodes, &node{server: s, redis: s, restart: func() { s.Restart(false) }, keeping: k, program: version(program)})
	}
	if was {
		_ = os.Setenv(redistest.BinaryEnv, env)
	} else {
		_ = os.Unsetenv(redistest.BinaryEnv)
	}
	return nodes, place{urls: func(p *process) (urls []string) {
		for _, x := range p.proxies {
			urls = append(urls, "redis://"+x.Addr())
		}
		return urls
	}}, nil
}

// programs are the servers to run; nodes take turns.
func programs() (found []string) {
	if os.Getenv(redistest.BinaryEnv) != "" {
		return []string{redistest.Binary()}
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			found = append(found, path)
		}
	}
	return found
}

// version is "redis-server 7.0.15".
func version(program string) string {
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return program
	}
	name, _, _ := strings.Cut(string(out), " ")
	for field := range strings.FieldsSeq(string(out)) {
		if v, ok := strings.CutPrefix(field, "v="); ok {
			return strings.ToLower(name) + " " + v
		}
	}
	return program
}

// redisKinds are what its nodes suffer.
func redisKinds() []kind {
	return slices.Concat(clientKinds(), networkKinds(), []kind{
		{name: "node: kill -9, restart with its data", weight: 4, target: aNode, shortest: 1 * ms, longest: 2500 * ms, on: []keeping{always, everysec},
			impair: history.OneNode, restarts: true, do: restart(func(*torture, *node, planned) (string, error) { return "", nil })},
		{name: "node: kill -9, restart empty", weight: 4, target: aNode, shortest: 1 * ms, longest: 2500 * ms, on: []keeping{everysec, nothing},
			impair: history.OneNode, restarts: true, do: restart(empty)},
		{name: "node: kill -9, restart with a truncated append-only file", weight: 3, target: aNode, shortest: 1 * ms, longest: 1500 * ms, on: []keeping{everysec},
			impair: history.OneNode, restarts: true, do: restart(truncate)},
		{name: "node: SIGSTOP, SIGCONT", weight: 5, target: aNode, shortest: 50 * ms, longest: 4000 * ms, impair: history.OneNode, do: stopNode},
		{name: "node: CLIENT PAUSE", weight: 4, target: aNode, shortest: 50 * ms, longest: 3000 * ms, impair: history.OneNode, do: clientPause},
		{name: "node: DEBUG SLEEP", weight: 4, target: aNode, shortest: 50 * ms, longest: 3000 * ms, impair: history.OneNode, do: debugSleep},
		{name: "node: full memory", weight: 4, target: aNode, shortest: 100 * ms, longest: 3000 * ms, impair: history.OneNode, do: fullMemory},
		{name: "node: SCRIPT FLUSH", weight: 5, target: aNode, do: command("SCRIPT", "FLUSH")},
		{name: "node: CLIENT KILL", weight: 5, target: aNode, do: clientKill},
		{name: "nodes: all killed, restarted without what they need not keep", weight: 2, target: everyNode, shortest: 1 * ms, longest: 800 * ms,
			impair: history.OneNode, restarts: true, do: killAll},
		{name: "nodes: a majority stopped (SIGSTOP)", weight: 1, target: everyNode, shortest: 100 * ms, longest: 4000 * ms, impair: history.OneNode, do: stopMost},
		{name: "node: FLUSHALL", weight: 8, target: aNode, forgets: true, unsafe: true, do: command("FLUSHALL")},
		{name: "node: a lock's key expires early or is deleted", weight: 8, target: aNode, unsafe: true, do: deleteLocks},
		{name: "node: durable, restarted with a truncated append-only file", weight: 3, target: aNode, shortest: 1 * ms, longest: 500 * ms, on: []keeping{always},
			impair: history.OneNode, restarts: true, unsafe: true, do: restart(truncate)},
	})
}
