package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// run starts a store and two clients of it.
func run() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := http.Server{Handler: &Store{}, ReadHeaderTimeout: time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // until Close
	defer serving.Wait()
	defer func() { _ = server.Close() }()
	fmt.Println("a document store listens on", listener.Addr())

	store := Client{URL: "http://" + listener.Addr().String(), HTTP: http.DefaultClient}
	alice, bob := &Locker{client: store, name: "alice"}, &Locker{client: store, name: "bob"}
	defer alice.Wait()
	defer bob.Wait()
	return show(context.Background(), alice, bob)
}

// show has two clients of the store take turns.
func show(ctx context.Context, alice, bob *Locker) error {
	const key, ttl = "nightly-report", 2 * time.Second

	lease, err := alice.TryAcquire(ctx, key, ttl)
	if err != nil {
		return err
	}
	fmt.Printf("alice holds %q with token %d\n", key, lease.Token())
	_, err = bob.TryAcquire(ctx, key, ttl)
	fmt.Println("bob asks too:", err)
	if err := lease.Extend(ctx, ttl); err != nil {
		return err
	}
	if err := lease.Release(ctx); err != nil {
		return err
	}
	fmt.Println("alice extends, then releases")

	lease, err = bob.TryAcquire(ctx, key, ttl)
	if err != nil {
		return err
	}
	fmt.Printf("bob holds it with token %d, and never comes back\n", lease.Token())
	start := time.Now()
	lease, err = lock.Acquire(ctx, alice, key, ttl, nil) // written once, for every backend
	if err != nil {
		return err
	}
	fmt.Printf("alice waited %v for it and has token %d\n", time.Since(start).Round(100*time.Millisecond), lease.Token())
	return lease.Release(ctx)
}
