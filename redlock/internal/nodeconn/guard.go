package nodeconn

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

// protocolGuard reads along on a connection to a node, and ends it at the first byte that no
// honest server sends. The client library trusts the server: rueidis 1.0.79 panics
// on a reply that nobody asked for and on negative lengths, in goroutines of its own
// where nobody can recover it, and allocates whatever length is announced.
type protocolGuard struct {
	net.Conn
	// silence is after what time without an answer to a request the connection is dead;
	// 0: never. The client library sees to that only as long as one request is sent at a
	// time, and else by a PING of its own, which comes up to a second later.
	silence time.Duration
	lost    func() // is called once if the connection ends by itself; nil: not needed
	closed  atomic.Bool

	mu    sync.Mutex // guards all below
	err   error      // what was wrong
	out   scanner
	in    scanner
	sent  uint64 // requests
	got   uint64 // replies
	asks  []ask
	more  int  // channels of the last SUBSCRIBE that are still to be confirmed
	ended int  // channels of UNSUBSCRIBE, likewise
	unsub bool // the last request was UNSUBSCRIBE

	dead  time.Time // when silence is over; zero: nothing is unanswered
	until time.Time // the client library's own deadline for a read
}

// Guard makes c a connection that ends at the first byte that no honest server sends.
func Guard(c net.Conn) net.Conn { return &protocolGuard{Conn: c} }

// ask is a request whose reply is not like others.
type ask struct {
	at       uint64 // which one of those sent
	channels int    // of a SUBSCRIBE, whose replies are pushes; 0: the PING after an UNSUBSCRIBE
}

const (
	maxReplyLine  = 64 << 10 // bytes
	maxReplyBytes = 16 << 20 // of all texts of a reply
	maxReplyParts = 1 << 17  // of all its arrays
	maxReplyDepth = 8
)

func (c *protocolGuard) Write(b []byte) (int, error) {
	c.mu.Lock() // not held while writing; requests count from before they are sent
	err := c.out.scan(b, c.request)
	if c.silence > 0 && c.dead.IsZero() {
		c.expect()
	}
	c.mu.Unlock()
	if err != nil {
		return 0, c.end(err)
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		c.isLost()
	}
	return n, err
}

func (c *protocolGuard) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	wrong := c.err
	if wrong == nil {
		wrong = c.in.scan(b[:n], c.reply)
		if n > 0 && !c.dead.IsZero() {
			c.expect()
		}
	}
	c.mu.Unlock()
	if wrong != nil {
		return 0, c.end(wrong)
	}
	if err != nil {
		c.isLost()
	}
	return n, err
}

// isLost: nothing can be read or written any more.
func (c *protocolGuard) isLost() {
	if !c.closed.Swap(true) && c.lost != nil {
		c.lost()
	}
}

func (c *protocolGuard) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// expect sets the time by which something must come, if something is unanswered. mu is
// held.
func (c *protocolGuard) expect() {
	c.dead = time.Time{}
	if c.silence > 0 && c.got < c.sent {
		c.dead = time.Now().Add(c.silence)
	}
	c.setReadDeadline()
}

// setReadDeadline sets the earlier of dead and until. mu is held.
func (c *protocolGuard) setReadDeadline() {
	at := c.until
	if at.IsZero() || !c.dead.IsZero() && c.dead.Before(at) {
		at = c.dead
	}
	_ = c.Conn.SetReadDeadline(at)
}

func (c *protocolGuard) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	c.setReadDeadline()
	return nil
}

func (c *protocolGuard) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *protocolGuard) end(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = fmt.Errorf("%w: %w", nodeerr.ErrReply, err)
		_ = c.Conn.Close()
	}
	return c.err
}

// request notes one that is about to be sent. mu is held.
func (c *protocolGuard) request(_ byte, word []byte) error {
	if string(word) == "UNSUBSCRIBE" {
		// Its replies are pushes. The client sends a PING after it, and waits for the
		// reply to that alone.
		c.ended, c.unsub = c.ended+c.out.parts-1, true
		return nil
	}
	c.sent++
	switch {
	case string(word) == "SUBSCRIBE":
		c.asks = append(c.asks, ask{c.sent, c.out.parts - 1})
	case c.unsub:
		c.asks = append(c.asks, ask{c.sent, 0})
	}
	c.unsub = false
	return nil
}

var errUnasked = errors.New("a reply to no request")

// reply checks that a message which has come answers a request, or may come without one. mu
// is held.
func (c *protocolGuard) reply(kind byte, word []byte) error {
	special := len(c.asks) > 0 && c.asks[0].at == c.got+1
	subscribes := special && c.asks[0].channels > 0
	if kind == '>' {
		switch {
		case !confirms(word):
			return nil // a notification
		case c.more > 0 && string(word) == "subscribe":
			c.more--
			return nil
		case c.more == 0 && c.ended > 0 && string(word) == "unsubscribe":
			c.ended--
			return nil
		case !subscribes || c.more > 0 || string(word) != "subscribe":
			return errUnasked
		}
		c.more = c.asks[0].channels - 1
	} else if subscribes && (kind != '-' || string(word) == "QUEUED") || special && !subscribes && !pong(kind, word) {
		return fmt.Errorf("%q to a request that it can't answer", kind)
	}
	if c.got == c.sent {
		return errUnasked
	}
	c.got++
	if special {
		c.asks = c.asks[1:]
	}
	return nil
}

