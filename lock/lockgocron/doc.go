// Package lockgocron lets several schedulers of gocron (v2) share their jobs: each run
// happens in one of them. It is a drop-in for gocron's two interfaces, over every store.
//
// A [Locker] takes a lock for each run of a job, under the job's name. Which scheduler
// runs it is decided anew each time, and its minimum hold covers clocks that differ:
//
//	locker, err := lockgocron.NewLocker(store, 30*time.Second, nil)
//	...
//	_, err = locker.NewJob(scheduler, gocron.CronJob("*/5 * * * *", false), "report",
//		func(ctx context.Context) error { // ctx ends before the lock can pass on
//			return report(ctx, lock.Token(ctx))
//		})
//
// An [Elector] makes one of the schedulers the leader, which runs all jobs; the others
// stand by:
//
//	elector, err := lockgocron.NewElector(leader.New(store, "jobs", nil))
//	...
//	scheduler, err := gocron.NewScheduler(gocron.WithDistributedElector(elector))
//	...
//	_, err = scheduler.NewJob(gocron.DurationJob(time.Minute), elector.Task(report))
//	...
//	err = elector.Run(ctx) // leads and stands by, until ctx ends
//
// gocron asks the elector alone where a scheduler has both.
//
// # What is guaranteed
//
//   - Two runs of a job of [Locker.NewJob], and two runs of tasks of [Elector.Task] in
//     different processes, do not overlap, if each returns soon after its context has ended.
//   - Such a job does not run at all without its lock, or its term: the run fails.
//   - The lock, or the term, is freed only after the function has returned.
//   - A scheduler that asks within the minimum hold of a run, counted from when that asked
//     for its lock, skips the run.
//
// # What is not
//
//   - A task of [gocron.NewTask] gets gocron's own context, which does not end when the lock
//     is lost. gocron has no way to change that: use the methods of this package.
//   - A process that is paused wakes after its time and goes on: send the fencing token
//     ([lock.Token]) with each write, as package fence checks it.
//   - No run is made up for. A scheduler that dies in a run leaves it undone, and its key
//     held for up to the ttl: runs that are due meanwhile are skipped. Where the store does
//     not answer, all skip.
//   - With an Elector, a new leader whose clock is behind that of the last one may run a job
//     again for the same moment.
package lockgocron
