package script

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

// Constants of the queue that Go and Lua share.
const (
	// freshness is for how many claims after its last sending a request counts as alive.
	freshness = 1.3
	// queueKept is for how long a queue is kept after the last request to it, at least.
	queueKept = 60 * time.Second

	pushNone      = "0" // the waiter is not notified: it gets the grant when it asks again
	pushCounted   = "1" // it is notified; if its channel has no listener, it has died
	pushUncounted = "2" // it is notified; the number of listeners says nothing
)

// Stand is one sending of a request that stands in a node's queue until the lock is free.
// Another sending of the same waiter refreshes the request, or replaces it.
type Stand struct {
	Waiter string // of this wait: new for each, the same in all its sendings; without spaces
	Value  string // of this attempt
	// Waited is the time since the wait began, measured before this is sent: the
	// request's stamp, in whole microseconds, rounded down. The stamps of one waiter rise
	// strictly from attempt to attempt: a notification names no value, but a stamp.
	Waited time.Duration
	Claim  Millis // for how long a grant holds
	// Channel is where this process receives notifications, without spaces. "": nowhere;
	// a free lock is left to its waiter until that asks again.
	Channel string
	Cluster bool   // the node is a Redis Cluster, where the number of listeners says nothing
	Take    bool   // a free lock is granted to the head of the queue
	Instead string // an earlier value of this wait that is handed back in the same step; "": none
	To      string // the waiter that gets it, if it stands here; "": nobody
}

// Request asks a node for it. See [ParseStand].
func (s Stand) Request(k Keys, retention Millis, guard Guard) Request {
	push, channel, take := pushCounted, s.Channel, "0"
	switch {
	case channel == "":
		push, channel = pushNone, "-"
	case s.Cluster:
		push = pushUncounted
	}
	if s.Take {
		take = "1"
	}
	return request(stand, k, s.Value, string(s.Claim), string(retention), guard.Least, guard.Durable,
		s.Waiter, strconv.FormatInt(s.Waited.Microseconds(), 10), push, channel, take, s.Instead, s.To)
}

// Standing is a node's answer to a [Stand].
type Standing struct {
	// Granted: the lock has the value of the request that is answered, under this count.
	// Stamp is that of the sending that was granted; 0, the wait's beginning, if the node
	// does not know it any more.
	Granted   bool
	Count     uint64
	Stamp     time.Duration
	Position  Position
	Unguarded bool // the node does not report its run, so that the guard can't work

	// Else the request stands.
	Rank           int           // behind so many
	Free           bool          // nobody has the lock
	Holder         string        // its value, if somebody has it
	HolderWaiter   string        // if it was granted from the queue: the waiter that has it
	HolderPosition Position      // and its position
	Left           time.Duration // until the lock expires; -1: never
	SitsOut        time.Duration // it grants nothing for so long, since it may have forgotten; 0: it votes
	Run            string        // in which it is
}

// Position is the microsecond of a node's clock at which a wait began, as the node sees
// it. Positions of one node can be compared.
type Position uint64

// ParseStand parses the reply to a [Stand].
func ParseStand(msg rueidis.RedisMessage) (Standing, error) {
	part, err := msg.ToArray()
	if err != nil || len(part) == 0 || !part[0].IsInt64() {
		return Standing{}, fmt.Errorf("%w: not an array that begins with a number", nodeerr.ErrReply)
	}
	switch code, _ := part[0].AsInt64(); {
	case code == 1 && len(part) == 4:
		return parseGranted(part)
	case code == 0 && len(part) == 8:
		return parseStands(part)
	}
	return Standing{}, fmt.Errorf("%w: an array of %d", nodeerr.ErrReply, len(part))
}

func parseGranted(part []rueidis.RedisMessage) (Standing, error) {
	n, err1 := integer(&part[1])
	stamp, err2 := integer(&part[2])
	position, err3 := integer(&part[3])
	if err := errors.Join(err1, err2, err3); err != nil {
		return Standing{}, err
	}
	s := Standing{Granted: true, Unguarded: n < 0}
	if s.Unguarded {
		n = -n
	}
	if n < 1 || n >= maxCount {
		return Standing{}, fmt.Errorf("%w: count %d", nodeerr.ErrReply, n)
	}
	s.Count = uint64(n)
	return s, s.setGrant(stamp, position)
}

