package s3

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/conformtest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// long is t unless the run is a short one, which does without a real server: the mutants' are.
func long(t *testing.T) *testing.T {
	if testing.Short() {
		t.Skip("short: no real server")
	}
	return t
}

func server(t *testing.T) *storetest.S3 { return storetest.StartS3(long(t)) }

// client of a server, whose connections end with the test.
func client(t *testing.T, endpoint string) *awss3.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	return sdk(endpoint, storetest.RootUser, &http.Client{Transport: transport})
}

// dialed opens stores on a server.
func dialed(s *storetest.S3, skew time.Duration) func(t *testing.T) record.Store {
	return func(t *testing.T) record.Store {
		return newStore(client(t, s.Endpoint()), storetest.Bucket, Options{Prefix: DefaultPrefix, Skew: skew})
	}
}

func TestStore(t *testing.T) {
	s := server(t)
	conformtest.Store(t, "S3 (versitygw)", recordtest.Stores{
		Dial:   dialed(s, time.Nanosecond),
		Names:  names(DefaultPrefix),
		Remove: func(t *testing.T, name string) { require.NoError(t, s.RemoveObjects()) },
		Ages:   true,
	})
}

// With ttls shorter than a second, which is as fine as the store's ages are: they are not used.
// TestConformanceOnFakeTime uses them.
func TestConformance(t *testing.T) {
	s := server(t)
	conformtest.Locks(t, "S3 (versitygw)", recordtest.Locks{
		Open:       func(t *testing.T) func(t *testing.T) record.Store { return dialed(s, -1) },
		Options:    &record.Options{Names: names(DefaultPrefix), Poll: 10 * time.Millisecond},
		TTL:        400 * time.Millisecond,
		Late:       true,
		Keeps:      true, // it is no record.Deleter
		AllowSkips: []string{"Wrap", "Skew", "Delete"},
	}.Harness())
}

// On fake time. Where the store's ages are used, its clock decides, and must not be set; where
// they are not, it may be.
func TestConformanceOnFakeTime(t *testing.T) {
	run := func(skew time.Duration, settable bool) locktest.Harness {
		stores := map[record.Store]*fake{}
		locks := recordtest.Locks{
			Open: func(t *testing.T) func(t *testing.T) record.Store {
				f := newFake()
				return func(t *testing.T) record.Store {
					s := newStore(f.client(), storetest.Bucket, Options{Prefix: DefaultPrefix, Skew: skew})
					stores[s] = f
					return s
				}
			},
			Options: &record.Options{Names: names(DefaultPrefix), Poll: 20 * time.Millisecond},
			Wrap:    synctest.Test,
			TTL:     4 * time.Second,
			Silent:  true,
			Keeps:   true, AllowSkips: []string{"Delete"},
		}
		if settable {
			locks.Skew = func(_ *testing.T, s record.Store, d time.Duration) {
				f := stores[s]
				f.set(func() { f.ahead = d })
			}
		} else {
			locks.AllowSkips = append(locks.AllowSkips, "Skew")
		}
		return locks.Harness()
	}
	t.Run("ages", func(t *testing.T) { conformtest.Locks(t, "S3, on fake time", run(time.Second, false)) })
	t.Run("no ages", func(t *testing.T) {
		conformtest.Locks(t, "S3, on fake time, `skew=off`", run(-1, true))
	})
}
