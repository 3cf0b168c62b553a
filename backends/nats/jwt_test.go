package nats

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
)

// key is one of the three kinds that sign for each other: operator, account and user.
type key struct {
	nkeys.KeyPair
	public string
}

func newKey(t *testing.T, make func() (nkeys.KeyPair, error)) key {
	pair, err := make()
	require.NoError(t, err)
	public, err := pair.PublicKey()
	require.NoError(t, err)
	return key{pair, public}
}

// token is a JWT of NATS about subject, signed by k.
func (k key) token(t *testing.T, subject, kind string, of map[string]any) string {
	of["type"], of["version"] = kind, 2
	text, err := json.Marshal(map[string]any{
		"jti": subject, "iat": time.Now().Unix(), "iss": k.public, "sub": subject, "name": kind, "nats": of,
	})
	require.NoError(t, err)
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"typ":"JWT","alg":"ed25519-nkey"}`)) + "." + encode(text)
	signature, err := k.Sign([]byte(signed))
	require.NoError(t, err)
	return signed + "." + encode(signature)
}

func TestAFileOfCredentialsIsEnough(t *testing.T) {
	t.Parallel()
	operator, user := newKey(t, nkeys.CreateOperator), newKey(t, nkeys.CreateUser)
	system, account := newKey(t, nkeys.CreateAccount), newKey(t, nkeys.CreateAccount)
	limits := map[string]any{}
	for _, name := range []string{"subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage", "disk_storage", "streams", "consumer"} {
		limits[name] = -1
	}
	c := storetest.StartNats(t, 1, storetest.NatsConfig{Extra: fmt.Sprintf(
		"operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: { %s: %s, %s: %s }\n",
		operator.token(t, operator.public, "operator", map[string]any{}), system.public,
		system.public, operator.token(t, system.public, "account", map[string]any{"limits": map[string]any{"subs": -1, "data": -1, "payload": -1, "exports": -1, "imports": -1, "conn": -1}}),
		account.public, operator.token(t, account.public, "account", map[string]any{"limits": limits}))})
	seed, err := user.Seed()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "user.creds")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil,
		"-----BEGIN NATS USER JWT-----\n%s\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n",
		account.token(t, user.public, "user", map[string]any{"subs": -1, "data": -1, "payload": -1}), seed), 0o600))
	hosts := "//" + c.Members[0].Addr()
	everything(t.Context(), t, atURL(t, "nats", hosts+"?creds="+file), "k")
	_, err = atURL(t, "nats", hosts).TryAcquire(t.Context(), "k", time.Minute)
	require.ErrorIs(t, err, lock.ErrRefused, "without them")
}
