package serve

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// asked are the questions in a minute with so many pages open.
func asked(t *testing.T, pages int) (locks, healths int64) {
	synctest.Test(t, func(t *testing.T) {
		source, l := &store{}, newPipes()
		source.reading.Store(&Reading{Locks: []Lock{held("a", "x"), held("b", "y")}})
		s, err := New(source, nil)
		require.NoError(t, err)
		stop := serving(t, s, l)
		paths := []string{"/stream", "/stream?prefix=a", "/stream?key=a", "/stream?key=none", "/stream?sort=left&page=2"}
		for i := range pages {
			c, r := l.open(t, paths[i%len(paths)])
			defer c.Close()
			go discard(r)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, int64(pages), s.streams.Load())
		locks, healths = source.locks.Load(), source.healths.Load()
		require.NoError(t, stop())
	})
	return locks, healths
}

func TestFiftyPagesAskTheStoreNoMoreThanOne(t *testing.T) {
	one, oneHealth := asked(t, 1)
	fifty, fiftyHealth := asked(t, 50)
	require.Equal(t, one, fifty)
	require.Equal(t, oneHealth, fiftyHealth)
	require.InDelta(t, 60, one, 1)
	require.InDelta(t, 12, oneHealth, 1)
}

// A listing of many locks may take longer than the interval.
func TestAStoreThatIsSlowToListRestsBetweenListings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, l := &store{takes: 3 * time.Second}, newPipes()
		s, err := New(source, nil)
		require.NoError(t, err)
		stop := serving(t, s, l)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.InDelta(t, 10, source.locks.Load(), 1, "once every 3 s + 9 s")
		require.NoError(t, stop())
	})
}

func TestAStreamBringsWhatHasChangedAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, l := &store{}, newPipes()
		forever := held("a", "x")
		forever.TTL, forever.Before = -1, true
		s, err := New(source, nil)
		require.NoError(t, err)
		stop := serving(t, s, l)
		synctest.Wait() // asked once
		c, r := l.open(t, "/stream")
		defer c.Close()
		first := map[string]string{}
		for range 4 {
			name, text := next(t, r)
			first[name] = text
		}
		require.Len(t, first, 4)
		require.Contains(t, first["locks"], "No lock is held")
		require.Contains(t, first["nodes"], "n3")

		source.reading.Store(&Reading{Locks: []Lock{forever}, Events: []Event{{Time: time.Now(), Kind: "acquired", Key: "a", Text: "by x"}}})
		names := map[string]string{}
		for range 3 {
			name, text := next(t, r)
			names[name] = text
		}
		require.Contains(t, names["locks"], "for ever")
		require.Contains(t, names["events"], "acquired")
		require.Contains(t, names, "summary")
		require.NotContains(t, names, "nodes", "they are as they were")
		go discard(r)
		require.NoError(t, stop())
	})
}

func TestAReaderThatHangsIsDroppedAndKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, l := &store{}, newPipes()
		source.reading.Store(&Reading{Locks: []Lock{held("a", "x")}})
		s, err := New(source, nil)
		require.NoError(t, err)
		stop := serving(t, s, l)
		hung, _ := l.open(t, "/stream")
		defer hung.Close()
		reads, r := l.open(t, "/stream")
		defer reads.Close()
		messages := make(chan struct{})
		go func() {
			defer close(messages)
			for {
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
				select {
				case messages <- struct{}{}:
				default:
				}
			}
		}()
		time.Sleep(writeTimeout + 2*time.Second)
		synctest.Wait()
		require.Equal(t, int64(1), s.streams.Load(), "the one that hangs is gone")
		<-messages // the other still gets what is new
		require.NoError(t, stop())
		<-messages
	})
}

func TestTheEndOfTheServerEndsItsStreams(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := newPipes()
			s, err := New(&store{}, nil)
			require.NoError(t, err)
			stop := serving(t, s, l)
			var conns []net.Conn
			read := make(chan struct{}, 3)
			for range cap(read) {
				c, r := l.open(t, "/stream")
				conns = append(conns, c)
				go func() { discard(r); read <- struct{}{} }()
			}
			if hangs {
				hung, _ := l.open(t, "/stream")
				defer hung.Close()
			}
			synctest.Wait()
			began := time.Now()
			require.NoError(t, stop())
			if hangs {
				require.LessOrEqual(t, time.Since(began), endTimeout, "also where one does not read")
			} else {
				require.Less(t, time.Since(began), endTimeout/2, "streams end of themselves")
			}
			for _, c := range conns {
				<-read
				c.Close()
			}
			synctest.Wait()
			require.Zero(t, s.streams.Load())
		})
	}
}

func TestPagesThatAreLeftOpenAreBounded(t *testing.T) {
	s := server(t, Reading{}, Checkup{})
	s.streams.Store(maxStreams)
	w := ask(s, "GET", "/stream", "localhost")
	require.Equal(t, 503, w.Code)
	require.Equal(t, "10", w.Header().Get("Retry-After"))
	require.Equal(t, int64(maxStreams), s.streams.Load())
}
