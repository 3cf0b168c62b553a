// Package lockkeeper is a map of the packages below it, which give a program locks
// that span processes and machines. It has no code of its own.
//
// Many copies of a program are started, and one works:
//
//	locker, err := backends.Open(ctx, "redlock://10.0.0.1,10.0.1.1,10.0.2.1")
//	if err != nil {
//		return err
//	}
//	return leader.Run(ctx, locker, "pricing-oracle-keeper", func(ctx context.Context) error {
//		return updatePrices(ctx, lock.Token(ctx)) // ctx ends before anyone else can lead
//	}, &leader.Options{Logger: slog.Default()})
//
// # Where to start
//
//   - [github.com/tonsurance/lockkeeper/leader]: one of many copies of a program
//     runs a function, and the next one takes over.
//   - [github.com/tonsurance/lockkeeper/keepalive]: a function runs under a lock
//     that is renewed meanwhile; a lease in the hand is kept.
//   - [github.com/tonsurance/lockkeeper/lock]: the interfaces Locker and Lease,
//     waiting for a lock (Acquire), several keys at once (AcquireAll), n holders
//     (Semaphore), a part of a store (Prefix), events (Observe), errors, tokens.
//
// # Where locks are kept
//
//   - [github.com/tonsurance/lockkeeper/redlock]: on a quorum of Redis or Valkey
//     servers, for any number of machines.
//   - [github.com/tonsurance/lockkeeper/backends/file]: in a directory, for the
//     processes of one machine, with nothing to install.
//   - [github.com/tonsurance/lockkeeper/backends/memory]: in one process, for tests.
//   - SQLite, MySQL, Postgres, etcd, NATS and S3: backends/sqlite, backends/mysql,
//     backends/postgres, backends/etcd, backends/nats and backends/s3, each a module of its
//     own.
//   - [github.com/tonsurance/lockkeeper/backends/kubernetes]: in the Leases of a namespace.
//   - [github.com/tonsurance/lockkeeper/backends]: any of these by its URL.
//   - [github.com/tonsurance/lockkeeper/backends/record]: a store of your own in two
//     methods; [github.com/tonsurance/lockkeeper/backends/record/recordtest] and
//     [github.com/tonsurance/lockkeeper/lock/locktest] say whether it is right.
//
// # Beside them
//
//   - [github.com/tonsurance/lockkeeper/lock/rwlock]: several readers or one writer of
//     a key, over any store.
//   - [github.com/tonsurance/lockkeeper/fence]: the resource's side: writes with an
//     old token are refused, in SQL, Redis, over HTTP or in memory.
//   - [github.com/tonsurance/lockkeeper/leader/leaderhttp]: a leader's state for
//     probes.
//   - [github.com/tonsurance/lockkeeper/lock/lockotel]: OpenTelemetry metrics and
//     spans, a module of its own.
//   - [github.com/tonsurance/lockkeeper/lock/lockgocron]: gocron's schedulers share their
//     jobs, a module of its own.
//   - [github.com/tonsurance/lockkeeper/cmd/lockkeeper]: any program under a lock,
//     and nodes and locks for operators.
//
// # What is guaranteed
//
// Until a lease's Expiry, on this process's monotonic clock, nobody else has its
// key, under the conditions that the store's package names. Each lease has a fencing
// token above that of every lease of the key before it. What no lock can do is stop
// a process that was paused: let what is written to check the token.
package lockkeeper
