// Package kubernetes locks by the Leases of a Kubernetes namespace.
//
//	l, err := kubernetes.InCluster(nil) // in a pod; elsewhere New
//	...
//	defer l.Close()
//	err = leader.Run(ctx, l, "pricing-oracle-keeper", run, nil)
//
// It speaks to the API server with net/http: client-go is not needed. Whose program has it
// passes its own client, see [New].
//
// # What is promised
//
// What [lock.Locker] says, by the cluster's etcd: what was acknowledged survives the loss of an
// API server, and that of a minority of etcd's members. A key is one coordination.k8s.io/v1
// Lease, changed by its uid and resourceVersion. Waiters are notified by a watch, and take the
// key in their order.
//
// An elector of client-go (tools/leaderelection) on the Lease of the same name excludes the
// holders of this package and is excluded by them, in both directions, through releases and
// crashes: a program can move from one to the other one pod at a time. A key that can be a
// Lease's name is that name.
//
// # What is not
//
// The API servers of a cluster report no age that could be relied on, since each of them stamps
// by its own clock. So after a crash the next process leads a ttl after it has first seen the
// dead holder's Lease. A job that runs once and leaves never sees that; its refusal says so,
// and [Options].ClockSkew is a way out. A cluster that is restored from a backup forgets what
// came after it.
//
//	                 POST free        PUT held             PUT free
//	no Lease ───────────────► free ────────────► held ─────────────────► free
//	                           ▲  PUT of client-go │ ▲ └─ PUT: extend
//	                           └─── held by client-go ◄── once the hold is over
package kubernetes
