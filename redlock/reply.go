package redlock

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// reply is one node's answer in one round.
type reply struct {
	script.Reply
	fate  node.Fate // of this request
	doubt bool      // this or an earlier request that sets the lock may still be on its way
	err   error
}

func failure(err error) reply {
	return reply{Reply: script.Reply{Kind: script.Failed}, err: nodeerr.Shown(err)}
}

// notAsked is the reply of a node that was not asked.
func notAsked(err error) reply {
	return reply{Reply: script.Reply{Kind: script.Failed}, err: err, fate: node.NeverSent}
}

// replyOf is what the answer says; parse is nil where nobody needs to know that.
func replyOf(a node.Answer, parse func(rueidis.RedisMessage) (script.Reply, error)) reply {
	if parse == nil {
		return reply{fate: a.Fate}
	}
	if a.Err != nil {
		rep := failure(a.Err)
		rep.fate = a.Fate
		return rep
	}
	rep, err := parse(a.Msg)
	if err != nil { // a server that answers so may do anything: the request may still arrive
		return failure(err)
	}
	return reply{Reply: rep, fate: node.Answered}
}

// reason is why this answer is no vote; nil if it is one.
func (rep *reply) reason(timeout time.Duration, waited bool) error {
	switch rep.Kind {
	case script.Silent:
		if !waited {
			return errors.New("not waited for: the others decided")
		}
		return fmt.Errorf("%w within %v", nodeerr.ErrNoAnswer, timeout)
	case script.Failed:
		if errors.Is(rep.err, os.ErrDeadlineExceeded) { // the connection was cut for it
			return fmt.Errorf("%w within %v", nodeerr.ErrNoAnswer, timeout)
		}
		return rep.err
	case script.Held:
		return fmt.Errorf("held by %s", (&lock.HeldError{Holder: holderName(rep.Value)}).By())
	case script.Recovering, script.Prolonged:
		return fmt.Errorf("restarted lately and may have forgotten locks: votes in %v (it is not known to be durable; see Options.RestartGuard)", rep.Left)
	case script.NotMine, script.Taken:
		return fmt.Errorf("held by another")
	case script.Missing:
		return fmt.Errorf("the lock is missing")
	}
	return nil
}
