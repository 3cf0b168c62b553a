package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// manager is who the API server notes as the writer of what is written here.
const manager = "lockkeeper"

// What a reply may have at most: a Lease, and a page of a listing.
const (
	maxReply = 4 << 20
	maxPage  = 64 << 20
)

// api sends requests to an API server.
type api struct {
	http  *http.Client
	host  string                 // its URL, without a slash at the end
	token func() (string, error) // nil: the client authenticates by itself
}

// status is what an API server says in place of what was asked for.
type status struct {
	Kind    string
	Reason  string
	Message string
	Details struct {
		Kind   string
		Causes []struct{ Reason string }
	}
	Metadata struct{ Continue string }
}

// refusal is a reply that is not what was asked for.
type refusal struct {
	code int
	status
	after time.Duration // of Retry-After; 0: none
	to    string        // where a redirect leads, without path and parameters
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("%d %s", r.code, http.StatusText(r.code))
	if r.Message != "" {
		text += ": " + r.Message
	}
	if r.to != "" {
		text += ", a redirect to " + r.to
	}
	if r.after > 0 {
		text += fmt.Sprintf(" (to be asked again in %v)", r.after)
	}
	return text
}

// of reports whether the server itself said it, of a Lease: anything between may answer 404
// or 409, too.
func (r *refusal) of(code int, reason string) bool {
	return r.code == code && r.Kind == "Status" && r.Reason == reason && (r.Details.Kind == "leases" || r.Details.Kind == "Lease")
}

// lacksRight distinguishes a missing right from a quota and from admission, which are forbidden, too:
// an authorizer says what the user can't do.
func (r *refusal) lacksRight() bool { return strings.Contains(r.Message, " cannot ") }

// Error meanings that the store asks for.
func isAbsent(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && r.of(http.StatusNotFound, "NotFound")
}

func isConflict(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && (r.of(http.StatusConflict, "Conflict") || r.of(http.StatusConflict, "AlreadyExists"))
}

// isExpired says that the server's history does not reach back so far.
func isExpired(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && (r.code == http.StatusGone || r.Reason == "Expired" || r.Reason == "Gone")
}

// judge says what a refusal means to who uses a lock.
func judge(err error) error {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		return err
	}
	switch {
	case r.code >= 300 && r.code < 400:
		return fmt.Errorf("%w: %w; want the URL at which the Kubernetes API server itself answers", lock.ErrRefused, err)
	case r.code == http.StatusUnauthorized:
		return fmt.Errorf("%w: %w; check the token or the client's certificate", lock.ErrRefused, err)
	case r.code == http.StatusForbidden && slices.ContainsFunc(r.Details.Causes, func(c struct{ Reason string }) bool { return c.Reason == "NamespaceTerminating" }):
		return fmt.Errorf("%w: %w; name another namespace", lock.ErrRefused, err)
	case r.code == http.StatusForbidden && r.Kind == "":
		return fmt.Errorf("%w: %w, not by an API server: see to what stands before it", lock.ErrRefused, err)
	case r.code == http.StatusForbidden && !r.lacksRight():
		return fmt.Errorf("%w: %w", lock.ErrRefused, err)
	case r.code == http.StatusForbidden:
		return fmt.Errorf("%w: %w; bind a Role with get, create, update, watch and list on leases of coordination.k8s.io to it", lock.ErrRefused, err)
	case r.code == http.StatusNotFound && r.Details.Kind == "namespaces":
		return fmt.Errorf("%w: %w; create the namespace", lock.ErrRefused, err)
	case r.code == http.StatusNotFound:
		return fmt.Errorf("%w: %w; want the URL of a Kubernetes API server", lock.ErrRefused, err)
	case r.code == http.StatusBadRequest && r.Kind == "":
		return fmt.Errorf("%w: %w, not by an API server, or one that wants https://", lock.ErrRefused, err)
	case r.code == http.StatusUnprocessableEntity, r.code == http.StatusBadRequest, r.code == http.StatusMethodNotAllowed, r.code == http.StatusUnsupportedMediaType:
		return fmt.Errorf("%w: %w", lock.ErrRefused, err)
	}
	return err
}

// call sends a request and returns what the server replied with the code want. Any other
// code is an error that is a *refusal, any other error leaves it open whether the request was
// carried out.
func (a *api) call(ctx context.Context, method, path string, query url.Values, body []byte, want int) ([]byte, http.Header, error) {
	resp, err := a.send(ctx, method, path, query, body)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	most := int64(maxReply)
	if query.Has("limit") {
		most = maxPage
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, most))
	switch {
	case err != nil:
		return nil, nil, plain(err)
	case resp.StatusCode != want:
		return nil, nil, refusalOf(resp, text)
	}
	return text, resp.Header, nil
}

func refusalOf(resp *http.Response, text []byte) *refusal {
	r := &refusal{code: resp.StatusCode, after: retryAfter(resp.Header)}
	if to, err := resp.Location(); err == nil {
		r.to = to.Scheme + "://" + to.Host // the rest may have a secret in it
	}
	if json.Unmarshal(text, &r.status) != nil || r.Kind != "Status" {
		r.status = status{} // not by an API server, so it is not quoted
	}
	return r
}

// send returns the reply to a request as soon as its head is there. Where the server asks to
// come again (429) it has not looked at the request, which is then sent again while ctx lasts.
func (a *api) send(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error) {
	for {
		resp, err := a.ask(ctx, method, path, query, body)
		if err != nil || resp.StatusCode != http.StatusTooManyRequests {
			return resp, err
		}
		wait := max(retryAfter(resp.Header), 100*time.Millisecond)
		wait += rand.N(wait / 5) // those who were refused together do not come again together
		if end, ok := ctx.Deadline(); ok && time.Until(end) <= wait {
			return resp, nil
		}
		discard(resp)
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// ask sends a request once, or twice if the token was rotated just then.
func (a *api) ask(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error) {
	resp, token, err := a.once(ctx, method, path, query, body)
	if err == nil && resp.StatusCode == http.StatusUnauthorized && a.token != nil {
		if now, failed := a.token(); failed == nil && now != token {
			discard(resp)
			resp, _, err = a.once(ctx, method, path, query, body)
		}
	}
	if err != nil {
		return nil, plain(err)
	}
	return resp, nil
}

func (a *api) once(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, string, error) {
	u := a.host + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", manager)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	token := ""
	if a.token != nil {
		if token, err = a.token(); err != nil {
			return nil, "", err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := a.http.Do(req)
	return resp, token, err
}

// plain is an error of net/http without the URL, which says nothing new.
func plain(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// discard reads the little that is left, so that the connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
}

// retryAfter is what a server asks for, up to an hour; 0: nothing. What proxies send may be a
// date, which counts from the Date of the reply: both are of one clock.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(max(0, min(seconds, 3600))) * time.Second
	}
	at, err := http.ParseTime(text)
	now, errNow := http.ParseTime(h.Get("Date"))
	if err != nil || errNow != nil {
		return 0
	}
	return max(0, min(at.Sub(now), time.Hour))
}

// sameMethod follows those redirects alone that repeat a request as it is. After others a
// client sends a GET in place of a write, and the Lease that it receives looks like the answer
// to a write that was carried out.
func sameMethod(req *http.Request, via []*http.Request) error {
	if code := req.Response.StatusCode; len(via) > 3 || code != http.StatusTemporaryRedirect && code != http.StatusPermanentRedirect {
		return http.ErrUseLastResponse
	}
	return nil
}

// sleep waits for d, or returns ctx's error if it ends before.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
