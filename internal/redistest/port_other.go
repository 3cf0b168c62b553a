//go:build !linux

package redistest

import (
	"net"
	"strconv"
)

// reserve only sees whether a port on 127.0.0.1 is free now: other systems do not let a second
// socket bind to the address of one that is to hold it.
func reserve(port int) (release func(), err error) {
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	return func() {}, ln.Close()
}
