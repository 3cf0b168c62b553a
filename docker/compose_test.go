// Package docker_test checks the files of this folder: what the compose file says,
// and what check.sh and the health check see of real servers.
package docker_test

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert/yaml"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

type service struct {
	Image         string
	ContainerName string `yaml:"container_name"`
	Restart       string
	Command       []string
	Ports         []string
	Volumes       []string
	Profiles      []string
	Environment   map[string]string
	Logging       struct {
		Driver  string
		Options map[string]string
	}
	Healthcheck struct{ Test []string }
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Build       struct {
		Context    string
		Dockerfile string
		Args       map[string]string
	}
}

type composeFile struct {
	Services map[string]service
	Volumes  map[string]any
}

var nodeNames = []string{"redis-1", "redis-2", "redis-3"}

func compose(t *testing.T) composeFile {
	t.Helper()
	text, err := os.ReadFile("compose.yml")
	require.NoError(t, err)
	var f composeFile
	require.NoError(t, yaml.Unmarshal(text, &f))
	return f
}

func TestComposeNodesAreIndependentAndOnLoopback(t *testing.T) {
	f := compose(t)
	seen := map[string]bool{}
	for i, name := range nodeNames {
		s, ok := f.Services[name]
		require.True(t, ok, name)
		require.Equal(t, "${REDIS_IMAGE:-redis:8-alpine}", s.Image)
		require.Equal(t, []string{fmt.Sprintf("127.0.0.1:%d:6379", 6379+i)}, s.Ports)
		require.NotEmpty(t, s.Restart)
		require.NotEqual(t, "no", s.Restart)
		require.Empty(t, s.Profiles, "the nodes start without a profile")

		require.Len(t, s.Volumes, 1)
		volume, mount, _ := strings.Cut(s.Volumes[0], ":")
		require.Equal(t, "/data", mount)
		require.Contains(t, f.Volumes, volume)
		require.False(t, seen[volume], "%s shares volume %s", name, volume)
		seen[volume] = true

		command := strings.Join(s.Command, " ")
		for _, no := range []string{"cluster-enabled", "replicaof", "slaveof", "requirepass"} {
			require.NotContains(t, command, no)
		}
	}
	for name, s := range f.Services {
		require.Equal(t, "json-file", s.Logging.Driver, name)
		require.NotEmpty(t, s.Logging.Options["max-size"], name)
		require.NotEmpty(t, s.Logging.Options["max-file"], name)
		for _, port := range s.Ports {
			require.True(t, strings.HasPrefix(port, "127.0.0.1:"), "%s publishes %s", name, port)
		}
	}
}

func TestComposeDemoRunsTwoKeepersOverAllNodes(t *testing.T) {
	requireKeepers(t, compose(t), "demo", "keeper-1", "keeper-2")
}

// What check.sh falls back to is there, asks all nodes, and starts none of them.
func TestComposeCheckAsksAllNodesFromInside(t *testing.T) {
	s := compose(t).Services["check"]
	require.Equal(t, "redis-1:6379,redis-2:6379,redis-3:6379", s.Environment["REDIS_NODES"])
	require.Equal(t, []string{"health"}, s.Command)
	require.DirExists(t, filepath.Join(s.Build.Context, s.Build.Args["PROGRAM"]))
	require.FileExists(t, filepath.Join(s.Build.Context, s.Build.Dockerfile))
	require.Empty(t, s.DependsOn)
	require.Empty(t, s.Ports)
}

// requireKeepers requires two of them under a profile, built of what is there.
func requireKeepers(t *testing.T, f composeFile, profile string, names ...string) {
	t.Helper()
	for _, name := range names {
		s := f.Services[name]
		require.Equal(t, []string{profile}, s.Profiles, name)
		require.Equal(t, "redis-1:6379,redis-2:6379,redis-3:6379", s.Environment["REDIS_NODES"])
		require.FileExists(t, filepath.Join(s.Build.Context, s.Build.Dockerfile))
		for _, node := range nodeNames {
			require.Equal(t, "service_healthy", s.DependsOn[node].Condition)
		}
		dockerfile, err := os.ReadFile("Dockerfile")
		require.NoError(t, err)
		for arg := range s.Build.Args {
			require.Contains(t, string(dockerfile), "\nARG "+arg+"=")
		}
		require.Contains(t, string(dockerfile), "\nUSER 65532:65532\n")
	}
}

func TestComposeServesTheProfilesAndNoMore(t *testing.T) {
	profiles := map[string][]string{}
	for name, s := range compose(t).Services {
		profile := strings.Join(s.Profiles, " ")
		profiles[profile] = append(profiles[profile], name)
	}
	for _, names := range profiles {
		slices.Sort(names)
	}
	require.Equal(t, map[string][]string{
		"": nodeNames, "check": {"check"}, "demo": {"keeper-1", "keeper-2"},
		"observe": {"grafana", "observed-1", "observed-2", "prometheus"},
	}, profiles)
}

