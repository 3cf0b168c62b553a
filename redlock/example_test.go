package redlock_test

import (
	"context"
	"crypto/tls"
	"os"
	"strings"

	"github.com/tonsurance/lockkeeper/redlock"
)

// A password that is changed from time to time, and a certificate that is renewed: both
// are read for each connection, and a connection is used for about a minute.
func ExampleOptions_credentials() {
	opts := &redlock.Options{
		Credentials: func(context.Context, string) (user, password string, err error) {
			text, err := os.ReadFile("/run/secrets/redis")
			return "keeper", strings.TrimSpace(string(text)), err
		},
		GetTLS: func(context.Context) (*tls.Config, error) {
			pair, err := tls.LoadX509KeyPair("/run/secrets/client.crt", "/run/secrets/client.key")
			return &tls.Config{Certificates: []tls.Certificate{pair}}, err
		},
	}
	_, _ = redlock.Dial(context.Background(), []string{"rediss://redis-1.example", "rediss://redis-2.example", "rediss://redis-3.example"}, opts)
}
