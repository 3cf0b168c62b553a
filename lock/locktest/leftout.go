package locktest

import (
	"fmt"
	"strings"
)

// shows is what the cases that need something would have shown.
var shows = map[string]string{
	needWrap:          "what takes long on live time: that long ttls are held whole, and that requests which arrive after the cleanup leave nothing",
	needPeer:          "that clients which share nothing but the store exclude each other, and see one count of tokens",
	needDelay:         "that slow answers never lengthen a lease, that calls return when their ctx ends, and that late requests leave nothing behind",
	needLoseReply:     "that a request which was applied without an answer leaves nothing held, and loses no lease",
	needOutage:        "that an outage looks like one, grants nothing, and ends no lease early",
	needBreak:         "that a holder whose hold was taken away learns of it, and disturbs nobody after it",
	needKill:          "that the keys of a process that dies get free, also for one who asks once",
	needSkew:          "that steps of a wall clock change nothing",
	needCut:           "that an attempt which is cut at any of its requests leaves nothing held",
	needRepeat:        "that a request which the network delivers twice is one",
	needConflict:      "that a conflict which is none, as drivers that retry make it, loses no lease",
	needStaleReads:    "that old states, as replicas show them, are not believed",
	needDelete:        "that tokens rise although the record of a key is deleted",
	needAwaiter:       "that a release hands the key over to the first who waits, whatever became of those ahead",
	needWatcher:       "that waiters learn of a release at once, without polling",
	needInspector:     "that operators see who holds what",
	needList:          "that operators can list who holds what",
	needForceReleaser: "that an operator can break one term, and no other",
	needHealthChecker: "that an operator sees whether the store can decide",
	needCloser:        "that a closed locker says so",
	needHeldError:     "that a refusal names the key, and says when to ask again",
	needWaiters:       "that the waiters of one process ask in order, one for all",
	needReleaseAfter:  "that a hold can outlast its process until a given time",
	needWaiting:       "that Inspect counts those who wait in the store's queue",
	needExtendStarter: "that a Keeper's renewals, which nobody waits for, are extends like others",
	needTokenRaiser:   "that a token can be raised, so that tokens rise while a fleet changes stores",
}

// leftOut has the cases that were skipped, by what was missing.
type leftOut map[string][]string

func (l leftOut) add(missing, name string) {
	if missing != "" {
		l[missing] = append(l[missing], name)
	}
}

// text says what was left out, and what it would have shown; "" if nothing was.
func (l leftOut) text() string {
	var b strings.Builder
	for _, need := range needs {
		if names := l[need]; len(names) > 0 {
			fmt.Fprintf(&b, "\n  %s: %s (%s)", need, shows[need], strings.Join(names, ", "))
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "locktest: not shown, because the harness or the locker lacks what it needs:" + b.String()
}
