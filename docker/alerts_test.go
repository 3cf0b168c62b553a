package docker_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// promtool is on PATH, or where internal/scripts/install-promtool.sh puts it.
func promtool(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("promtool"); err == nil {
		return path
	}
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	path := filepath.Join(cache, "lockkeeper", "promtool")
	if _, err := os.Stat(path); err != nil {
		message := "no promtool on PATH or at " + path + ": internal/scripts/install-promtool.sh fetches it"
		if os.Getenv(redistest.RequireEnv) == "1" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	return path
}

func TestAlertsAreRulesThatFireWhenTheyShouldAndNotElse(t *testing.T) {
	tool := promtool(t)
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"check", "config", "prometheus.yml"}, {"test", "rules", "alerts_test.yml"}} {
		out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
		require.NoError(t, err, "promtool %v: %s", args, out)
	}
}

type alertRule struct {
	Alert, Expr string
	Labels      struct{ Severity string }
	Annotations map[string]string
}

func alertRules(t *testing.T) []alertRule {
	t.Helper()
	var f struct{ Groups []struct{ Rules []alertRule } }
	readYAML(t, "alerts.yml", &f)
	require.Len(t, f.Groups, 1)
	return f.Groups[0].Rules
}

// The metrics and labels are those that lockotel's page has, in Prometheus' names.
func TestAlertsAreOnMetricsThatThereAre(t *testing.T) {
	page, err := os.ReadFile("../lock/lockotel/README.md")
	require.NoError(t, err)
	for _, rule := range alertRules(t) {
		names := regexp.MustCompile(`\block_[a-z_]+`).FindAllString(rule.Expr, -1)
		require.NotEmpty(t, names, rule.Alert)
		for _, name := range names {
			if regexp.MustCompile("`" + name + "`").Match(page) {
				continue
			}
			// An attribute has dots there, and lines in Prometheus.
			require.Regexp(t, "`"+regexp.MustCompile("_").ReplaceAllString(name, "[._]")+"`", string(page), "%s uses %s", rule.Alert, name)
		}
		require.Contains(t, []string{"critical", "warning"}, rule.Labels.Severity, rule.Alert)
		require.NotEmpty(t, rule.Annotations["description"], rule.Alert)
	}
}

// Each rule has a case in which it fires; promtool says whether it does.
func TestEachAlertHasACaseInWhichItFires(t *testing.T) {
	var f struct {
		Tests []struct {
			Rules []struct {
				Alertname string
				Alerts    []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, "alerts_test.yml", &f)
	fires := map[string]int{}
	for _, test := range f.Tests {
		for _, rule := range test.Rules {
			fires[rule.Alertname] += len(rule.Alerts)
		}
	}
	for _, rule := range alertRules(t) {
		require.NotZero(t, fires[rule.Alert], rule.Alert)
	}
}