// confirms reports that the client takes a push which begins with this word for a reply.
// Other words mean nothing here: replies carry the names and values of users, and any of
// them can contain any word.
func confirms(word []byte) bool {
	switch string(word) {
	case "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe":
		return true
	}
	return false
}

// pong reports that the client takes this for the reply to a PING. It panics where
// another one comes after an UNSUBSCRIBE.
func pong(kind byte, word []byte) bool {
	return kind == '+' && string(word) == "PONG" || kind == '-' && (bytes.HasPrefix(word, []byte("LOADING")) || bytes.HasPrefix(word, []byte("BUSY")))
}

// scanner finds where RESP messages end, and refuses what is malformed or too large.
type scanner struct {
	line []byte // as far as it has come
	rest int    // bytes of a text, and of the line's end after it, that are to come
	open []int  // arrays that are not complete, and how many parts they lack

	kind         byte // of the message
	leaves       int  // texts, numbers and the like that it had so far
	word         [16]byte
	length       int // of word, which is how a text begins, or an array's first element if that is a text
	parts, bytes int // announced so far
}

// scan calls done for each message that ends in b, with its kind and the beginning of
// its text or, of an array, of its first element if that is a text.
func (s *scanner) scan(b []byte, done func(kind byte, word []byte) error) error {
	for len(b) > 0 {
		if s.rest > 0 {
			n := min(s.rest, len(b))
			if err := s.text(b[:n]); err != nil {
				return err
			}
			b = b[n:]
			if s.rest == 0 {
				if err := s.leaf(done); err != nil {
					return err
				}
			}
			continue
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			s.line = append(s.line, b...)
			b = nil
		} else if len(s.line) > 0 {
			s.line = append(s.line, b[:i+1]...)
		}
		if len(s.line) > maxReplyLine || i > maxReplyLine {
			return errors.New("a line too long")
		}
		if i < 0 { // the client does not wait for the end of each kind of line
			return lineBegins(s.line)
		}
		line := b[:i+1]
		if len(s.line) > 0 {
			line, s.line = s.line, s.line[:0]
		}
		b = b[i+1:]
		if err := s.head(line, done); err != nil {
			return err
		}
	}
	return nil
}

// lineBegins checks a line as far as it has come.
func lineBegins(line []byte) error {
	switch kind := line[0]; {
	case bytes.IndexByte([]byte("+-,(:$!=*%~>"), kind) >= 0:
		return nil
	case kind == '_' && bytes.HasPrefix([]byte("_\r"), line), kind == '#' && (bytes.HasPrefix([]byte("#t\r"), line) || bytes.HasPrefix([]byte("#f\r"), line)):
		return nil
	}
	return fmt.Errorf("%q, which begins no reply", line[0])
}

// text takes the next bytes of a text with its line's end.
func (s *scanner) text(b []byte) error {
	if cr := s.rest - 2; cr >= 0 && cr < len(b) && b[cr] != '\r' || s.rest <= len(b) && b[s.rest-1] != '\n' {
		return errors.New("a text longer than it was said to be")
	}
	s.note(b[:max(0, min(len(b), s.rest-2))])
	s.rest -= len(b)
	return nil
}

// note keeps the beginning of the first text, unless that is a part of a part.
func (s *scanner) note(b []byte) {
	if s.leaves == 0 && len(s.open) <= 1 && s.length < len(s.word) {
		s.length += copy(s.word[s.length:], b)
	}
}

// head takes a whole line, which begins a part.
func (s *scanner) head(line []byte, done func(byte, []byte) error) error {
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return errors.New("a line without CR LF")
	}
	kind, text := line[0], line[1:len(line)-2]
	if len(s.open) == 0 {
		s.kind, s.leaves, s.length, s.parts, s.bytes = kind, 0, 0, 0, 0
	}
	s.bytes += len(text)
	number := 0
	switch kind {
	case ':', '$', '!', '=', '*', '%', '~', '>':
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil || text[0] == '+' {
			return fmt.Errorf("%q and no number", kind)
		}
		number = int(n)
		if kind != ':' && (n < -1 || n > maxReplyBytes || n == -1 && kind != '$' && kind != '*') {
			return fmt.Errorf("%q of length %d", kind, n)
		}
	}
	switch kind {
	case '+', '-', ',', '(', ':':
		s.note(text)
		return s.leaf(done)
	case '_', '#':
		if err := lineBegins(line[:len(line)-1]); err != nil {
			return err
		}
		return s.leaf(done)
	case '$', '!', '=':
		if kind == '=' && s.kind == '>' { // the client takes its first word off
			return fmt.Errorf("%q in a push", kind)
		}
		if number < 0 {
			return s.leaf(done)
		}
		if s.bytes += number; s.bytes > maxReplyBytes {
			return errors.New("more bytes than a reply can have")
		}
		s.rest = number + 2
		return nil
	case '%', '*', '~', '>':
		if kind == '%' {
			number *= 2
		}
		if number <= 0 { // nil, or empty
			return s.leaf(done)
		}
		s.parts += number
		if kind == '>' && len(s.open) > 0 || len(s.open) == maxReplyDepth || s.parts > maxReplyParts {
			return errors.New("more arrays than a reply can have")
		}
		s.open = append(s.open, number)
		return nil
	}
	return lineBegins(line)
}

// leaf ends a part that has no parts of its own.
func (s *scanner) leaf(done func(byte, []byte) error) error {
	s.leaves++
	for i := len(s.open) - 1; i >= 0; i-- {
		if s.open[i]--; s.open[i] > 0 {
			return nil
		}
		s.open = s.open[:i]
	}
	return done(s.kind, s.word[:s.length])
}
