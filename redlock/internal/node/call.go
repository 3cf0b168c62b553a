package node

import (
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// Call is a request to a node. The caller can embed it in what it keeps of the request, and
// gets it back by Who.
type Call struct {
	script.Request
	Who   Caller
	Class Class
	Until time.Duration // of Now: it is not sent after that; 0: always wanted

	start time.Time // only for Options.OnRequest

	// Of the queue, whose mutex guards them: where the call waits.
	queued     bool
	alone      bool // it is its lock's only call under way
	prev, next *Call
}

// Caller is notified once of each call: of the answer, or of the connection's death. From
// then on the call is its own again. It must not block: others wait behind it.
type Caller interface{ Done(*Call, Answer) }

// Fate is what became of a request.
type Fate uint8

const (
	MayArrive Fate = iota // it was sent, perhaps, and can still arrive: its connection has died
	NeverSent             // it was not sent, and never arrives
	Answered              // the server has answered, if only with an error
)

// Answer is a node's reply to one request.
type Answer struct {
	Msg  rueidis.RedisMessage
	Err  error // of the server, or of the connection
	Fate Fate
}

// AnswerOf is the answer that a client gave.
func AnswerOf(res rueidis.RedisResult) Answer {
	msg, err := res.ToMessage()
	return Answer{Msg: msg, Err: err, Fate: fateOf(err)}
}

// fateOf is what became of a request that was handed to the client and ended with err.
func fateOf(err error) Fate {
	if nodeerr.Broken(err) {
		return MayArrive
	}
	return Answered
}
