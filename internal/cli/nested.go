package cli

import (
	"context"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

// heldEnv are the locks that the lockkeepers hold that a command runs under, for a
// lockkeeper below it: KEY=TOKEN&KEY=TOKEN, as in a URL.
const heldEnv = "LOCKKEEPER_HELD"

// environment is this process's, without what leads to the store. A directory is no
// secret: it stays, so that a lockkeeper below the command uses the same one. So does, with
// --keep-credentials, a store that a flag named: the environment may name another.
func (r *runner) environment(lease lock.Lease) []string {
	drop := []string{"LOCKKEEPER_KEY", "LOCKKEEPER_TOKEN", heldEnv}
	local := r.store.dir() != "" && !strings.ContainsAny(r.store.given, "?#")
	leads := "" // to the store
	switch {
	case local || r.keepSecrets && r.store.from == "--url":
		leads = "LOCKKEEPER_URL=" + r.store.given
	case r.keepSecrets && r.store.from == "--nodes":
		leads = "REDIS_NODES=" + r.store.given
	}
	switch {
	case !r.keepSecrets:
		drop = append(drop, secretEnv...)
	case leads != "": // what else the environment names is another store
		drop = append(drop, "LOCKKEEPER_URL", "REDIS_NODES")
	}
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(drop, name)
	})
	token := strconv.FormatUint(lease.Token(), 10)
	held, err := url.ParseQuery(r.a.getenv(heldEnv))
	if err != nil {
		held = url.Values{}
	}
	held.Add(lease.Key(), strconv.FormatUint(rwlock.PlaceToken(lease), 10)) // as the store shows it
	env = append(env, "LOCKKEEPER_KEY="+r.nameOf(lease), "LOCKKEEPER_TOKEN="+token, heldEnv+"="+held.Encode())
	if leads != "" {
		env = append(env, leads)
	}
	return env
}

// nested reports whether this process runs under another lockkeeper.
func (a *app) nested() bool { return a.getenv(heldEnv) != "" || a.getenv("LOCKKEEPER_KEY") != "" }

// refuseAnother: a lockkeeper under another one, which has taken away what leads to its
// store, does not fall back to another store.
func (a *app) refuseAnother() error {
	if !a.nested() {
		return nil
	}
	return usage("no store is named, and this runs under the lock %q of another lockkeeper, which takes what leads to its store out of the environment: name the store by --url or --nodes, or give the other one --keep-credentials", a.getenv("LOCKKEEPER_KEY"))
}

// heldAbove is how many of the key's slots and readers' places lockkeepers hold that this
// one runs under: they wait for its end. (So do those that it would wait for: a writer that
// waits for a reader above is before this one in the queue.) A token shows that it is the
// same term, in the same store.
func (r *runner) heldAbove(ctx context.Context, locker lock.Locker) (n int) {
	held, _ := url.ParseQuery(r.a.getenv(heldEnv))
	inspector, ok := lock.As[lock.Inspector](locker)
	if !ok {
		return 0
	}
	for key, tokens := range held {
		of, _ := lock.SlotOf(key)
		if read, ok := rwlock.ReaderOf(key); ok {
			of = read
		}
		if of != r.key && key != r.key {
			continue
		}
		info, err := inspector.Inspect(ctx, key) // what it can't tell, the campaign meets as well
		if err == nil && slices.Contains(tokens, strconv.FormatUint(info.Token, 10)) {
			n++
		}
	}
	return n
}

// shown is the store for people, without a secret.
func (s store) shown() string {
	if s.nodes == nil {
		return withoutSecrets(s.url)
	}
	shown := make([]string, len(s.nodes))
	for i, node := range s.nodes {
		shown[i] = withoutSecrets(node)
	}
	return strings.Join(shown, ",")
}

// withoutSecrets is a store's URL without user, password and parameters.
func withoutSecrets(raw string) string {
	if path, ok := sqlitePath(raw); ok {
		return "sqlite:" + path
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		scheme, _, _ = strings.Cut(raw, ":")
		return scheme + ":"
	}
	rest, query, _ := strings.Cut(rest, "?")
	if scheme == "file" { // a directory's name may have an @
		return "file://" + rest
	}
	if strings.Contains(query, "@") {
		rest = "..." // or is that of the password?
	}
	return scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
}

// sayStore says once what has to be known of the store: that nobody has named it, or that it
// keeps nobody else out. always: with --quiet, too, because the command is to run under a lock
// that spans less than it may seem.
func (r *runner) sayStore(always bool) {
	memory := strings.HasPrefix(strings.ToLower(r.store.url), "memory:")
	if r.store.named && !memory || r.said || r.quiet && !always {
		return
	}
	r.said = true
	if memory {
		r.warn("a memory: store is this process's own: the lock keeps no other lockkeeper out (see --url, LOCKKEEPER_URL)")
		return
	}
	r.warn("no store is named: this lock is among this user's processes on this machine alone (see --url, LOCKKEEPER_URL)")
}
