package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// ReplyError is an error reply of the server, such as "NOAUTH Authentication
// required.".
type ReplyError string

func (e ReplyError) Error() string { return string(e) }

// Has reports whether the error's code, its first word, is code.
func (e ReplyError) Has(code string) bool {
	first, _, _ := strings.Cut(string(e), " ")
	return first == code
}

// Do sends one command on a connection of its own and returns the reply as text:
// the members of an array on lines of their own, a nil as "". It fails the test if
// the server refuses or does not answer within two minutes. With "--requirepass" among the
// server's options it authenticates first.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	reply, err := s.Try(args...)
	if err != nil {
		s.t.Fatalf("redistest: %s: %s: %v", s.Addr(), strings.Join(args, " "), err)
	}
	return reply
}

// Try is Do with an error in place of a failed test: a [ReplyError] if the server
// refused.
func (s *Server) Try(args ...string) (string, error) {
	return roundTrip(s.Addr(), s.auth, upTimeout, args...)
}

func roundTrip(addr string, auth []string, timeout time.Duration, args ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	if auth != nil {
		if _, err := command(conn, r, auth); err != nil {
			return "", err
		}
	}
	return command(conn, r, args)
}

func command(w io.Writer, r *bufio.Reader, args []string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return "", err
	}
	return readReply(r)
}

// readReply reads one RESP2 reply.
func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", fmt.Errorf("empty reply line")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+', ':':
		return rest, nil
	case '-':
		return "", ReplyError(rest)
	case '$', '*':
	default:
		return "", fmt.Errorf("unknown reply %q", line)
	}
	n, err := strconv.Atoi(rest)
	if err != nil || n < 0 {
		return "", err
	}
	if kind == '$' {
		body := make([]byte, n+2)
		_, err := io.ReadFull(r, body)
		return string(body[:n]), err
	}
	items := make([]string, n)
	var refused error
	for i := range items {
		item, err := readReply(r)
		if _, ok := err.(ReplyError); ok {
			refused = err
		} else if err != nil {
			return "", err
		}
		items[i] = item
	}
	return strings.Join(items, "\n"), refused
}
