package locktest_test

import (
	"flag"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// The whole test of a store that waits by package time alone. In your package the
// function is called TestConformance, and New makes your store.
func ExampleRun() {
	testConformance := func(t *testing.T) {
		locktest.Run(t, locktest.Harness{
			New:  func(t *testing.T) lock.Locker { return memory.New() },
			Peer: func(t *testing.T, l lock.Locker) lock.Locker { return l.(*memory.Locker).Client("another process") },
			Wrap: synctest.Test, // on fake time
		})
	}
	fmt.Println("passed:", passes(testConformance))
	// Output: passed: true
}

// passes runs a test within an example, without a word.
func passes(test func(t *testing.T)) bool {
	verbose := flag.Lookup("test.v").Value
	before := verbose.String()
	if verbose.Set("false") != nil {
		return false
	}
	defer func() { _ = verbose.Set(before) }()
	every := func(string, string) (bool, error) { return true, nil }
	return testing.RunTests(every, []testing.InternalTest{{Name: "TestConformance", F: test}})
}
