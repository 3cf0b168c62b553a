package backends

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// params reads a URL's parameters, and keeps the first thing wrong with them.
type params struct {
	values url.Values
	names  []string // all that were asked for
	err    error
}

func parseParams(query, fragment string) (*params, error) {
	values, err := url.ParseQuery(query)
	if err != nil || fragment != "" {
		return nil, errNoURL
	}
	return &params{values: values}, nil
}

// text is the value of a parameter, "" where there is none.
func (p *params) text(name string) string {
	p.names = append(p.names, name)
	if len(p.values[name]) > 1 {
		p.fail(name, "given once")
	}
	return p.values.Get(name)
}

func (p *params) has(name string) bool { return len(p.values[name]) > 0 }

func (p *params) duration(name string) time.Duration {
	return read(p, name, "a duration such as 500ms", time.ParseDuration)
}

func (p *params) int(name string) int {
	return read(p, name, "a whole number", strconv.Atoi)
}

func (p *params) float(name string) float64 {
	return read(p, name, "a number", func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
}

func (p *params) flag(name string) bool {
	return read(p, name, "true or false", strconv.ParseBool)
}

func read[T any](p *params, name, want string, parse func(string) (T, error)) T {
	var zero T
	s := p.text(name)
	if !p.has(name) {
		return zero
	}
	v, err := parse(s)
	if err != nil {
		p.fail(name, want)
		return zero
	}
	return v
}

func (p *params) fail(name, want string) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: parameter %s is %q, want %s", lock.ErrInvalid, name, p.values[name], want)
	}
}

// done refuses the parameters that nobody asked for, by name; a value might be a
// password.
func (p *params) done() error {
	if p.err != nil {
		return p.err
	}
	for name := range p.values {
		if slices.Contains(p.names, name) {
			continue
		}
		if len(p.names) == 0 {
			return fmt.Errorf("%w: unknown parameter %q, want none", lock.ErrInvalid, name)
		}
		return fmt.Errorf("%w: unknown parameter %q, want some of: %s", lock.ErrInvalid, name, strings.Join(p.names, ", "))
	}
	return nil
}
