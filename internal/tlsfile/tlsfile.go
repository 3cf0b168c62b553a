// Package tlsfile reads what TLS to a store takes from PEM files.
package tlsfile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Source is [Load] for each connection: a certificate that was renewed, or an authority
// that was rotated, is used without a restart. The files are read once at first, to
// refuse at once what can't be used. Without any file, it is nil.
func Source(ca, cert, key string) (func(context.Context) (*tls.Config, error), error) {
	c, err := Load(ca, cert, key)
	if c == nil || err != nil {
		return nil, err
	}
	return func(context.Context) (*tls.Config, error) { return Load(ca, cert, key) }, nil
}

// Load makes a client's configuration: ca is the file of the authorities that may
// sign the servers' certificates, in place of the system's; cert and key are of the
// client's own. Each may be "", cert and key only together. Without any, it is nil.
func Load(ca, cert, key string) (*tls.Config, error) {
	switch {
	case ca == "" && cert == "" && key == "":
		return nil, nil
	case (cert == "") != (key == ""):
		return nil, fmt.Errorf("the client's certificate is %q and its key is %q, want files for both or neither", cert, key)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("the authority's certificate: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the authority's certificate: %s: no certificate in it, want PEM", ca)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if path, ok := errors.AsType[*os.PathError](err); ok {
			return nil, fmt.Errorf("the client's certificate: %w", path)
		}
		if err != nil {
			return nil, fmt.Errorf("the client's certificate: %s with the key %s: want a pair in PEM: %w", cert, key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