func (s *Standing) setGrant(stamp, position int64) error {
	if stamp < 0 || stamp > maxStamp {
		return fmt.Errorf("%w: a stamp of %d µs", nodeerr.ErrReply, stamp)
	}
	if position < 0 || position >= maxCount {
		return fmt.Errorf("%w: position %d", nodeerr.ErrReply, position)
	}
	s.Stamp, s.Position = time.Duration(stamp)*time.Microsecond, Position(position)
	return nil
}

// maxStamp is the longest wait, in microseconds, that fits a duration.
const maxStamp = int64(MaxLeft / time.Microsecond)

func parseStands(part []rueidis.RedisMessage) (Standing, error) {
	rank, err1 := integer(&part[1])
	holder, err2 := part[2].ToString()
	pttl, err3 := integer(&part[3])
	left, _ := milliseconds(&part[3])
	waiter, err4 := part[4].ToString()
	position, err5 := integer(&part[5])
	seconds, err6 := integer(&part[6])
	run, err7 := part[7].ToString()
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		return Standing{}, fmt.Errorf("%w: %w", nodeerr.ErrReply, err)
	}
	if rank < 0 || rank > 1<<31 || position < 0 || position >= maxCount || seconds < 0 || seconds > 1<<31 {
		return Standing{}, fmt.Errorf("%w: rank %d, position %d, %d s", nodeerr.ErrReply, rank, position, seconds)
	}
	free := pttl == -2 // of a key that is not there
	if free {
		left = 0
	}
	return Standing{
		Rank: int(rank), Free: free, Holder: holder, Left: left, HolderWaiter: waiter, HolderPosition: Position(position),
		SitsOut: time.Duration(seconds) * time.Second, Run: run,
	}, nil
}

// Leave takes the waiter's request out of the queue, whatever its value, and frees the
// lock if it has this value. See [ParseRelease].
func Leave(k Keys, waiter, value string, retention Millis, guard Guard) Request {
	return request(leave, k, value, string(retention), guard.Least, guard.Durable, waiter)
}

// Confirm is [Commit] and [Extend] in one step. See [ParseConfirm].
func Confirm(k Keys, value string, ttl, retention Millis, guard Guard, token uint64) Request {
	return request(confirm, k, value, string(ttl), string(retention), guard.Least, guard.Durable, strconv.FormatUint(token, 10))
}

// ParseConfirm gives Counted, NotMine or Prolonged.
func ParseConfirm(msg rueidis.RedisMessage) (Reply, error) {
	if msg.IsInt64() {
		return ParseCommit(msg)
	}
	part, err := fields(&msg, 3)
	if err != nil {
		return Reply{}, err
	}
	if code, _ := part[0].AsInt64(); code != 1 {
		return Reply{}, nodeerr.ErrReply
	}
	return sitsOut(Prolonged, part)
}

// Push is the notification of a grant, on the channel of the waiter's process.
type Push struct {
	Waiter   string
	Count    uint64
	Stamp    time.Duration // of the sending that was granted
	Position Position
}

// ParsePush parses a message of that channel.
func ParsePush(message string) (Push, error) {
	part := strings.Split(message, " ")
	if len(part) != 4 || part[0] == "" {
		return Push{}, fmt.Errorf("%w: a notification of %d words", nodeerr.ErrReply, len(part))
	}
	count, err1 := strconv.ParseUint(part[1], 10, 64)
	stamp, err2 := strconv.ParseInt(part[2], 10, 64)
	position, err3 := strconv.ParseInt(part[3], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil || count < 1 || count >= maxCount {
		return Push{}, fmt.Errorf("%w: a notification of other numbers", nodeerr.ErrReply)
	}
	var s Standing
	if err := s.setGrant(stamp, position); err != nil {
		return Push{}, err
	}
	return Push{part[0], count, s.Stamp, s.Position}, nil
}
