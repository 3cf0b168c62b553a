// Package urlparams reads the parameters of a store's URL.
package urlparams

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// ErrNoURL says that a text is no URL. The error of package url would quote it.
var ErrNoURL = fmt.Errorf("%w: not a URL; characters that mean something in one must be percent-encoded", lock.ErrInvalid)

// Params reads a URL's parameters, and keeps the first thing wrong with them.
type Params struct {
	values url.Values
	names  []string // all that were asked for
	err    error
}

// Parse reads a query; a fragment is refused.
func Parse(query, fragment string) (*Params, error) {
	values, err := url.ParseQuery(query)
	if err != nil || fragment != "" {
		return nil, ErrNoURL
	}
	return &Params{values: values}, nil
}

// Text is the value of a parameter, "" where there is none.
func (p *Params) Text(name string) string {
	p.names = append(p.names, name)
	if len(p.values[name]) > 1 {
		p.Fail(name, "given once")
	}
	return p.values.Get(name)
}

// Has reports whether a parameter is given.
func (p *Params) Has(name string) bool { return len(p.values[name]) > 0 }

// Duration is such as 500ms; 0 where there is none.
func (p *Params) Duration(name string) time.Duration {
	return Read(p, name, "a duration such as 500ms", time.ParseDuration)
}

// Int is a whole number; 0 where there is none.
func (p *Params) Int(name string) int {
	return Read(p, name, "a whole number", strconv.Atoi)
}

// Float is a number; 0 where there is none.
func (p *Params) Float(name string) float64 {
	return Read(p, name, "a number", func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
}

// Flag is true or false; false where there is none.
func (p *Params) Flag(name string) bool {
	return Read(p, name, "true or false", strconv.ParseBool)
}

// Read is the value of a parameter that parse understands; zero where there is none.
func Read[T any](p *Params, name, want string, parse func(string) (T, error)) T {
	var zero T
	s := p.Text(name)
	if !p.Has(name) {
		return zero
	}
	v, err := parse(s)
	if err != nil {
		p.Fail(name, want)
		return zero
	}
	return v
}

// Fail says what a parameter should have been; the first such error is kept.
func (p *Params) Fail(name, want string) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: parameter %s is %q, want %s", lock.ErrInvalid, name, p.values[name], want)
	}
}

var plainName = regexp.MustCompile(`^[A-Za-z][A-Za-z_-]{0,31}$`)

// Unknown is the name of a parameter that nobody asked for, with a space before it, for
// an error; or nothing where it does not look like a name: with a ? at the wrong place in
// a URL, a password is one.
func Unknown(name string) string {
	if !plainName.MatchString(name) {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

// Done refuses the parameters that nobody asked for, by name; a value might be a
// password.
func (p *Params) Done() error {
	if p.err != nil {
		return p.err
	}
	for name := range p.values {
		if slices.Contains(p.names, name) {
			continue
		}
		if len(p.names) == 0 {
			return fmt.Errorf("%w: unknown parameter%s, want none", lock.ErrInvalid, Unknown(name))
		}
		return fmt.Errorf("%w: unknown parameter%s, want some of: %s", lock.ErrInvalid, Unknown(name), strings.Join(p.names, ", "))
	}
	return nil
}
