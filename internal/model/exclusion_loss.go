package model

// A loss that an extend finds before the expiry that the holder was given: a majority of
// nodes can be without the lock though nobody else can have it, since a node that forgot sits
// out, and another may never have had it. What is left on the other nodes keeps everybody
// else out until that expiry, and only the holder's own release frees it earlier.

// nextLoss: the extend of attempt k finds that its lease is lost, or the holder has
// stopped what it did, and releases.
func (m Exclusion) nextLoss(s ExclusionState, k int, does func(next ExclusionState, what string, ticks int)) {
	switch a := s.attempt[k]; {
	case a.phase == lost:
		does(s.end(k), "releases, after its loss", -1)
	case a.phase == holding && a.round == underWay && a.valid > 0 && m.gone(s, k):
		next := s.forget(k)
		next.attempt[k].phase, next.attempt[k].round, next.attempt[k].roundAge = lost, roundPast, 0
		does(next, "finds that it is lost, so many ticks before its expiry", int(a.valid))
	}
}

// frees says whether what attempt k has sent can free its lock on a node.
func (m Exclusion) frees(a exclusionAttempt) bool {
	return a.phase == over || a.phase == lost && m.Off.FreesAtLoss
}

// gone says whether no quorum can confirm the extend of attempt k any more: so many nodes
// said "missing", or have another's lock and say "taken" now. (One that said so and is free
// by now is left out: to have found a loss permits nothing but what a holder may do anyway.)
func (m Exclusion) gone(s ExclusionState, k int) bool {
	no := 0
	for _, n := range s.node[:m.Nodes] {
		switch n.answer[k] &^ repairDue {
		case missingHere, missingBefore:
			no++
		case 0:
			if n.lock != 0 && int(n.lock) != k+1 {
				no++
			}
		}
	}
	return no > m.Nodes-m.quorum()
}
