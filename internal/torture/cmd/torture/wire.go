package main

import (
	"bufio"
	"encoding/json"
	"net"
	"sync"
	"time"
)

// A client process and its parent talk over a pair of connected sockets, one JSON
// value a line. What the client said before it was killed is in the socket, and is
// read: each message is one write.

// said is what a client reports to its parent. Times are by mono.
type said struct {
	What string
	// ID names a lease within its process, a question to the register, or a wait.
	ID    int64  `json:",omitempty"`
	Key   string `json:",omitempty"`
	Token uint64 `json:",omitempty"`
	Asked int64  `json:",omitempty"`
	At    int64  `json:",omitempty"`
	Until int64  `json:",omitempty"`
	Sure  int64  `json:",omitempty"`
	Value int64  `json:",omitempty"`
	Plain int64  `json:",omitempty"`
	Text  string `json:",omitempty"`
}

// What clients say.
const (
	saidReady = "ready" // its locker is open
	saidLease = "lease" // ID, Key, Token, Asked, At, Until
	saidUntil = "until" // ID: renewed, until Until
	saidEnded = "ended" // ID: its release begins at At
	saidLost  = "lost"  // ID: it learned so at At
	saidWant  = "want"  // ID, Key: it waits for the key from At on
	saidHas   = "has"   // ID: no longer, from At on
	saidRead  = "read"  // ID, Key, Token, Sure, At: a question to the register
	saidWrite = "write" // likewise, with Value, and Plain for the store without fencing
	saidIdle  = "idle"  // no worker has anything under way
	saidOdd   = "odd"   // Text: something that must not be
	saidStall = "stall" // it did not run from Asked to At
)

// directive is what the parent sends a client: the answer to a question, or an order.
type directive struct {
	ID    int64  `json:",omitempty"`
	OK    bool   `json:",omitempty"`
	Value int64  `json:",omitempty"`
	Plain int64  `json:",omitempty"`
	Order string `json:",omitempty"`
	Key   string `json:",omitempty"`
}

// Orders to clients.
const (
	orderContend = "contend" // the workers work
	orderDrain   = "drain"   // they end what they do, and say so
	orderHold    = "hold"    // one more worker takes Key and keeps it
	orderFree    = "free"    // it releases it
	orderQueue   = "queue"   // one more worker waits for Key, and frees it soon
	orderStop    = "stop"    // end
)

// wire is one end of the pair.
type wire struct {
	conn net.Conn
	in   *bufio.Reader

	mu sync.Mutex // guards writing
}

func newWire(c net.Conn) *wire { return &wire{conn: c, in: bufio.NewReader(c)} }

// send gives up after a while: a stopped process does not read.
func (w *wire) send(message any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.conn.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	_, err = w.conn.Write(append(text, '\n'))
	return err
}

// receive reads one message. A line that was cut off by a kill is an error.
func (w *wire) receive(message any) error {
	line, err := w.in.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, message)
}
