package simulation

import (
	"context"
	"time"

	"github.com/redis/rueidis"
)

// listener is one process' connection to one node on which notifications arrive. The
// world's mutex guards what changes.
type listener struct {
	rueidis.DedicatedClient // nil: whatever else is called is a mistake

	k       *conn
	run     string // of the server, when it subscribed
	channel string // "": it has not subscribed
	got     func(rueidis.PubSubMessage)
	closed  chan error
	ended   bool
}

func (k *conn) Dedicate() (rueidis.DedicatedClient, func()) {
	l := &listener{k: k, closed: make(chan error, 1)}
	return l, l.Close
}

func (l *listener) B() rueidis.Builder { return builder() }

func (l *listener) SetPubSubHooks(hooks rueidis.PubSubHooks) <-chan error {
	l.got = hooks.OnMessage
	return l.closed
}

// Do sends SUBSCRIBE or PING on this connection.
func (l *listener) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	w, n := l.k.w, l.k.n
	args := cmd.Commands()
	res := l.k.Do(ctx, cmd)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case l.ended:
		return failed(errClosing)
	case res.Error() != nil:
	case args[0] == "SUBSCRIBE":
		l.run, l.channel = n.run, args[1]
		n.listeners = append(n.listeners, l)
	case l.run != n.run:
		return failed(errBroken)
	}
	return res
}

func (l *listener) Close() {
	l.k.w.mu.Lock()
	defer l.k.w.mu.Unlock()
	l.end(errClosing)
}

// end is called with the world's mutex held.
func (l *listener) end(err error) {
	if l.ended {
		return
	}
	l.ended = true
	l.closed <- err
	close(l.closed)
	for i, o := range l.k.n.listeners {
		if o == l {
			l.k.n.listeners = append(l.k.n.listeners[:i:i], l.k.n.listeners[i+1:]...)
			return
		}
	}
}

// kill ends a server, and with it its connections. mu is held.
func (w *world) kill(n *node) {
	n.down = true
	listeners := n.listeners
	n.listeners = nil
	for _, l := range listeners {
		f := l.k.plan()
		w.late.Go(func() {
			time.Sleep(f.from)
			w.mu.Lock()
			defer w.mu.Unlock()
			if !f.replyLost { // else it finds out by a PING
				l.end(errBroken)
			}
		})
	}
}

// publishTo lets node n notify those who listen there. A process that has crashed does
// not; one that hangs or is cut off does, as far as the server knows.
func (w *world) publishTo(n *node) func(channel, message string) int {
	if n.mute {
		return func(string, string) int { return refusedPublish }
	}
	return func(channel, message string) int {
		listeners := 0
		for _, l := range n.listeners {
			if l.channel == channel && !l.k.dead {
				listeners++
				l.deliver(message)
			}
		}
		return listeners
	}
}

// deliver brings a notification, or not, or twice, as the network is. mu is held.
func (l *listener) deliver(message string) {
	w := l.k.w
	f := l.k.plan()
	w.res.Pushes++
	if f.replyLost {
		if w.res.Lost++; f.lateAfter%4 != 0 {
			return
		}
		w.res.Late++
		f.from += f.lateAfter
	}
	arrives := func(after time.Duration) {
		w.late.Go(func() {
			time.Sleep(after)
			w.mu.Lock()
			frozen := time.Until(l.k.c.frozen)
			w.mu.Unlock()
			time.Sleep(frozen)
			w.mu.Lock()
			ended := l.ended || l.k.dead
			w.mu.Unlock()
			if !ended {
				l.got(rueidis.PubSubMessage{Channel: l.channel, Message: message})
			}
		})
	}
	arrives(f.from)
	if f.double {
		w.res.Doubled++
		arrives(f.from + f.doubledBy)
	}
}
