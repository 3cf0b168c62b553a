package locktest

// bugs lists each mistake that the reference locker can make, with the cases
// that must catch it. The obligations' numbers are those of lock.Locker.
var bugs = []struct {
	bug    bug
	caught []string
}{
	// 1. Exclusion.
	{"grants held keys", []string{"Exclusion/AHeldKeyIsRefused", "Exclusion/TermsNeverOverlap", "Error/ContentionIsErrHeldAlone", "Composition/TheLargerNIsNeverExceeded", "Composition/CallersInOppositeOrdersAllGetThrough", "Composition/APrefixedKeyIsTheFullName"}},
	{"reentrant", []string{"Exclusion/TheHolderAskingAgainIsRefused"}},
	{"clients have separate stores", []string{"Exclusion/ClientsExcludeEachOther", "Acquire/AcquireTimeoutIsErrHeld"}},
	{"checks, then sets", []string{"Exclusion/ConcurrentAttemptsGrantOne", "Exclusion/TermsNeverOverlap", "Acquire/WaitersAllGetTheirTurn"}},
	{"a refusal robs the holder", []string{"Exclusion/RefusedAttemptsDisturbNothing"}},
	{"waits for the holder", []string{"Exclusion/TryAcquireNeverWaitsForAHolder"}},
	{"one lock for all keys", []string{"Exclusion/OtherKeysAreFree"}},
	{"the store goes by its wall clock", []string{"Exclusion/ClockStepsKeepExclusion"}},

	// 2. ctx bounds the attempt, never the lease.
	{"ctx ends the lease", []string{"Attempt/TheCtxOfTheAttemptDoesNotTouchTheLease"}},
	{"grants under an ended ctx", []string{"Attempt/AnEndedCtxGrantsNothing"}},
	{"the cause of ctx is dropped", []string{"Attempt/TheCauseOfAnEndedCtxIsMatched", "Attempt/TheCauseOfACtxThatEndsMeanwhileIsMatched"}},
	{"the cause of ctx loses the lease", []string{"Attempt/TheCauseOfACtxThatEndsMeanwhileIsMatched"}},
	{"an attempt ignores its ctx", []string{"Attempt/TryAcquireReturnsSoonAfterItsCtx", "Attempt/AnEndedCtxGrantsNothing"}},

	// 3. Failed attempts.
	{"failed attempts are not cleaned up", []string{
		"Attempt/ACancelledAttemptLeavesNothingHeld", "Attempt/RacingCancellationsLeaveNothingHeld", "Attempt/ALostReplyLeavesNothingHeld",
		"Composition/ACancelledAcquireAllLeavesNothingHeld",
	}},
	{"cleanup frees another's hold", []string{"Attempt/CleanupFreesNoLaterHolder"}},
	{"an outage is granted locally", []string{"Attempt/AnOutageLeavesNothingHeld", "Error/AnOutageIsErrUnavailableAlone"}},
	{"typed nil lease on error", []string{"Attempt/ErrorsComeWithoutALease"}},

	// 4. Expiry.
	{"expiry is twice the ttl away", []string{"Expiry/ExpiryIsTheRequestPlusTheTTL"}},
	{"the store keeps half the ttl", []string{"Expiry/NobodyElseBeforeExpiry", "Exclusion/TermsNeverOverlap"}},
	{"never expires", []string{"Expiry/AnAbandonedKeyGetsFree", "Expiry/ADeadHoldersKeyGetsFree", "Acquire/AcquireGetsItAfterExpiry", "Watch/ExpiryWakes"}},
	{"the store caps ttls at 10s", []string{"Expiry/TheWholeTTLIsHeld"}},
	{"the store caps extensions at 10s", []string{"Expiry/TheWholeTTLIsHeld"}},
	{"the store caps ttls at an hour", []string{"Optional/InspectTellsWhoHolds"}},
	{"the store caps extensions at an hour", []string{"Optional/InspectTellsWhoHolds"}},
	{"the store counts ttls in 31 bits", []string{"Optional/InspectTellsWhoHolds"}},
	{"expiry counted from the reply", []string{"Expiry/SlowSuccessDoesNotLengthenTheLease"}},
	{"extend counts from the reply", []string{"Expiry/SlowSuccessDoesNotLengthenTheLease"}},
	{"grants with no time left", []string{"Expiry/NeverALeaseWithNoTimeLeft"}},

	{"the store rounds ttls down to seconds", []string{"Expiry/AnOddTTLIsHonoured"}},
	{"the store rounds ttls up to seconds", []string{"Expiry/AnOddTTLIsHonoured"}},
	{"extend adds to the old end", []string{"Expiry/AnExtendedKeyGetsFreeInTime"}},

	// What networks and stores do.
	{"a lost reply is not cleaned up", []string{"Fault/AnAttemptCutAtAnyRequestLeavesNothingHeld"}},
	{"late attempts are granted", []string{"Fault/ARequestThatArrivesAfterTheCleanupLeavesNothing"}},
	{"a late attempt takes the key", []string{"Fault/ALateRequestDisturbsNoLaterHolder"}},
	{"a late extend revives", []string{"Fault/ALateExtendRevivesNothing"}},
	{"a slow observer takes over early", []string{"Fault/ASlowObserverTakesOverNoEarlier"}},
	{"a newcomer must observe first", []string{"Fault/ANewcomerGetsADeadHoldersKey"}},
	{"a doubled request is refused by itself", []string{"Fault/ADoubledRequestIsOne"}},
	{"a conflict is a loss", []string{"Fault/AFalseConflictIsNoLoss"}},
	{"old states are believed", []string{"Fault/StaleReadsAreNotBelieved"}},
	{"counts afresh once its record is deleted", []string{"Fault/TokensRiseThoughTheRecordIsDeleted"}},

	// 5. Tokens.
	{"token 0", []string{"Token/TokensAreConstantAndNotZero"}},
	{"extend changes the token", []string{"Token/TokensAreConstantAndNotZero", "Extend/ExtendMovesExpiry"}},
	{"counts afresh after release", []string{"Token/TokensRiseAcrossRelease", "Key/AnyNameWorks", "Exclusion/TermsNeverOverlap"}},
	{"counts afresh after expiry", []string{"Token/TokensRiseAcrossExpiry", "Expiry/ADeadHoldersKeyGetsFree"}},
	{"counts afresh after a loss", []string{"Token/TokensRiseAcrossLoss", "Optional/TokensRiseAcrossForceRelease"}},
	{"a refusal counts afresh", []string{"Token/TokensRiseAcrossFailedAttempts"}},
	{"cleanup counts afresh", []string{"Token/TokensRiseAcrossLostReplies"}},
	{"counts for each client", []string{"Token/TokensRiseAcrossClients"}},
	{"keeps counts among the keys", []string{"Token/TokensIgnoreNeighbours"}},

	// 6. Keys and ttls.
	{"keys come back changed", []string{"Key/AnyNameWorks"}},
	{"case-folds keys", []string{"Key/NamesNeverShareALock"}},
	{"cleans keys as paths", []string{"Key/NamesNeverShareALock"}},
	{"flattens slashes", []string{"Key/NamesNeverShareALock"}},
	{"trims keys", []string{"Key/NamesNeverShareALock"}},
	{"ends keys at NUL", []string{"Key/NamesNeverShareALock"}},
	{"compares keys by prefix", []string{"Key/NamesNeverShareALock"}},
	{"composes accents", []string{"Key/NamesNeverShareALock"}},
	{"cuts keys at 255 bytes", []string{"Key/LongNamesDifferInTheLastByte"}},
	{"hashes keys to 16 bits", []string{"Key/ManyNamesNeverCollide"}},
	{"accepts any key", []string{"Key/BadKeysAreInvalid", "Attempt/ErrorsComeWithoutALease"}},
	{"accepts any ttl", []string{"Key/BadTTLsAreInvalid"}},
	{"extend accepts any ttl", []string{"Key/ABadTTLOnExtendIsInvalid"}},
	{"validates after I/O", []string{"Key/InvalidInputIsNotSent"}},

	// 7. Errors.
	{"contention is a plain error", []string{
		"Error/ContentionIsErrHeldAlone", "Acquire/AcquireTimeoutIsErrHeld", "Acquire/ACancelledAcquireSaysBothAndLeavesNothing",
	}},
	{"contention looks like an outage too", []string{"Error/ContentionIsErrHeldAlone"}},
	{"contention without a HeldError", []string{"Error/HeldErrorTellsKeyAndTime"}},
	{"HeldError without a key", []string{"Error/HeldErrorTellsKeyAndTime"}},
	{"RetryAfter is too short", []string{"Error/HeldErrorTellsKeyAndTime"}},
	{"RetryAfter is too long", []string{"Error/HeldErrorTellsKeyAndTime"}},
	{"an outage is a plain error", []string{"Error/AnOutageIsErrUnavailableAlone"}},
	{"an outage looks closed", []string{"Error/AnOutageIsErrUnavailableAlone", "Acquire/AcquireGoesOnOverAnOutage"}},
	{"an outage looks held", []string{"Error/AnOutageIsErrUnavailableAlone"}},
	{"loss looks like the end of ctx", []string{"Error/LossIsErrLostAlone"}},
	{"loss is a plain error", []string{"Error/LossIsErrLostAlone", "Extend/AnExpiredLeaseIsLostThoughNobodyTookIt"}},
	{"errors do not name the key", []string{"Error/ErrorsNameTheKey"}},
	{"closed looks unavailable", []string{"Optional/ClosedIsErrClosed"}},

	// Extend.
	{"extend does nothing", []string{"Extend/ExtendMovesExpiry"}},
	{"extend is local only", []string{"Extend/ExtendKeepsOthersOut"}},
	{"extend never shortens", []string{"Extend/AShorterExtendIsHonoured"}},
	{"extends expired leases", []string{"Extend/AnExpiredLeaseIsLostThoughNobodyTookIt"}},
	{"extends another's hold", []string{"Extend/AnotherHolderIsNotExtended"}},
	{"extend takes a free key", []string{"Extend/AKeyThatAnotherFreedIsNotRetaken", "Extend/ATakenHoldIsLost"}},
	{"extend revives a released lease", []string{"Extend/ExtendAfterReleaseIsLost", "Extend/ExtendRacingReleaseLeavesNothingHeld"}},
	{"extend ignores a Release under way", []string{"Extend/ExtendDuringReleaseIsLost"}},
	{"extend is never refused", []string{"Extend/ATakenHoldIsLost"}},
	{"loss is not final", []string{"Extend/LossIsFinal"}},
	{"a lost lease keeps its Expiry", []string{"Extend/LossIsFinal", "Extend/AnExpiredLeaseIsLostThoughNobodyTookIt", "Release/ReleaseFreesTheKey"}},
	{"a failed extend loses the lease", []string{"Extend/AFailedExtendSaysNothing", "Extend/ALostReplySaysNothing"}},
	{"a failed extend moves Expiry", []string{"Extend/AFailedExtendSaysNothing", "Extend/ALostReplySaysNothing"}},
	{"a lost extend shortens the hold", []string{"Extend/ALostReplyOfAShorterExtendKeepsOthersOut"}},
	{"an ended ctx loses the lease", []string{"Extend/AnEndedCtxSaysNothing"}},
	{"extend ignores its ctx", []string{"Extend/ExtendReturnsSoonAfterItsCtx"}},
	{"accepts answers after expiry", []string{"Extend/AnAnswerAfterExpiryIsLost"}},

	// StartExtend.
	{"a started extend sends nothing", []string{"StartExtend/AStartedExtendIsAnExtend"}},
	{"a started extend reports twice", []string{"StartExtend/AStartedExtendIsAnExtend"}},
	{"a started extend reports the old Expiry", []string{"StartExtend/AStartedExtendIsAnExtend"}},
	{"what Extend refuses is started", []string{"StartExtend/WhatExtendWouldRefuseIsNotStarted"}},
	{"the margin of a started extend is ignored", []string{"StartExtend/WhatExtendWouldRefuseIsNotStarted"}},
	{"an extend that is not started calls done", []string{"StartExtend/WhatExtendWouldRefuseIsNotStarted"}},
	{"a started extend of a taken hold is an outage", []string{"StartExtend/AStartedExtendOfATakenHoldIsALoss"}},
	{"a started extend in an outage is a loss", []string{"StartExtend/AStartedExtendInAnOutageSaysNothing"}},
	{"StopExtend does nothing", []string{"StartExtend/AStoppedExtendSaysNothing"}},
	{"a stopped extend is a loss", []string{"StartExtend/AStoppedExtendSaysNothing"}},
	{"a started extend is forgotten at the release", []string{"StartExtend/AReleaseEndsAStartedExtend"}},
	{"a started extend is applied after the release", []string{"StartExtend/AReleaseEndsAStartedExtend"}},

	// Release.
	{"release leaves the key", []string{"Release/ReleaseFreesTheKey", "Acquire/AcquireGetsItAfterRelease"}},
	{"release is not idempotent", []string{"Release/ReleaseIsIdempotent", "Release/ConcurrentReleasesAgree"}},
	{"release obeys its ctx", []string{"Release/AnEndedCtxDoesNotStopRelease"}},
	{"release frees another's hold", []string{
		"Release/RepeatedReleaseFreesNoLaterHolder", "Release/LateReleaseFreesNoLaterHolder",
		"Release/ReleaseOfATakenHoldFreesNoLaterHolder", "Release/ALostReplyOnReleaseFreesNoLaterHolder",
	}},
	{"release past expiry is nil", []string{"Release/ReleasePastExpiryIsLost", "Release/LateReleaseFreesNoLaterHolder"}},
	{"release past expiry sends nothing", []string{"Release/ReleaseRemovesWhatALostExtendLeft"}},
	{"a failed release is final", []string{"Release/AFailedReleaseCanBeRepeated"}},
	{"a failed release is lost", []string{"Release/AFailedReleaseCanBeRepeated"}},
	{"a failed release allows extends", []string{"Release/AFailedReleaseCanBeRepeated"}},
	{"release is unbounded", []string{"Release/ReleaseIsBoundedWhereTheStoreHangs"}},

	// ReleaseAfter.
	{"ReleaseAfter frees at once", []string{
		"ReleaseAfter/ReleaseAfterKeepsTheKeyUntilThenAndNoLonger", "ReleaseAfter/ReleaseAfterOutlastsTheLease", "ReleaseAfter/AReleaseAfterwardsFreesNothing",
	}},
	{"ReleaseAfter leaves the ttl", []string{"ReleaseAfter/ReleaseAfterKeepsTheKeyUntilThenAndNoLonger", "ReleaseAfter/ReleaseAfterOutlastsTheLease"}},
	{"ReleaseAfter leaves the lease", []string{"ReleaseAfter/ReleaseAfterEndsTheLease"}},
	{"a time that has passed keeps the ttl", []string{"ReleaseAfter/ATimeThatHasPassedIsAPlainRelease"}},
	{"ReleaseAfter dies with its process", []string{"ReleaseAfter/TheHoldOutlivesItsProcess"}},
	{"a Release undoes ReleaseAfter", []string{"ReleaseAfter/AReleaseAfterwardsFreesNothing"}},
	{"a Release undoes a failed ReleaseAfter", []string{"ReleaseAfter/AFailedReleaseAfterIsNotUndone", "ReleaseAfter/ALostReplyOnReleaseAfterIsNotUndone"}},
	{"ReleaseAfter revives a lost hold", []string{"ReleaseAfter/ReleaseAfterPastExpiryIsLost"}},
	{"ReleaseAfter keeps another's hold", []string{"ReleaseAfter/ReleaseAfterDisturbsNoLaterHolder"}},
	{"ReleaseAfter takes any time", []string{"ReleaseAfter/TooLongATimeIsRefusedBefore"}},

	// RaiseToken.
	{"a raise is not counted", []string{"Raise/LaterTokensAreAboveARaisedOne"}},
	{"a raised count dies with its hold", []string{"Raise/ARaisedTokenSurvivesExpiry", "Raise/ARaisedTokenSurvivesForce", "Raise/LaterTokensAreAboveARaisedOne"}},
	{"a raise lowers", []string{"Raise/RaisingNeverLowers"}},
	{"a raise is anybody's", []string{"Raise/ALostLeaseRaisesNothing"}},
	{"a raise after the release counts", []string{"Raise/AReleasedLeaseRaisesNothing"}},
	{"a raise takes any token", []string{"Raise/TooLargeATokenIsRefused"}},
	{"a raise ignores its ctx", []string{"Raise/RaisingEndsWithItsContext"}},
	{"a lost reply on a raise is a loss", []string{"Raise/ALostReplyOnRaisingLosesNothing"}},
	{"a raise in an outage is local", []string{"Raise/RaisingInAnOutageSaysNothing"}},
	{"a raise renames the term", []string{"Raise/RaisingChangesNothingElse", "Raise/ALostReplyOnRaisingLosesNothing"}},
	{"a raise is shown to nobody", []string{"Raise/RaisingChangesNothingElse"}},

	// What a locker may offer.
	{"Inspect has a wrong token", []string{"Optional/InspectTellsWhoHolds", "Optional/ListStaysWithinThePrefix"}},
	{"Inspect has no holder", []string{"Optional/InspectTellsWhoHolds"}},
	{"Inspect has a wrong ttl", []string{"Optional/InspectTellsWhoHolds"}},
	{"Inspect shows those who left", []string{"Optional/InspectTellsWhoHolds"}},
	{"List takes prefixes for globs", []string{"Optional/ListStaysWithinThePrefix"}},
	{"List is empty", []string{"Optional/ListStaysWithinThePrefix"}},
	{"ForceRelease ignores the token", []string{"Optional/ForceReleaseBreaksThatTermOnly"}},
	{"ForceRelease does nothing", []string{"Optional/ForceReleaseBreaksThatTermOnly"}},
	{"ForceRelease of a free key fails", []string{"Optional/ForceReleaseBreaksThatTermOnly"}},
	{"Health is never well", []string{"Optional/HealthSeesTheStore"}},
	{"Health is always well", []string{"Optional/HealthSeesAnOutage"}},
	{"no wake on release", []string{"Watch/ReleaseWakes", "Composition/AnySlotThatGetsFreeWakes"}},
	{"its waiters have no line", []string{"Waiting/OneOfAllWaitersAsks", "Waiting/WaitersGetItInTheOrderInWhichTheyCame"}},
	{"no wake on expiry", []string{"Watch/ExpiryWakes"}},
	{"ctx ends the watch", []string{"Watch/TheCtxOfWatchBoundsItsSettingUpOnly"}},
	{"wakes block", []string{"Watch/WakesNeverBlock"}},
	{"stop does not stop", []string{"Watch/NothingIsSentAfterStop"}},

	// Await.
	{"Inspect does not count who waits", []string{"Await/InspectCountsThoseWhoWait"}},
	{"await never asks first", []string{"Await/AFreeKeyIsGrantedAtOnce"}},
	{"the queue is last in, first out", []string{"Await/TheKeyIsHandedOverInTheOrderInWhichTheyCame"}},
	{"nobody is handed the key", []string{
		"Await/TheKeyIsHandedOverInTheOrderInWhichTheyCame", "Waiting/WaitersGetItInTheOrderInWhichTheyCame",
		"Waiting/WhoLeavesTheLineDelaysNobody", "Waiting/WaitersOfOtherClientsGetTheirTurnToo",
	}},
	{"a key that has a queue is anybody's", []string{"Await/AnAttemptThatComesLaterIsRefused"}},
	{"a dead waiter is granted the key", []string{"Await/ADeadWaiterCostsNothing"}},
	{"a hand-off takes the whole ttl", []string{"Await/AHungWaiterCostsABoundedTime"}},
	{"a wait that ends stays in the queue", []string{"Await/AWaitThatIsEndedLeavesNothing"}},
	{"await ignores its ctx", []string{"Await/AWaitThatIsEndedLeavesNothing"}},
	{"a grant that meets the end of ctx is kept", []string{"Await/NothingIsGrantedAfterTheEnd"}},
	{"a lease that waited never grows", []string{"Await/ALeaseThatWaitedGetsTheWholeTTL"}},
	{"a lease that waited counts from the start of the wait", []string{"Await/ALeaseThatWaitedGetsTheWholeTTL"}},
	{"a hand-off is not counted", []string{"Await/TheKeyIsHandedOverInTheOrderInWhichTheyCame"}},
	{"a hand-off is kept for half of its time", []string{"Await/NobodyElseBeforeTheExpiryOfALeaseThatWaited"}},
	{"refused gets nil", []string{"Await/RefusedTellsWhoHoldsUntilTheEnd"}},
	{"refused is called after the end", []string{"Await/RefusedTellsWhoHoldsUntilTheEnd"}},
	{"refused must not be nil", []string{"Await/RefusedMayBeNil"}},
	{"an outage does not end the wait", []string{"Await/AnOutageEndsTheWait"}},
	{"await accepts any input", []string{"Await/BadInputToAwaitIsInvalid"}},
	{"await gives up at once", []string{"Waiting/AnIdleWaiterThatHearsNewsAsksNothing"}},

	{"leaks a goroutine for each attempt", []string{"Leak/NoGoroutineOutlivesTheLocker"}},
}
