package waiting

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

// Subscription keeps one connection to one node, on which the pushes for all waits of this
// process arrive. It connects when it is first wanted, again whenever it breaks, and
// closes when nobody has wanted it for a while. All functions must be set.
type Subscription struct {
	// Channel is where the node publishes what is for this process.
	Channel string
	// Timeout bounds the subscribing.
	Timeout time.Duration
	// Client is the node's present client.
	Client func() (rueidis.Client, error)
	// Replaced is closed when that client is about to be replaced: its name may lead
	// elsewhere by now. nil: it never is.
	Replaced func() <-chan struct{}
	// Push receives each message, and Changed whether messages arrive from now on, and
	// if not, why (nil: nobody wants them). Neither is called while a call of it goes on.
	// They must not block.
	Push    func(message string)
	Changed func(live bool, err error)
	// Wanted reports whether anybody waits.
	Wanted func() bool
	// Begin announces a goroutine, unless all is about to end; End follows it.
	Begin func() bool
	End   func()
	// Done is closed when all is to end.
	Done <-chan struct{}

	mu      sync.Mutex
	running bool
	live    bool
}

const (
	// A PING goes out each heartbeat, and a connection that does not answer in time is
	// dead: a connection that was lost unnoticed is missed for 1.4s at most, and what was
	// granted meanwhile is found by the refresh.
	heartbeat   = 900 * time.Millisecond
	beatTimeout = 500 * time.Millisecond
	// Pauses between attempts to connect, from and to.
	minReconnect = 50 * time.Millisecond
	maxReconnect = 400 * time.Millisecond
	// The pause where the server refuses.
	forbidden = 30 * time.Second
	// linger is how long a connection stays that nobody waits on: the next one often
	// follows soon.
	linger = time.Minute
)

// Live reports whether messages arrive.
func (s *Subscription) Live() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live
}

// Start makes sure that the connection is there or in the making.
func (s *Subscription) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return
	}
	if !s.Begin() {
		return
	}
	s.running = true
	go s.run()
}

// stop reports whether run is to end, and notes that it does: not if somebody waits.
func (s *Subscription) stop() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Wanted() {
		return false
	}
	s.running = false
	return true
}

func (s *Subscription) run() {
	defer s.End()
	pause := minReconnect
	for {
		worked, err := s.listen()
		s.set(false, err)
		if worked {
			pause = minReconnect
		}
		if nodeerr.Refusal(err) != nil {
			pause = forbidden
		}
		timer := time.NewTimer(pause)
		pause = min(2*pause, maxReconnect)
		select {
		case <-timer.C:
		case <-s.Done:
			timer.Stop()
			return
		}
		if s.stop() {
			return
		}
	}
}

// set notes a change, and reports it.
func (s *Subscription) set(live bool, err error) {
	s.mu.Lock()
	s.live = live
	s.mu.Unlock()
	s.Changed(live, err)
}

// listen connects, and returns nil when nobody has waited for a while, or when the client
// was replaced. worked: messages could arrive.
func (s *Subscription) listen() (worked bool, err error) {
	client, err := s.Client()
	if err != nil {
		return false, err
	}
	replaced := s.Replaced()
	conn, _ := client.Dedicate()
	defer s.close(conn)
	closed := conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(m rueidis.PubSubMessage) { s.Push(m.Message) }})
	if err := do(conn, s.Timeout, conn.B().Subscribe().Channel(s.Channel).Build()); err != nil {
		return false, err
	}
	s.set(true, nil)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	wanted := time.Now()
	for {
		select {
		case <-beat.C:
			if s.Wanted() {
				wanted = time.Now()
			} else if time.Since(wanted) > linger {
				return true, nil
			}
			if err := do(conn, beatTimeout, conn.B().Ping().Build()); err != nil {
				return true, err
			}
		case <-replaced: // the name may have moved: listen where it leads now
			return true, nil
		case err := <-closed:
			if err == nil {
				err = errClosed
			}
			return true, nodeerr.Shown(err)
		case <-s.Done:
			return true, errClosed
		}
	}
}

// TrySubscribe subscribes to a channel, on a connection of its own that it closes, to see
// whether the node permits that. It returns an error of the node, or of ctx.
func TrySubscribe(ctx context.Context, client rueidis.Client, channel string) error {
	conn, _ := client.Dedicate()
	defer conn.Close() // to give it back needs commands that the user may lack
	conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(rueidis.PubSubMessage) {}})
	return nodeerr.Shown(conn.Do(ctx, conn.B().Subscribe().Channel(channel).Build()).Error())
}

var errClosed = errors.New("connection closed")

func do(conn rueidis.DedicatedClient, timeout time.Duration, cmd rueidis.Completed) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return nodeerr.Shown(conn.Do(ctx, cmd).Error())
}

// close closes a connection. The client waits for what is unanswered on it, on a dead one
// as long as its ConnWriteTimeout: nobody else needs to.
func (s *Subscription) close(conn rueidis.DedicatedClient) {
	if !s.Begin() {
		conn.Close()
		return
	}
	go func() {
		defer s.End()
		conn.Close()
	}()
}
