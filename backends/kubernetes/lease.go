package kubernetes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

const (
	// annotation has the record. What is in the spec is for others.
	annotation = "lockkeeper/record"
	// renewedAt has the spec's renewTime that was written with the record: another one in the
	// spec is of somebody else.
	renewedAt = "lockkeeper/renewed"

	// createdBy marks the Leases that were made here: no others are ever deleted.
	createdBy      = "app.kubernetes.io/managed-by"
	createdByValue = "lockkeeper"

	microTime = "2006-01-02T15:04:05.000000Z07:00"
)

// lease is a Lease as the server has it.
type lease struct {
	Kind     string   `json:"kind"`
	Metadata metadata `json:"metadata"`
	Spec     spec     `json:"spec"`

	raw []byte // all of it
}

type metadata struct {
	Name              string            `json:"name"`
	UID               string            `json:"uid"`
	ResourceVersion   string            `json:"resourceVersion"`
	CreationTimestamp time.Time         `json:"creationTimestamp"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	ManagedFields     []struct {
		Time time.Time `json:"time"`
	} `json:"managedFields"`
}

type spec struct {
	HolderIdentity       string `json:"holderIdentity"`
	LeaseDurationSeconds *int32 `json:"leaseDurationSeconds"`
	AcquireTime          string `json:"acquireTime"`
	RenewTime            string `json:"renewTime"`
	LeaseTransitions     int32  `json:"leaseTransitions"`
}

func parseLease(raw []byte) (*lease, error) {
	l := &lease{raw: raw}
	if err := json.Unmarshal(raw, l); err != nil || l.Metadata.UID == "" || l.Metadata.ResourceVersion == "" {
		return nil, fmt.Errorf("%w: what the server sent is no Lease", lock.ErrUnavailable)
	}
	return l, nil
}

// version is of this Lease and of none that is made in its place: resource versions are of
// one history, but a client that sends one without the uid makes a deleted Lease anew.
func (l *lease) version() string { return l.Metadata.UID + "/" + l.Metadata.ResourceVersion }

// identity is holderIdentity of a record. That of a hold is no elector's: one that found its
// own name there would believe that it leads.
func identity(r record.Record) string {
	if r.TTL == 0 {
		return ""
	}
	return r.Holder + "/" + r.Term
}

// own is the record that was written here last, if any.
func (l *lease) own(key string) (record.Record, error) {
	text, ok := l.Metadata.Annotations[annotation]
	if !ok {
		return record.Record{Key: key}, nil
	}
	return record.Decode([]byte(text))
}

// record is what the Lease says of a lock. others says that somebody else has written its
// spec since: an elector of client-go, or a person.
func (l *lease) record(key string) (r record.Record, others bool, err error) {
	own, err := l.own(key)
	switch {
	case err != nil:
		return record.Record{}, false, err
	case l.Spec.HolderIdentity == identity(own) && l.Metadata.Annotations[renewedAt] == l.Spec.RenewTime:
		return own, false, nil
	}
	r, err = l.foreign(own)
	return r, true, err
}

// foreign makes a record of a spec that somebody else has written, over own.
func (l *lease) foreign(own record.Record) (record.Record, error) {
	s := l.Spec
	created := uint64(max(0, l.Metadata.CreationTimestamp.UnixMicro()))
	r := record.Record{
		Key: own.Key, Holder: s.HolderIdentity, Queue: own.Queue,
		// A number of its own for each of their terms, above that of the term before. Nobody
		// fences with it; it orders what is seen.
		Token: max(own.Token, created) + 1 + uint64(max(0, s.LeaseTransitions)),
	}
	// Seq orders the states of one term, and resource versions rise.
	if rv, err := strconv.ParseUint(l.Metadata.ResourceVersion, 10, 64); err == nil {
		r.Seq = rv
	}
	r.Seq = max(r.Seq, own.Seq+1)
	if s.HolderIdentity == "" {
		return r, nil
	}
	if s.LeaseDurationSeconds == nil || *s.LeaseDurationSeconds <= 0 {
		return record.Record{}, fmt.Errorf("%w: the Lease has the holder %.80q and no leaseDurationSeconds, so nobody can know how long; remove one or give the other", lock.ErrUnavailable, s.HolderIdentity)
	}
	r.TTL = time.Duration(*s.LeaseDurationSeconds) * time.Second
	r.Term = fmt.Sprintf("%s/%d", s.HolderIdentity, s.LeaseTransitions)
	// Whatever its holder changes is a sign of life; what those who wait write is in the
	// annotation, and is none.
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%q %q %q %d %d", s.HolderIdentity, s.AcquireTime, s.RenewTime, s.LeaseTransitions, *s.LeaseDurationSeconds)
	r.Beat = sum.Sum64()
	if renewed, err := time.Parse(time.RFC3339, s.RenewTime); err == nil {
		r.Until = renewed.Add(r.TTL) // by its holder's wall clock: a hint
	}
	return r, nil
}

// entry is the Lease as the engine sees it.
func (l *lease) entry(key string) (record.Entry, error) {
	r, _, err := l.record(key)
	return record.Entry{Record: r, Version: l.version()}, err
}

// written is when the Lease was last written, by the clock of the server that did it; zero if
// none has noted it.
func (l *lease) written() (last time.Time) {
	for _, f := range l.Metadata.ManagedFields {
		if f.Time.After(last) {
			last = f.Time
		}
	}
	return last
}

// newLease is the body of a Lease that is not there yet, and the note in it.
func newLease(name string, r record.Record) (text []byte, note string, err error) {
	body := map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": map[string]any{"name": name, "labels": map[string]any{createdBy: createdByValue}},
	}
	write(body, r, spec{}, true)
	return encoded(body)
}

// encoded is a body as it is sent, and the note in it, which the answer must show.
func encoded(body map[string]any) (text []byte, note string, err error) {
	note, _ = inside(inside(body, "metadata"), "annotations")[annotation].(string)
	text, err = json.Marshal(body)
	return text, note, err
}

// replaced is the body that puts r in place of what l has, and the note in it. All that others keep
// in a Lease stays: labels, owners, annotations. The uid and the version of l go with it, which the
// server compares.
func (l *lease) replaced(key string, r record.Record) (text []byte, note string, err error) {
	old, others, err := l.record(key)
	if err != nil {
		return nil, "", err
	}
	dec := json.NewDecoder(bytes.NewReader(l.raw))
	dec.UseNumber()
	body := map[string]any{}
	if err := dec.Decode(&body); err != nil {
		return nil, "", err
	}
	meta := inside(body, "metadata")
	delete(meta, "managedFields") // the server's own to keep
	sameHold := r.Token == old.Token && r.Term == old.Term && r.Beat == old.Beat && r.TTL == old.TTL
	switch {
	case sameHold && others:
		// Only the queue has changed, behind somebody else's hold: that stays theirs, and so
		// does the record that it is counted from.
		own, err := l.own(key)
		if err != nil {
			return nil, "", err
		}
		own.Queue, own.Seq = r.Queue, own.Seq+1
		inside(meta, "annotations")[annotation] = string(own.Encode())
	case sameHold: // for electors of client-go nothing has changed
		inside(meta, "annotations")[annotation] = string(r.Encode())
	default:
		write(body, r, l.Spec, old.Term != r.Term)
	}
	return encoded(body)
}

// inside is the object below name, made if it is not there.
func inside(o map[string]any, name string) map[string]any {
	child, ok := o[name].(map[string]any)
	if !ok {
		child = map[string]any{}
		o[name] = child
	}
	return child
}

// write puts r into a Lease: the record, and what electors of client-go go by.
func write(body map[string]any, r record.Record, was spec, newTerm bool) {
	// An elector counts a hold from when it first saw the spec as it is, and sees whole
	// seconds of renewTime: each write is at least a second after the last, whatever the wall
	// clock does, so that none is missed.
	now := time.Now()
	if last, err := time.Parse(time.RFC3339, was.RenewTime); err == nil {
		if next := last.Truncate(time.Second).Add(time.Second); now.Before(next) {
			now = next
		}
	}
	renewed := now.UTC().Format(microTime)
	notes := inside(inside(body, "metadata"), "annotations")
	notes[annotation], notes[renewedAt] = string(r.Encode()), renewed

	fields := inside(body, "spec")
	fields["holderIdentity"], fields["renewTime"] = identity(r), renewed
	if r.TTL == 0 {
		fields["leaseDurationSeconds"] = 1 // as client-go leaves it
		return
	}
	// Rounded up, with the 1 % for clock rates that the engine adds for its own.
	fields["leaseDurationSeconds"] = int64((r.TTL + r.TTL/100 + time.Second - 1) / time.Second)
	if newTerm {
		fields["acquireTime"], fields["leaseTransitions"] = renewed, was.LeaseTransitions+1
	}
}
