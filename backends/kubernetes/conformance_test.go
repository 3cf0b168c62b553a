package kubernetes

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/kubetest"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// over is a client of the server, without a network.
func over(t *testing.T, s *kubetest.Server) *store {
	t.Helper()
	client, stop := s.Client()
	t.Cleanup(stop)
	return newStore(&api{http: client, host: "http://kubernetes"}, "default", 0)
}

// locker is one of a process of its own.
func locker(t *testing.T, s *kubetest.Server, o *Options) *Locker {
	t.Helper()
	if o == nil {
		o = &Options{}
	}
	opts := *o
	if opts.Namespace == "" {
		opts.Namespace = "default"
	}
	client, stop := s.Client()
	t.Cleanup(stop)
	l, err := New(client, "http://kubernetes", &opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func TestStore(t *testing.T) {
	for name, skew := range map[string]time.Duration{"without ages": 0, "with ages": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			s := &kubetest.Server{}
			recordtest.Run(t, recordtest.Stores{
				Dial:   func(t *testing.T) record.Store { st := over(t, s); st.skew = skew; return st },
				Names:  names,
				Remove: func(_ *testing.T, name string) { s.Remove("default", objectName(name)) },
			})
		})
	}
}

// ofHTTP reports the goroutines of connections, which outlive a locker.
func ofHTTP(stack string) bool {
	return strings.Contains(stack, "net/http.") || strings.Contains(stack, "kubetest.")
}

// TestConformance runs on fake time, with each kind of fault of the network.
func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name         string
		late, silent bool
	}{{"late replies", false, false}, {"late requests", true, false}, {"silence", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			locktest.Run(t, recordtest.Locks{
				Open: func(t *testing.T) func(t *testing.T) record.Store {
					s := &kubetest.Server{}
					return func(t *testing.T) record.Store { return over(t, s) }
				},
				Options:         &record.Options{Names: names},
				Wrap:            synctest.Test,
				TTL:             3 * time.Second,
				Late:            c.late,
				Silent:          c.silent,
				IgnoreGoroutine: ofHTTP,
				AllowSkips:      []string{"Skew"},
			}.Harness())
		})
	}
}
