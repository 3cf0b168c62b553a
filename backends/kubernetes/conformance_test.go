package kubernetes

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/conformtest"
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
	stores := func(skew time.Duration) recordtest.Stores {
		s := &kubetest.Server{}
		return recordtest.Stores{
			Dial:   func(t *testing.T) record.Store { st := over(t, s); st.skew = skew; return st },
			Names:  names,
			Remove: func(_ *testing.T, name string) { s.Remove("default", objectName(name)) },
		}
	}
	t.Run("without ages", func(t *testing.T) { conformtest.Store(t, "Kubernetes", stores(0)) })
	t.Run("with ages", func(t *testing.T) { recordtest.Run(t, stores(time.Millisecond)) })
}

// ofHTTP reports the goroutines of connections, which outlive a locker.
func ofHTTP(stack string) bool {
	return strings.Contains(stack, "net/http.") || strings.Contains(stack, "kubetest.")
}

// TestConformance runs on fake time, with each kind of fault of the network.
func TestConformance(t *testing.T) {
	locks := func(late, silent bool) locktest.Harness {
		return recordtest.Locks{
			Open: func(t *testing.T) func(t *testing.T) record.Store {
				s := &kubetest.Server{}
				return func(t *testing.T) record.Store { return over(t, s) }
			},
			Options:         &record.Options{Names: names},
			Wrap:            synctest.Test,
			TTL:             3 * time.Second,
			Late:            late,
			Silent:          silent,
			IgnoreGoroutine: ofHTTP,
			AllowSkips:      []string{"Skew"},
		}.Harness()
	}
	t.Run("late replies", func(t *testing.T) { locktest.Run(t, locks(false, false)) })
	t.Run("late requests", func(t *testing.T) { locktest.Run(t, locks(true, false)) })
	t.Run("silence", func(t *testing.T) { conformtest.Locks(t, "Kubernetes, on fake time", locks(true, true)) })
}
