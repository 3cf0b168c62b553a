// Package file keeps locks in a directory, for the processes of one machine,
// with nothing to install. It does not reach a second machine, a shared network
// file system included: [New] refuses those.
//
//	locker, err := file.New("/run/keeper/locks", nil) // makes the directory
//	if err != nil {
//		return err
//	}
//	defer locker.Close()
//	return leader.Run(ctx, locker, "pricing-oracle-keeper", run, nil)
//
// # What holds, and for how long
//
// Two things must be there for a hold: a record that names it and has not
// expired, and the holder's sign of life, which is a kernel lock.
//
//	        TryAcquire                      Release, ForceRelease
//	free ───────────────► held by token T ────────────────────────► free
//	 ▲                     │  ▲        │
//	 │  expiry passes      │  └────────┘ Extend: later expiry
//	 │  (holder hangs),    │
//	 │  the holder's process ends, or the machine boots
//	 └─────────────────────┘
//
// A process that dies, also by kill -9, has freed its keys by the time it is
// gone: the kernel lets go of its sign of life. One that hangs or is stopped
// loses them at expiry. After a reboot nothing is held. A hold that [lock.ReleaseAfter]
// left to end by itself needs no sign of life: its record alone says until when.
//
// # In the directory
//
//   - key.<SHA-256 of the key>: the record of one key (8 KiB): the key itself,
//     the token counter, and holder and expiry if it is held. Text, for looking
//     at. Its flock, taken for a few system calls, is what orders changes. It is
//     deleted only under its flock, after a week without use: a process that gets that
//     flock afterwards finds that the name is gone, and makes another file.
//   - live.<n>: the signs of life. A Locker that holds anything keeps an flock on
//     one of them. They are taken lowest first and never deleted.
//   - floor: the largest token of the records that were deleted. The tokens of new
//     ones begin above it.
//   - new.<random>: a record on its way to its name. One may be left by a process
//     that was killed there; those older than an hour are deleted.
//
// So what accumulates is one file for each key used within a week, and one for each
// Locker that was in use at the same time. [New] tidies up for a moment (0.1s) at most,
// and so does, once an hour, a Locker that makes files. Keep the directory out of reach
// of other programs that delete old files: a key.* file deleted under a lease loses
// that lease (its next Extend returns ErrLost) and lets another have the key at once.
//
// # Users
//
// Who may write to the directory may use its locks, and can break them. Nobody else
// can do anything, not even read a record: a user who can open a file can keep a kernel
// lock on it. So files have mode 0600, or 0660 and the directory's group where the
// group may write, and those who look ([Locker.Inspect], [Locker.List]) have to be
// among those who may write, too. What root makes in a user's directory belongs to that
// user. A file that can't be opened costs its own key, with an error matching
// [lock.ErrRefused] that names owners and modes, and nothing else.
//
// # Guaranteed
//
//   - At most one lease of a key is within its Expiry, among all processes that
//     use the directory: neither kill -9 at any instruction nor SIGSTOP changes
//     that. A record has two slots and a change overwrites the older one, with a
//     checksum: one that is cut off leaves the other slot.
//   - Tokens rise, over reboots and power cuts too: they are reserved on the disk
//     itself, 1024 at a time, before the first of them is handed out. A counter
//     that others deleted, or was kept in memory only (tmpfs), starts again above the
//     microseconds of the wall clock, which is above all that it ever gave
//     unless that clock was set back.
//   - Durations are counted on one clock for all: on Linux CLOCK_BOOTTIME, which
//     nobody can set and which goes on while the machine is suspended; holder and
//     record agree about that. In a time namespace it is put right.
//   - Every call ends: a process that is stopped in the middle of a change keeps
//     the others waiting for Options.LockTimeout only, then they get an error
//     matching lock.ErrUnavailable, which names its pid on Linux. Nothing but
//     that one key is concerned.
//   - A record that is damaged is never guessed about: each call fails with
//     lock.ErrUnavailable and the file's name until it is repaired or deleted.
//
// # Not guaranteed
//
//   - That a process which is stopped, or slow, stops acting at its Expiry: it
//     can't. Have the resource check the fencing token.
//   - That a call ends while the disk itself does not answer.
//   - Fairness, but among those who wait in the queue ([Locker.Await]), as lock.Acquire
//     does: they are served in the order in which they came.
//   - A sign of life is kept by what the operating system takes for the same open
//     file. Programs started with os/exec do not get it. A child made by fork
//     without exec (C code linked in) does, and keeps its parent's locks until
//     they expire.
//   - Anything towards those who can write to the directory: they can forge, break
//     and delete locks.
//
// Linux, macOS and FreeBSD are supported; elsewhere New fails. On macOS and
// FreeBSD the clock stands still while the machine sleeps, for holder and record
// alike.
package file
