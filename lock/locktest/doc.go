// Package locktest is the conformance suite for implementations of
// [lock.Locker]. It checks the numbered obligations in the doc comments of
// lock.Locker and lock.Lease, and those of the optional interfaces that the
// locker offers. A backend that meets them passes; one that breaks any fails in
// a case named after what it broke.
//
// The least that a backend's test needs, on live time:
//
//	func TestConformance(t *testing.T) {
//		locktest.Run(t, locktest.Harness{
//			New: func(t *testing.T) lock.Locker { return mystore.New(t.TempDir()) },
//			TTL: 300 * time.Millisecond,
//		})
//	}
//
// A backend that waits by package time alone runs on fake time, in no time:
//
//	locktest.Run(t, locktest.Harness{
//		New:  func(t *testing.T) lock.Locker { return memory.New() },
//		Wrap: synctest.Test,
//	})
//
// The remaining fields of [Harness] let the suite cause what goes wrong in
// production: slow, lost, doubled and late requests, outages, holders that die. A
// case that needs a field that is nil is skipped and says so. At its end the suite logs
// what was left out and what that would have shown: run with -v to see it, and set
// AllowSkips to keep it from growing unseen.
//
// The suite does not measure speed, and it can't show what the harness can't
// cause: a suite that passes without faults says little about faults.
package locktest
