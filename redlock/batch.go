package redlock

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/rueidis"
)

// batcher sends requests to one node, one script call at a time: what arrives while
// a call is under way goes into the next one, together. It is the group commit of
// databases' logs. Under load it takes a third of the server's time of a call for
// each request, and what waits behind a node that hangs was never sent, so that it
// needs no cleanup. The first to wait sends for the others: no goroutine of its own.
type batcher struct {
	mu      sync.Mutex // guards all below; not held while sending
	sending bool
	queue   []*call
	free    []*call // to be used again
}

// call is a request that waits.
type call struct {
	script *script
	keys   keys
	args   [maxArgs]string
	nargs  int
	turn   chan struct{} // sent on when answered, or when it must send batch
	batch  []*call       // with itself; nil: it was answered
	answer answer
}

const (
	maxArgs  = 6
	maxBatch = 64 // about a millisecond of the server's time
)

// answer is a node's reply to one request.
type answer struct {
	msg    rueidis.RedisMessage
	err    error // of the server, or of the connection
	unsent bool  // err is why it was not sent
}

func answered(res rueidis.RedisResult) answer {
	msg, err := res.ToMessage()
	return answer{msg: msg, err: err}
}

// broken reports that err is no reply of a server: the connection has died.
func broken(err error) bool {
	_, reply := rueidis.IsRedisErr(err)
	return err != nil && !reply
}

// do returns when the node has answered, the connection has died, or one that died
// took along what waited behind it.
func (b *batcher) do(c rueidis.Client, s *script, k keys, args ...string) answer {
	b.mu.Lock()
	if !b.sending {
		b.sending = true
		b.mu.Unlock()
		a := answered(s.eval(context.Background(), c, k, args...))
		b.next(a.err)
		return a
	}
	w := b.enqueue(s, k, args)
	b.mu.Unlock()
	<-w.turn
	if batch := w.batch; batch != nil {
		err := sendBatch(c, batch)
		for _, other := range batch[1:] {
			other.turn <- struct{}{}
		}
		b.next(err)
	}
	return b.recycle(w)
}

// enqueue lines a request up. mu is held.
func (b *batcher) enqueue(s *script, k keys, args []string) *call {
	var w *call
	if n := len(b.free); n > 0 {
		w, b.free = b.free[n-1], b.free[:n-1]
	} else {
		w = &call{turn: make(chan struct{}, 1)}
	}
	w.script, w.keys, w.nargs = s, k, copy(w.args[:], args)
	b.queue = append(b.queue, w)
	return w
}

// recycle takes a call back, and gives what was answered to it.
func (b *batcher) recycle(w *call) answer {
	a := w.answer
	*w = call{turn: w.turn}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.free) < maxBatch {
		b.free = append(b.free, w)
	}
	return a
}

// next lets the first of those who wait send the next batch. If the connection has
// died, they all fail: one that hangs would hold up each batch for its time-out.
func (b *batcher) next(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if broken(err) {
		for _, w := range b.queue {
			w.answer = answer{err: err, unsent: true}
			w.turn <- struct{}{}
		}
		b.queue = nil
	}
	if len(b.queue) == 0 {
		b.sending = false
		return
	}
	n := min(len(b.queue), maxBatch)
	first := b.queue[0]
	first.batch = b.queue[:n:n]
	b.queue = b.queue[n:]
	first.turn <- struct{}{}
}

// sendBatch sends the requests as one and fills in their answers.
func sendBatch(c rueidis.Client, batch []*call) error {
	if len(batch) == 1 {
		w := batch[0]
		w.answer = answered(w.script.eval(context.Background(), c, w.keys, w.args[:w.nargs]...))
		return w.answer.err
	}
	parts, err := evalBatch(c, batch)
	for i, w := range batch {
		if err != nil {
			w.answer = answer{err: err}
			continue
		}
		w.answer = answer{msg: parts[i], err: parts[i].Error()}
	}
	return err
}

func evalBatch(c rueidis.Client, batch []*call) ([]rueidis.RedisMessage, error) {
	res := c.Do(context.Background(), batchCommand(c, "EVALSHA", batchScript.sha, batch))
	if err, ok := rueidis.IsRedisErr(res.Error()); ok && err.IsNoScript() {
		res = c.Do(context.Background(), batchCommand(c, "EVAL", batchScript.source, batch))
	}
	parts, err := res.ToArray()
	if err != nil {
		if _, reply := rueidis.IsRedisErr(err); !reply && res.NonRedisError() == nil {
			err = asReplyError(err)
		}
		return nil, err
	}
	if len(parts) != len(batch) {
		return nil, asReplyError(fmt.Errorf("%d answers to %d requests", len(parts), len(batch)))
	}
	return parts, nil
}

// batchCommand is laid out as scripts/batch.lua reads it.
func batchCommand(c rueidis.Client, command, script string, batch []*call) rueidis.Completed {
	cmd := c.B().Arbitrary(command, script, strconv.Itoa(2*len(batch)))
	for _, w := range batch {
		cmd = cmd.Keys(w.keys.lock, w.keys.fence)
	}
	for _, w := range batch {
		cmd = cmd.Args(w.script.name, strconv.Itoa(w.nargs)).Args(w.args[:w.nargs]...)
	}
	return cmd.Build()
}

func asReplyError(err error) error { return fmt.Errorf("%w: %w", errReply, err) }

// batchSource makes one script of several, so that alone and in a batch the same
// lines run. The server is asked for its run once.
func batchSource(scripts ...*script) string {
	var b strings.Builder
	b.WriteString(serverLua)
	b.WriteString(turnLua)
	b.WriteString("local asked, run, uptime = false, nil, nil\nlocal once = server\n" +
		"server = function() if not asked then asked, run, uptime = true, once() end return run, uptime end\n")
	for _, s := range scripts {
		b.WriteString(s.body)
	}
	b.WriteString("local ops = {")
	for _, s := range scripts {
		fmt.Fprintf(&b, "%s = %[1]s, ", s.name)
	}
	b.WriteString("}\n")
	b.WriteString(batchLua)
	return b.String()
}
