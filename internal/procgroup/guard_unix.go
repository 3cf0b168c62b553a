//go:build unix

package procgroup

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Guard is this process's end of the guard. It is safe for concurrent use.
type Guard struct {
	closing chan struct{}
	done    chan struct{} // closed when the guard has ended for good
	warn    func(format string, args ...any)

	dir string // of the lock files, if there is one

	mu   sync.Mutex // guards all below
	cmd  *exec.Cmd
	conn *net.UnixConn
	now  order
}

// order is what a guard is sent: to kill that group, 0 for none, when lockkeeper is
// gone and at until, by the machine's own clock, in nanoseconds. A pid of -1 is a
// command that is about to start: the guard finds it below lockkeeper, and when that is
// gone by mark, an entry of its environment (Linux).
type order struct {
	pid   int
	until int64
	mark  string
}

func (o order) String() string { return fmt.Sprintf("%d %d %q", o.pid, o.until, o.mark) }

// StartGuard starts a guard. One that dies is replaced: warn is called once if that fails,
// and once when it is over. lockFiles is the directory of a file store, "" if it is another.
func StartGuard(lockFiles string, warn func(format string, args ...any)) (*Guard, error) {
	g := &Guard{closing: make(chan struct{}), done: make(chan struct{}), warn: warn, dir: lockFiles}
	if err := g.start(); err != nil {
		return nil, err
	}
	go g.supervise()
	return g, nil
}

// start starts a guard, and sends it the present order.
func (g *Guard) start() error {
	program, err := ownProgram()
	if err != nil {
		return err
	}
	in, conn, err := socketPair()
	if err != nil {
		return err
	}
	defer in.Close()
	cmd := exec.Command(program, GuardArg, strconv.Itoa(os.Getpid()))
	cmd.Args[0] = GuardName
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stdin = in
	// Out of reach of what the terminal sends, and of what is sent to the command.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		_ = conn.Close()
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cmd, g.conn = cmd, conn
	g.send()
	return nil
}

func (g *Guard) supervise() {
	defer close(g.done)
	for {
		g.mu.Lock()
		cmd, conn := g.cmd, g.conn
		g.mu.Unlock()
		_ = cmd.Wait()
		_ = conn.Close()
		for failing := false; ; failing = true {
			select {
			case <-g.closing:
				return
			default:
			}
			err := g.start()
			switch {
			case err == nil && failing:
				g.warn("a guard process runs again")
			case err != nil && !failing:
				g.warn("the guard process has died, and no other can be started: while that is so, the command outlives this process if it is killed or paused: %v", err)
			}
			if err == nil {
				break
			}
			if !g.pause(time.Second) {
				return
			}
		}
		if !g.pause(100 * time.Millisecond) { // whatever kills them
			g.mu.Lock()
			_ = g.conn.Close()
			cmd := g.cmd
			g.mu.Unlock()
			_ = cmd.Wait()
			return
		}
	}
}

// pause returns false if the guard is to end.
func (g *Guard) pause(d time.Duration) bool { return !closedWithin(g.closing, d) }

// socketPair is one end for a child's standard input, and the other.
func socketPair() (*os.File, *net.UnixConn, error) {
	syscall.ForkLock.RLock()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(ends[0])
		syscall.CloseOnExec(ends[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	in, out := os.NewFile(uintptr(ends[0]), "guard"), os.NewFile(uintptr(ends[1]), "guard")
	defer out.Close() // FileConn has a copy
	conn, err := net.FileConn(out)
	if err != nil {
		_ = in.Close()
		return nil, nil, err
	}
	return in, conn.(*net.UnixConn), nil
}

// send writes the present order. With it goes the file that shows to other processes
// that this one lives: as long as the guard has it open, too, nobody takes the lock of
// a lockkeeper that was killed before its command was. mu is held. A guard that does not read is no reason
// to wait for: what it was sent last stands, and that ends the command earlier.
func (g *Guard) send() {
	var rights []byte
	if g.now.pid != 0 {
		if open := openLockFiles(g.dir); len(open) > 0 {
			rights = syscall.UnixRights(open...)
		}
	}
	_ = g.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _, _ = g.conn.WriteMsgUnix(fmt.Appendln(nil, g.now), rights, nil)
}

// expect notifies it that a command is about to start, and when to kill it at the latest:
// this process may be killed or paused before it can report which it is.
func (g *Guard) expect(mark string, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = order{-1, onMachineClock(until), mark}
	g.send()
}

// watch notifies it which group to kill.
func (g *Guard) watch(group int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now.pid = group
	g.send()
}

// Forget notifies it that the group has ended: its number may be another's later.
func (g *Guard) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = order{}
	g.send()
}

// Extend moves the time.
func (g *Guard) Extend(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.now.pid != 0 {
		g.now.until = onMachineClock(until)
		g.send()
	}
}

// onMachineClock is t on a clock that both processes read. This one may be held up
// between the two readings: then t comes out too early, never too late.
func onMachineClock(t time.Time) int64 {
	now := machineClock()
	return now + int64(time.Until(t))
}

// pid is the guard's.
func (g *Guard) pid() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cmd.Process.Pid
}

