// Package s3 locks by objects of a bucket, in S3 or a store that speaks its protocol. It is for
// programs that have a bucket and no server of their own: functions, CI jobs, batch jobs.
//
//	cfg, err := config.LoadDefaultConfig(ctx) // credentials as for every program with the AWS SDK
//	...
//	l, err := s3.New(awss3.NewFromConfig(cfg), "my-bucket", nil)
//	...
//	defer l.Close()
//	err = keepalive.Do(ctx, l, "nightly-report", time.Minute, report, nil)
//
// # What is promised
//
// What [lock.Locker] says, by conditional writes: a PUT with If-None-Match or If-Match, which the
// store decides and does in one step. Before its first lock, each Locker tries that the store
// honours both, and is refused with [lock.ErrRefused] where it does not: there, two processes
// could hold one lock. After a crash the next process can lead as soon as the ttl is over by the
// store's own clock, one that has just started too.
//
// # What is not
//
// S3 pushes nothing: those who wait ask each second, in no order, and each request is paid for.
// Buckets that are replicated are one store for each region, so a lock is of one region. No object
// is ever deleted: each key that was used leaves one of some 250 bytes. A versioned bucket
// keeps one more for each renewal, unless a lifecycle rule ends them.
package s3
