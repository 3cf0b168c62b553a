package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// startEtcd runs one etcd member on loopback, and gives its URL; "" if there is no etcd
// in PATH. It ends with the bench.
func (b *bench) startEtcd(ctx context.Context, dir string) (string, error) {
	binary, err := exec.LookPath("etcd")
	if err != nil {
		return "", nil
	}
	client, peer := redistest.FreePort(b.t), redistest.FreePort(b.t)
	url := func(port int) string { return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	logPath := filepath.Join(dir, "etcd.log")
	log, err := os.Create(logPath)
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := exec.Command(binary, "--data-dir", filepath.Join(dir, "etcd"), "--name", "bench",
		"--listen-client-urls", url(client), "--advertise-client-urls", url(client),
		"--listen-peer-urls", url(peer), "--initial-advertise-peer-urls", url(peer),
		"--initial-cluster", "bench="+url(peer))
	cmd.Stdout, cmd.Stderr = log, log
	programtest.EndWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return "", err
	}
	exited := make(chan struct{})
	go func() { // ends with the process
		defer close(exited)
		_ = cmd.Wait()
	}()
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})

	// It is up when a lock can be taken.
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := tryEtcd(ctx, url(client))
		if err == nil {
			return url(client), nil
		}
		select {
		case <-exited:
			err = errors.New("it has ended")
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
			continue
		}
		text, _ := os.ReadFile(logPath)
		return "", fmt.Errorf("%w; its log ends in:\n%s", err, text[max(0, len(text)-2048):])
	}
}

func tryEtcd(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	w, err := openEtcd(ctx, places{Etcd: url}, waitTTL, false)
	if err != nil {
		return err
	}
	defer w.close()
	h, err := w.lock(ctx, "up")
	if err != nil {
		return err
	}
	return h.unlock(ctx)
}
