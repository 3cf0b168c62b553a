package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// as makes cmd run as another user.
func as(cmd *exec.Cmd, uid, gid int) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

// child is a process, with what distinguishes it from a later one of the same number.
type child struct {
	pid   int
	state byte
	began string
}

// family is a process and all that it has started, and those in turn, parents first. A
// process group would not do: each process of Postgres makes a session of its own.
func family(root int) (found []child) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	of := map[int][]child{} // by parent
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(string(text[:max(0, bytes.IndexByte(text, ' '))]))
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:]) // from the state on
		if len(fields) < 20 {
			continue
		}
		parent, _ := strconv.Atoi(string(fields[1]))
		c := child{pid, fields[0][0], string(fields[19])}
		if pid == root {
			found = append(found, c)
		}
		of[parent] = append(of[parent], c)
	}
	for i := 0; i < len(found); i++ {
		found = append(found, of[found[i].pid]...)
	}
	return found
}

// stopAll returns when all have stopped: a parent that still runs could start one more.
func stopAll(p *os.Process) error {
	for deadline := time.Now().Add(10 * time.Second); ; {
		running := 0
		for _, c := range family(p.Pid) {
			if c.state != 'T' && c.state != 'Z' {
				running++
				if err := syscall.Kill(c.pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
					return err
				}
			}
		}
		if running == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes have not stopped after 10s", running)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func continueAll(p *os.Process) error {
	for _, c := range family(p.Pid) {
		if err := syscall.Kill(c.pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// killAll stops all first, so that none of them sees another die and acts on it, and
// returns when the children are gone. The caller waits for the parent.
func killAll(p *os.Process) error {
	err := stopAll(p)
	all := family(p.Pid)
	for _, c := range all {
		if e := syscall.Kill(c.pid, syscall.SIGKILL); e != nil && !errors.Is(e, syscall.ESRCH) {
			err = errors.Join(err, e)
		}
	}
	for _, c := range all {
		if c.pid == p.Pid {
			continue
		}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			now := family(c.pid)
			if len(now) == 0 || now[0].began != c.began || now[0].state == 'Z' {
				break
			}
			if time.Now().After(deadline) {
				return errors.Join(err, fmt.Errorf("process %d is still there 10s after kill -9", c.pid))
			}
		}
	}
	return err
}
