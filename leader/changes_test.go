package leader

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestEachChangeIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported []State
		c := newChanges(func(s Status) { reported = append(reported, s.State) })
		for _, s := range []State{StandingBy, Leading} {
			c.put(Status{State: s})
			synctest.Wait()
			c.signal() // with nothing new
			synctest.Wait()
		}
		require.True(t, c.close())
		require.Equal(t, []State{StandingBy, Leading}, reported)
	})
}

func TestAStateThatStaysIsNoChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported []Status
		e := New(nil, "k", nil)
		e.changes = newChanges(func(s Status) { reported = append(reported, s) })
		since := e.status.Since
		e.setState(StandingBy)
		synctest.Wait()
		require.Equal(t, since, e.status.Since)
		for range 3 {
			e.set(func(s *Status) { s.State, s.Token = StandingBy, 7 })
			synctest.Wait()
		}
		e.set(func(s *Status) { s.Overdue = true })
		require.True(t, e.changes.close())
		require.Len(t, reported, 2)
		require.True(t, reported[1].Overdue)
	})
}