// What the profile needs is there, and finds each other by the right names.
func TestComposeObserveShowsTheKeepersMetrics(t *testing.T) {
	f := compose(t)
	requireKeepers(t, f, "observe", "observed-1", "observed-2")
	for _, name := range []string{"observed-1", "observed-2"} {
		s := f.Services[name]
		require.Empty(t, s.Ports, "metrics are for Prometheus alone")
		require.Equal(t, []string{"-listen=:9464"}, s.Command)
		require.DirExists(t, filepath.Join(s.Build.Context, s.Build.Args["MODULE"], s.Build.Args["PROGRAM"]))
	}
	mounted := map[string]string{} // what is in a container, to what it is of
	for _, name := range []string{"prometheus", "grafana"} {
		for _, volume := range f.Services[name].Volumes {
			part := strings.Split(volume, ":")
			require.Len(t, part, 3, volume)
			require.Equal(t, "ro", part[2], volume)
			require.FileExists(t, part[0])
			mounted[part[1]] = part[0]
		}
	}
	var scrapes struct {
		Global struct {
			ScrapeInterval string `yaml:"scrape_interval"`
		}
		Configs []struct {
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, mounted["/etc/prometheus/prometheus.yml"], &scrapes)
	require.Equal(t, []string{"observed-1:9464", "observed-2:9464"}, scrapes.Configs[0].Static[0].Targets)

	var sources struct {
		Datasources []struct {
			UID, URL string
			JSONData struct {
				TimeInterval string `yaml:"timeInterval"`
			} `yaml:"jsonData"`
		}
	}
	readYAML(t, mounted["/etc/grafana/provisioning/datasources/lockkeeper.yml"], &sources)
	require.Equal(t, "http://prometheus:9090", sources.Datasources[0].URL)
	require.Equal(t, scrapes.Global.ScrapeInterval, sources.Datasources[0].JSONData.TimeInterval)

	var providers struct {
		Providers []struct{ Options struct{ Path string } }
	}
	readYAML(t, mounted["/etc/grafana/provisioning/dashboards/lockkeeper.yml"], &providers)
	dashboard := f.Services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	require.Equal(t, providers.Providers[0].Options.Path, path.Dir(dashboard))
	text, err := os.ReadFile(mounted[dashboard])
	require.NoError(t, err)
	uids := regexp.MustCompile(`"type": "prometheus",\s*"uid": "([^"]*)"`).FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, uids)
	for _, uid := range uids {
		require.Equal(t, sources.Datasources[0].UID, uid[1])
	}
}

func readYAML(t *testing.T, name string, v any) {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, v))
}

func TestComposeOptionsMakeADurableNode(t *testing.T) {
	for _, name := range nodeNames {
		command := compose(t).Services[name].Command
		require.Equal(t, "${REDIS_SERVER:-redis-server}", command[0])
		s := redistest.Start(t, command[1:]...)
		for option, want := range map[string]string{
			"appendonly":                "yes",
			"appendfsync":               "always",
			"no-appendfsync-on-rewrite": "no",
			"maxmemory-policy":          "noeviction",
			"save":                      "",
		} {
			require.Equal(t, option+"\n"+want, s.Do("CONFIG", "GET", option))
		}
		require.NotEqual(t, "maxmemory\n0", s.Do("CONFIG", "GET", "maxmemory"))
		s.Do("SET", "vote", "given")
		s.Restart(false)
		require.Equal(t, "given", s.Do("GET", "vote"), "a killed node forgot")
	}
}

// healthCheck runs the compose file's own check against s.
func healthCheck(t *testing.T, s *redistest.Server) error {
	t.Helper()
	test := compose(t).Services["redis-1"].Healthcheck.Test
	require.Len(t, test, 2)
	require.Equal(t, "CMD-SHELL", test[0])
	cli, err := exec.LookPath("redis-cli")
	require.NoError(t, err)
	// In a container the server is on the default port.
	bin := t.TempDir()
	wrapper := fmt.Sprintf("#!/bin/sh\nexec %s -p %d \"$@\"\n", cli, s.Port())
	require.NoError(t, os.WriteFile(filepath.Join(bin, "redis-cli"), []byte(wrapper), 0o700))
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", strings.ReplaceAll(test[1], "$$", "$"))
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	return cmd.Run()
}

func TestHealthCheckAsksForAWrite(t *testing.T) {
	require.NoError(t, healthCheck(t, redistest.Start(t)))
	for name, options := range map[string][]string{
		"cluster never formed": {"--cluster-enabled", "yes"},
		"full memory":          {"--maxmemory", "1", "--maxmemory-policy", "noeviction"},
		"read-only replica":    {"--replicaof", "127.0.0.1 1"},
	} {
		s := redistest.Start(t, options...)
		require.Equal(t, "PONG", s.Do("PING"), "%s answers PING", name)
		require.Error(t, healthCheck(t, s), name)
	}
}
