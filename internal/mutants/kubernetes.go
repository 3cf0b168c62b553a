package main

var inKubernetes = []string{"./backends/kubernetes"}

// kubernetesMutants are of what a Lease adds to the engine: its tests find them.
var kubernetesMutants = []mutant{
	{name: "kubernetes-no-uid", tests: true, in: inKubernetes, what: "an update makes a Lease anew that was deleted",
		changes: one("backends/kubernetes/lease.go", "\tdelete(meta, \"managedFields\")", "\tdelete(meta, \"uid\")\n\tdelete(meta, \"managedFields\")")},
	{name: "kubernetes-quick-renewal", tests: true, in: inKubernetes, what: "client-go does not see a renewal within a second",
		changes: one("backends/kubernetes/lease.go", "now.Before(next)", "next.IsZero()")},
	{name: "kubernetes-short-duration", tests: true, in: inKubernetes, what: "client-go counts less than the ttl",
		changes: one("backends/kubernetes/lease.go", "(r.TTL + r.TTL/100 + time.Second - 1) / time.Second)", "max(r.TTL/time.Second, 1))")},
	{name: "kubernetes-queue-touches", tests: true, in: inKubernetes, what: "who waits behind client-go's hold writes it anew",
		changes: one("backends/kubernetes/lease.go", "case sameHold && others:", "case sameHold && others && r.TTL == 0:")},
	{name: "kubernetes-holder-alone", tests: true, in: inKubernetes, what: "a term of client-go that is over leaves no trace",
		changes: one("backends/kubernetes/lease.go", " && l.Metadata.Annotations[renewedAt] == l.Spec.RenewTime:", ":")},
	{name: "kubernetes-no-skew", tests: true, in: inKubernetes, what: "the clocks of two servers count as one",
		changes: one("backends/kubernetes/store.go", "-time.Second-s.skew", "-time.Second")},
	{name: "kubernetes-ages-always", tests: true, in: inKubernetes, what: "the servers' clocks decide although nobody vouched for them",
		changes: one("backends/kubernetes/store.go", "s.skew > 0 && ", "")},
	{name: "kubernetes-any-404", tests: true, in: inKubernetes, what: "whatever answers 404 has no Lease",
		changes: one("backends/kubernetes/api.go", "ok && r.of(http.StatusNotFound, \"NotFound\")", "ok && r.code == http.StatusNotFound")},
	{name: "kubernetes-any-answer", tests: true, in: inKubernetes, what: "a write counts whatever the answer shows",
		changes: one("backends/kubernetes/store.go", "l.Metadata.Annotations[annotation] != note {", "note == \"\" {")},
	{name: "kubernetes-any-redirect", tests: true, in: inKubernetes, what: "a redirect turns a write into a read",
		changes: one("backends/kubernetes/kubernetes.go", "\tclient.CheckRedirect = sameMethod\n", "")},
	{name: "kubernetes-expired-watch", tests: true, in: inKubernetes, what: "a watch whose history is gone asks for it on and on",
		changes: one("backends/kubernetes/watch.go", "json.Unmarshal(e.Object, &r.status) != nil || isExpired(r)", "json.Unmarshal(e.Object, &r.status) != nil")},
	{name: "kubernetes-deaf-watch", tests: true, in: inKubernetes, what: "a watch whose server hangs is never given up",
		changes: one("backends/kubernetes/watch.go", "time.AfterFunc(watchSilence, cancel)", "time.AfterFunc(1000*watchSilence, cancel)")},
	{name: "kubernetes-prunes-all", tests: true, in: inKubernetes, what: "Leases of others are deleted",
		changes: one("backends/kubernetes/store.go", "l.Metadata.Labels[createdBy] != createdByValue", "l == nil")},
}
