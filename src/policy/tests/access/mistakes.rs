//! Deliberate mistakes in the models, for the proof that a mistake is noticed.

macro_rules! mistakes {
    ($($list:ident: $($mistake:ident)*;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub(crate) enum Mistake { Nothing, $($($mistake),*),* }

        $(pub(crate) const $list: &[Mistake] = &[$(Mistake::$mistake),*];)*
    };
}

// In the walk; in what rules that cannot be told take away; in the ways that are opened before it; in the whole decision.
mistakes! {
    IN_WALK:
    LastRuleFirst
    UnknownBeatsNo UnknownIsYes UnknownIsNo
    PermitRefuses StepUpPassesOn StepUpNeedsCertainty StepUpPermitsUnknown
    DenyNeedsCertainty UnknownIsDenied DenyNotNamed
    EndIsAlwaysNoRule EvidenceWhateverElse ClaimsAreNoEvidence
    GroupsAreNoEvidence GroupsByClaims ClaimsByGroups UnknownSignInByGroups GuestsByGroups
    EvidenceBesideGroups StepUpWantsGroups
    LimitsForgotten StepUpWithoutLimits ClosesForgotten
    LiveIsNoLogin OtherIsNoLogin
    AnyLabel EveryResource CaseMatters
    NoResourceIsNone NoResourceIsAny NoResourceByClaims HalfKnownIsKnown
    UnknownZoneIsUtc LastMinuteStillIn DayOfTheEnd
    FirstNetworkOnly MappedStaysSix
    AdminIsAlsoUser NoGuestsIsNoCondition UnknownGuestIsNone UnlistedGroupsAreNone EveryGroup
    AgesNow LastSecondTooOld AuthAgeByIssue ClaimsOfEntraBelieved PromptNotBelieved AnyAmr AnyContext DeviceForgotten;

    IN_POSSIBLE:
    PossibleIsPassedOver PossibleStepUpIsPassedOver PossibleWithoutEvidence PossibleWidens PossibleClearsOwn
    PossibleForwardForgotten PossibleSessionForgotten PossibleGraceForgotten;

    IN_WAYS:
    WaysOfPermitWithoutEvidence WaysOfStepUpWithoutEvidence WaysBehindStepUp WaysEndAtStepUp
    WaysBehindDeny WaysOfCertainOnly WaysOfFirstOnly WaysNeverEnd;

    IN_WHOLE:
    LiveAskedAsUser LiveAskedAsAdmin LiveAskedByAnothers LiveAskedPastItsEnd LiveAskedInSpiteOfNo LiveAskedWithoutGrace LiveHalfIsAnAnswer
    LiveRefusedIsSilence AllAskedAsLive SudoHalfIsUser EndedAdminIsAdmin EndedLoginIsUser
    GraceOfRuleForgotten
    RefusalKeeps RefusalErasesNoRoleOnly RefusalErases RefusalErasesFresh RefusalErasesDegraded
    RefusalRemembers RefusalSparesEnds RefusalSparesAdminEnds RefusalErasesOthers
    ToldIgnored ToldMustBeAll ToldWithoutPort ToldWithoutAgent ToldWithoutX11 ToldAnyWay ToldLess
    ToldBeyondNode ToldOfStepUpIgnored ToldBeforeSession ToldBeforeRole;
}
