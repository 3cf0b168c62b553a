package cli

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// listening is where a command serves HTTP, and for which names.
type listening struct {
	listen      string
	allowRemote bool
	allowHosts  []string
}

func (l *listening) flags(flags *pflag.FlagSet, def string) {
	flags.StringVar(&l.listen, "listen", def, "`address` to serve on: host:port, or unix:/path")
	flags.BoolVar(&l.allowRemote, "allow-remote", false, "serve on an address that other machines reach")
	flags.StringArrayVar(&l.allowHosts, "allow-host", nil, "`name` that requests may have as their Host, besides localhost; repeatable")
}

// maxSocketPath is how long the path of a socket is at most on every system, with what
// listenSocket adds.
const maxSocketPath = 90

// check checks the flags, before any I/O. can is what anyone who reaches the address can do.
func (l *listening) check(def, can string) error {
	for _, host := range l.allowHosts {
		if !hostName.MatchString(host) {
			return usage("--allow-host is %q, want a host's name, without scheme and port", host)
		}
	}
	if path, ok := strings.CutPrefix(l.listen, "unix:"); ok {
		if path == "" || len(path) > maxSocketPath {
			return usage("--listen is %q, want unix: and the path of a socket, 1 to %d bytes", l.listen, maxSocketPath)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(l.listen)
	_, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil {
		return usage("--listen is %q, want host:port, such as %s, or unix:/path", l.listen, def)
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case host != "" && host != "localhost" && err != nil:
		return usage("--listen is %q, want an address or localhost before the port, such as %s", l.listen, def)
	case host != "localhost" && !addr.Unmap().IsLoopback() && !l.allowRemote:
		return usage("--listen is %q, which other machines reach, and anybody who does %s: want an address of this machine alone, such as %s, or --allow-remote", l.listen, can, def)
	}
	return nil
}

// listener opens the one that --listen names.
func (l *listening) listener() (listener net.Listener, unix bool, err error) {
	if path, ok := strings.CutPrefix(l.listen, "unix:"); ok {
		listener, err = listenSocket(path)
		return listener, true, err
	}
	listener, err = net.Listen("tcp", l.listen)
	if err != nil {
		err = fmt.Errorf("can't serve on %s: %w", l.listen, err)
	}
	return listener, false, err
}

// socket is a listener whose path goes with it.
type socket struct {
	*net.UnixListener
	path string
	file os.FileInfo
}

// Close removes the path before it closes the listener, and not another's that stands there by
// now: of two that start at a time, or after somebody has removed this one's.
func (s socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
		_ = os.Remove(s.path)
	}
	return s.UnixListener.Close()
}

// isTimeout reports a dial that took too long, or whose socket has no room for it (EAGAIN).
func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// listenSocket listens on a socket that its user alone reaches. One that nobody serves on any
// more is replaced. It gets its name when it has its mode.
func listenSocket(path string) (net.Listener, error) {
	failed := func(err error) (net.Listener, error) {
		return nil, fmt.Errorf("can't serve on unix:%s: %w", path, err)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return failed(errors.New("it is there, and no socket"))
		}
		switch conn, err := net.DialTimeout("unix", path, time.Second); {
		case err == nil:
			_ = conn.Close()
			return failed(errors.New("another process serves on it"))
		case isTimeout(err):
			// It is refused where nobody listens: this one has more to accept than it can.
			return failed(errors.New("another process serves on it, and is too busy to answer"))
		case errors.Is(err, os.ErrPermission):
			return failed(errors.New("it is there, and another user's"))
		}
	}
	part := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d", filepath.Base(path), os.Getpid()))
	_ = os.Remove(part) // of an earlier process with this number
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: part, Net: "unix"})
	if err != nil {
		return failed(err)
	}
	l.SetUnlinkOnClose(false)
	var file os.FileInfo
	if err = os.Chmod(part, 0o600); err == nil {
		file, err = os.Lstat(part)
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(part)
		return failed(err)
	}
	return socket{l, path, file}, nil
}

// shown is the address for people.
func (l *listening) shown(listener net.Listener) string {
	if strings.HasPrefix(l.listen, "unix:") {
		return l.listen
	}
	return "http://" + listener.Addr().String() + "/"
}
