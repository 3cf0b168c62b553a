package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

// connection sends requests. It ends those under way as soon as the connection is lost: the
// client would have them wait for a reply that can't come any more.
type connection struct {
	dial    func(ctx context.Context) (jetstream.JetStream, error)
	hangUp  func(js jetstream.JetStream) // closes what dial has made
	own     bool                         // it may choose another server
	closing context.Context              // ends when close begins
	end     context.CancelFunc
	ready   chan struct{} // closed when dial has returned
	once    sync.Once     // begins dialing
	done    sync.WaitGroup

	noted chan struct{} // receives after noteFailure, and keeps one

	js  jetstream.JetStream // with err, to be read after ready
	api string              // begins the subjects of JetStream's API
	err error

	mu       sync.Mutex // guards all below
	requests map[*request]struct{}
	failing  time.Time // when the first of the requests began that have failed since the latest answer; zero: none
	failure  error     // why the latest attempt to connect has failed; nil: it has not, or is not known
}

// request is one under way.
type request struct {
	c       *connection
	ctx     context.Context // ends with the caller's, and when the request is interrupted
	cancel  context.CancelCauseFunc
	subject string
	began   time.Time
}

func newConnection(dial func(ctx context.Context) (jetstream.JetStream, error), hangUp func(jetstream.JetStream)) *connection {
	closing, end := context.WithCancel(context.Background())
	return &connection{dial: dial, hangUp: hangUp, closing: closing, end: end, ready: make(chan struct{}), noted: make(chan struct{}, 1), requests: map[*request]struct{}{}}
}

// existing is a connection that is the caller's.
func existing(js jetstream.JetStream) *connection {
	return newConnection(func(context.Context) (jetstream.JetStream, error) { return js, nil }, func(jetstream.JetStream) {})
}