// Close ends the guard, and lets the group live.
func (g *Guard) Close() {
	g.Forget()
	close(g.closing)
	g.mu.Lock()
	_ = g.conn.Close()
	g.mu.Unlock()
	<-g.done
}

// guardLook is how often a guard looks at the clock: timers stand still while the machine
// is suspended, that clock does not where the system has such a one.
const guardLook = time.Second

// GuardMain is the guard's main: it ends when lockkeeper's end of the socket in is closed.
// args are those after [GuardArg].
func GuardMain(args []string, in *os.File) int {
	if slices.Equal(args, []string{interruptsArg}) {
		return witnessMain(in)
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	setProcessName(GuardName)
	if len(args) != 1 {
		return failed
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return failed
	}
	// A lockkeeper that was killed before this line has handed its children to another
	// process, whose own children are none of the guard's business.
	parent, found := findKin(pid)
	found = found && os.Getppid() == pid
	c, err := net.FileConn(in)
	conn, ok := c.(*net.UnixConn)
	if err != nil || !ok {
		return failed
	}
	orders := make(chan order)
	go func() {
		defer close(orders)
		readOrders(conn, orders)
	}()
	var now order
	var below []kin // of a moment ago: when lockkeeper is gone, they can't be found any more
	timer := time.NewTimer(guardLook)
	for {
		select {
		case o, ok := <-orders:
			if !ok {
				killAll(now.pid, below)
				if now.pid == -1 {
					killMarked(now.mark)
				}
				return 0
			}
			now = o
		case <-timer.C:
		}
		if now.pid == 0 {
			below = nil
			continue
		}
		if found {
			below = offspring(parent, os.Getpid())
		}
		left := time.Duration(now.until - machineClock())
		if left <= 0 {
			killAll(now.pid, below)
			now = order{} // its number may be another's later
			continue
		}
		timer.Reset(min(left, guardLook))
	}
}

// readOrders sends what comes over conn to orders. Files that come with it stay open
// as long as this process lives, but for those of earlier orders.
func readOrders(conn *net.UnixConn, orders chan<- order) {
	var text, rights [4096]byte
	var open []int
	var rest []byte
	for {
		n, nrights, _, _, err := conn.ReadMsgUnix(text[:], rights[:])
		if err != nil || n == 0 {
			return
		}
		if files := filesOf(rights[:nrights]); len(files) > 0 {
			for _, fd := range open {
				_ = syscall.Close(fd)
			}
			open = files
		}
		rest = append(rest, text[:n]...)
		for {
			line, more, ok := bytes.Cut(rest, []byte("\n"))
			if !ok {
				break
			}
			rest = more
			var o order
			if n, _ := fmt.Sscanf(string(line), "%d %d %q", &o.pid, &o.until, &o.mark); n == 3 {
				orders <- o
			}
		}
	}
}

func filesOf(rights []byte) []int {
	var files []int
	messages, _ := syscall.ParseSocketControlMessage(rights)
	for i := range messages {
		some, _ := syscall.ParseUnixRights(&messages[i])
		files = append(files, some...)
	}
	return files
}

func killAll(group int, others []kin) {
	if group > 1 {
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
	for _, p := range others {
		p.signal(syscall.SIGKILL)
	}
}

// killMarked kills what was started in the moment before lockkeeper was killed, when the
// guard did not know the group yet.
func killMarked(mark string) {
	for range 100 { // what they start meanwhile has the mark as well
		all := marked(mark)
		if len(all) == 0 {
			return
		}
		killAll(0, all)
		time.Sleep(time.Millisecond)
	}
}
