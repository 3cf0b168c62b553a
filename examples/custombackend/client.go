package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// Client asks a document store.
type Client struct {
	URL  string
	HTTP *http.Client
}

// errChanged says nothing about who holds the key: asking again does.
var errChanged = fmt.Errorf("%w: the document was changed meanwhile", lock.ErrUnavailable)

// Get returns a document, its age by the store's clock, and its version. A
// document that is not there is empty and has a version too.
func (c *Client) Get(ctx context.Context, name string) (r record, age time.Duration, version string, err error) {
	header, err := c.do(ctx, http.MethodGet, name, "", nil, &r)
	if err == nil {
		age, err = time.ParseDuration(header.Get("Document-Age"))
	}
	return r, age, header.Get("ETag"), err
}

// Put writes a document if it still has that version; else it fails with
// errChanged. Where a driver or a proxy sent the request twice, the second is refused
// because of the first: reading it back shows whose write it was.
func (c *Client) Put(ctx context.Context, name, version string, r record) error {
	r.Write = rand.Text()
	err := c.put(ctx, name, version, r)
	if errors.Is(err, errChanged) {
		now, _, _, failed := c.Get(ctx, name)
		if failed != nil || now.Write == r.Write {
			return failed // unknown, or written
		}
	}
	return err
}

func (c *Client) put(ctx context.Context, name, version string, r record) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodPut, name, version, body, nil)
	return err
}

func (c *Client) do(ctx context.Context, method, name, ifMatch string, body []byte, reply any) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.URL+"?name="+url.QueryEscape(name), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", lock.ErrInvalid, err)
	}
	if ifMatch != "" {
		req.Header.Set("If-Match", ifMatch)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", lock.ErrUnavailable, err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusPreconditionFailed:
		return nil, errChanged
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: %s: %s", lock.ErrUnavailable, method, resp.Status)
	case reply != nil:
		if err := json.NewDecoder(resp.Body).Decode(reply); err != nil {
			return nil, fmt.Errorf("%w: %w", lock.ErrUnavailable, err)
		}
	}
	return resp.Header, nil
}