// open dials, once, and waits for it until ctx ends.
func (c *connection) open(ctx context.Context) error {
	c.once.Do(func() { c.done.Go(c.run) })
	select {
	case <-c.ready:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run dials, and then ends the requests under way whenever the connection is lost.
func (c *connection) run() {
	c.js, c.err = c.dial(c.closing)
	if c.err != nil {
		close(c.ready)
		return
	}
	c.api = jetstream.DefaultAPIPrefix
	switch o := c.js.Options(); {
	case o.Domain != "":
		c.api = "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		c.api = strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	conn := c.js.Conn()
	changes := conn.StatusChanged(natsgo.RECONNECTING, natsgo.CLOSED)
	defer conn.RemoveStatusListener(changes)
	close(c.ready)
	for {
		select {
		case <-changes:
			c.interrupt(errLost, func(*request) bool { return true })
		case <-c.closing.Done():
			return
		}
	}
}

// close ends the requests and waits for what runs. No call may come after it.
func (c *connection) close() {
	c.end()
	c.once.Do(func() { c.err = lock.ErrClosed; close(c.ready) })
	c.done.Wait()
	if c.js != nil {
		c.hangUp(c.js)
	}
}

var (
	errLost   = errors.New("the connection was lost")
	errDenied = errors.New("the server has denied it")
)

// interrupt ends the requests that match, with a cause.
func (c *connection) interrupt(why error, match func(*request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.requests {
		if match(r) {
			r.cancel(why)
		}
	}
}

// begin registers a request, after open; its end must be called. An error of it means that
// nothing was sent.
func (c *connection) begin(ctx context.Context, subject string) (*request, error) {
	r := &request{c: c, subject: subject, began: time.Now()}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	c.mu.Lock()
	c.requests[r] = struct{}{}
	c.mu.Unlock()
	// After it was registered, so that no loss of the connection is missed. What is sent
	// without a connection is kept by the client until there is one, and comes late.
	if !c.js.Conn().IsConnected() {
		r.end()
		return nil, c.explain(errLost)
	}
	return r, nil
}

func (r *request) end() {
	r.c.mu.Lock()
	delete(r.c.requests, r)
	r.c.mu.Unlock()
	r.cancel(nil)
}

// codeNoLeader is the server's for "JetStream system temporarily unavailable".
const codeNoLeader = 10008

// ask sends a request to JetStream's API and decodes its reply. An error that the server
// replies is a *jetstream.APIError.
func (c *connection) ask(ctx context.Context, what string, body []byte, reply any) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	r, err := c.begin(ctx, c.api+what)
	if err != nil {
		return err
	}
	defer r.end()
	m, err := c.js.Conn().RequestWithContext(r.ctx, r.subject, body)
	if err != nil {
		return r.failed(err)
	}
	var outcome struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := errors.Join(json.Unmarshal(m.Data, &outcome), json.Unmarshal(m.Data, reply)); err != nil {
		return fmt.Errorf("the reply to %s can't be understood: %v", what, err)
	}
	c.answered(r.began, outcome.Error == nil || outcome.Error.ErrorCode != codeNoLeader)
	if outcome.Error != nil {
		return outcome.Error
	}
	return nil
}

// errUndecided is why a leader refuses a write while another one of the same subject is on its
// way to the replicas. The refused one is never applied.
var errUndecided = errors.New("another write of this key is not decided")

// publish writes a message to a stream in place of the one with this sequence number, and
// returns its own.
func (c *connection) publish(ctx context.Context, subject string, data []byte, h natsgo.Header, expected uint64) (uint64, error) {
	if err := c.open(ctx); err != nil {
		return 0, err
	}
	if c.api != jetstream.DefaultAPIPrefix {
		subject = c.api + subject // as the client does: into another domain or account
	}
	r, err := c.begin(ctx, subject)
	if err != nil {
		return 0, err
	}
	defer r.end()
	if h == nil {
		h = natsgo.Header{}
	}
	ack, err := c.js.PublishMsg(r.ctx, &natsgo.Msg{Subject: subject, Header: h, Data: data}, jetstream.WithExpectLastSequencePerSubject(expected))
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch e.ErrorCode {
		case jetstream.JSErrCodeStreamWrongLastSequenceConstant:
			return 0, errUndecided
		case jetstream.JSErrCodeStreamWrongLastSequence:
			err = record.ErrChanged
		default:
			err = judge(e)
		}
		c.answered(r.began, e.ErrorCode != codeNoLeader)
		return 0, err
	}
	if err != nil {
		return 0, r.failed(err) // applied or not, now or later
	}
	c.answered(r.began, true)
	return ack.Sequence, nil
}

// makeStream makes one.
func (c *connection) makeStream(ctx context.Context, cfg jetstream.StreamConfig) error {
	body, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	var reply struct{}
	return c.ask(ctx, "STREAM.CREATE."+cfg.Name, body, &reply)
}

// failed is what an error of the client means.
func (r *request) failed(err error) error {
	c := r.c
	if cause := context.Cause(r.ctx); errors.Is(cause, errLost) || errors.Is(cause, errDenied) {
		err = cause // interrupted by it
	}
	if denial := c.denial(c.js.Conn().LastError(), r.subject); denial != nil {
		return denial
	}
	switch {
	case errors.Is(err, natsgo.ErrNoResponders):
		return errors.New("no JetStream answers there: start the servers with it, and enable it for the account")
	case !c.js.Conn().IsConnected():
		return c.explain(err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		c.answered(r.began, false)
	}
	return err
}

// answerLimit is for how long requests may fail on one server before the connection leaves
// it for another. A server that the others do not reach answers pings, but no request.
const answerLimit = 2 * time.Second

// answered notes whether a request that began then was answered by a server that reaches its
// cluster.
func (c *connection) answered(began time.Time, ok bool) {
	c.mu.Lock()
	if ok {
		c.failing = time.Time{}
	} else if c.failing.IsZero() {
		c.failing = began
	}
	leave := c.own && !ok && time.Since(c.failing) >= answerLimit
	if leave {
		c.failing = time.Time{}
	}
	c.mu.Unlock()
	if conn := c.js.Conn(); leave && len(conn.Servers()) > 1 {
		_ = conn.ForceReconnect()
	}
}

// denial is what it means that the server denied this user something, for a request to
// subject; nil: nothing. The server reports it apart from the request, which gets no reply.
func (c *connection) denial(err error, subject string) error {
	if !errors.Is(err, natsgo.ErrPermissionViolation) {
		return nil
	}
	inbox := natsgo.InboxPrefix
	if own := c.js.Conn().Opts.InboxPrefix; own != "" {
		inbox = own
	}
	switch text := err.Error(); {
	case strings.Contains(text, `"`+subject+`"`), strings.Contains(text, `"`+subject+`.`):
		return fmt.Errorf("%w: this user may not publish to %s; permit what the page of backends/nats lists", lock.ErrRefused, subject)
	case strings.Contains(text, `"`+inbox):
		return fmt.Errorf("%w: this user may not subscribe to %s, where replies come; permit it, or give the prefix that it may use", lock.ErrRefused, inbox+">")
	}
	return nil
}

// deny ends the requests that the server has denied, which get no reply.
func (c *connection) deny(err error) {
	c.interrupt(errDenied, func(r *request) bool { return c.denial(err, r.subject) != nil })
}

// noteFailure keeps why a connection could not be made; nil: it was.
func (c *connection) noteFailure(err error) {
	if errors.Is(err, natsgo.ErrNoServers) {
		return // the dialer has noted why
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure = err
	select {
	case c.noted <- struct{}{}:
	default:
	}
}

// explain says why there is no connection, as far as is known.
func (c *connection) explain(err error) error {
	c.mu.Lock()
	why := c.failure
	c.mu.Unlock()
	if why == nil {
		why = c.js.Conn().LastError()
	}
	switch {
	case why == nil:
		return fmt.Errorf("not connected: %w", err)
	case errors.Is(why, natsgo.ErrAuthorization), errors.Is(why, natsgo.ErrAuthExpired), errors.Is(why, natsgo.ErrAuthRevoked),
		strings.Contains(strings.ToLower(why.Error()), "authorization violation"):
		return fmt.Errorf("%w: %v; check user and password, or the credentials", lock.ErrRefused, why)
	}
	hint := ""
	if strings.Contains(why.Error(), "after TLS handshake") {
		hint = "; the server may want a client's certificate, or another one"
	}
	return fmt.Errorf("can't connect: %v%s", why, hint)
}

// The server's codes for what asking again does not mend, and what does. All others count as
// an outage.
var codes = map[jetstream.ErrorCode]string{
	jetstream.JSErrCodeJetStreamNotEnabled:           "start the servers with JetStream",
	jetstream.JSErrCodeJetStreamNotEnabledForAccount: "enable JetStream for the account",
	codeNotClustered: "name 1 replica, or use a cluster",
	10026:            "raise the account's limit of consumers",
	10027:            "raise the account's limit of streams, or have the bucket made by somebody else",
	10054:            "raise the bucket's limit of a message's size",
	10077:            "raise the bucket's limits of messages and bytes, or remove them; Prune makes room, too",
	10109:            "name another bucket, which lockkeeper makes",
	10065:            "another stream has the bucket's subjects: name another bucket",
}

// judge says what an error of JetStream means.
func judge(err error) error {
	of, ok := errors.AsType[jetstream.JetStreamError](err)
	if !ok || of.APIError() == nil {
		return err
	}
	e := of.APIError()
	text := fmt.Sprintf("%s (JetStream's code %d)", e.Description, e.ErrorCode)
	if do, ok := codes[e.ErrorCode]; ok {
		return fmt.Errorf("%w: %s; %s", lock.ErrRefused, text, do)
	}
	return fmt.Errorf("%s", text)
}
