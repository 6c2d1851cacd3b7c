//! A second, plain telling of the rule: who is let in, and which old yes is left afterwards.
//!
//! It shares nothing with the first. It never compares two readings of a clock: each yes has ages, which
//! grow as time goes by, and ends, which come nearer. Nothing here may be taken over from the code that it is compared with.

use nightlatch_model::Reason;
use nightlatch_policy::Service;

use crate::world::{
    AdminPart, Ask, Cause, Event, FOREIGN_NAME, Flaw, Found, HOUR, PEOPLE, Right, SECOND, Settings,
};

/// No yes stands in for longer, whatever the configuration says: milliseconds.
const CEILING: i64 = 24 * HOUR;

/// A deliberate mistake, for the proof that a mistake is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mistake {
    None,
    NameNotCompared,
    PersonNotCompared,
    WindowOneSecondLonger,
    HoldsAtTheVeryEnd,
    EndRoundedUp,
    EraseForgotten,
    UnknownErases,
    OtherPersonErased,
    WallClockInOneBoot,
    BootClockOverRestart,
    UptimeNotCounted,
    WallBackwardsIsYoung,
    SuspectIgnored,
    SuspectYesBelieved,
    SuspectYesRemembered,
    SuspectIsTheReasonAlways,
    CredentialStretched,
    ExpiredCredentialInGrace,
    SessionLimitForgotten,
    AdminGraceOfUser,
    LiveByAdminWindow,
    LiveKeepsAdmin,
    SudoByUserYes,
    SudoWithoutAdminPart,
    CeilingForgotten,
    GraceRenewsItself,
    RefusedRightGetsGrace,
    OtherRulesSkippedInGrace,
    DegradedNotMarked,
    EndForgotten,
    AdminEndForgotten,
    LiveByAdminEnd,
    LastSecondOfTheRole,
    EndHiddenByTheClock,
    LastFractionHolds,
    SudoThoughAdminRefused,
    NoHiddenByUnknown,
    SuspectUserHidden,
    SuspectEndHidden,
}

/// Every mistake but [`Mistake::None`].
pub(crate) const MISTAKES: [Mistake; 39] = [
    Mistake::NameNotCompared,
    Mistake::PersonNotCompared,
    Mistake::WindowOneSecondLonger,
    Mistake::HoldsAtTheVeryEnd,
    Mistake::EndRoundedUp,
    Mistake::EraseForgotten,
    Mistake::UnknownErases,
    Mistake::OtherPersonErased,
    Mistake::WallClockInOneBoot,
    Mistake::BootClockOverRestart,
    Mistake::UptimeNotCounted,
    Mistake::WallBackwardsIsYoung,
    Mistake::SuspectIgnored,
    Mistake::SuspectYesBelieved,
    Mistake::SuspectYesRemembered,
    Mistake::SuspectIsTheReasonAlways,
    Mistake::CredentialStretched,
    Mistake::ExpiredCredentialInGrace,
    Mistake::SessionLimitForgotten,
    Mistake::AdminGraceOfUser,
    Mistake::LiveByAdminWindow,
    Mistake::LiveKeepsAdmin,
    Mistake::SudoByUserYes,
    Mistake::SudoWithoutAdminPart,
    Mistake::CeilingForgotten,
    Mistake::GraceRenewsItself,
    Mistake::RefusedRightGetsGrace,
    Mistake::OtherRulesSkippedInGrace,
    Mistake::DegradedNotMarked,
    Mistake::EndForgotten,
    Mistake::AdminEndForgotten,
    Mistake::LiveByAdminEnd,
    Mistake::LastSecondOfTheRole,
    Mistake::EndHiddenByTheClock,
    Mistake::LastFractionHolds,
    Mistake::SudoThoughAdminRefused,
    Mistake::NoHiddenByUnknown,
    Mistake::SuspectUserHidden,
    Mistake::SuspectEndHidden,
];

/// The answer to one question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    /// Let in, until this second; an administrator's right may end sooner.
    In { admin: bool, admin_until: Option<i64>, degraded: bool, until: i64 },
    /// A definite no.
    No,
    /// It could not be found out, for this reason.
    Unknown(Reason),
}

/// What somebody was last allowed while Azure answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Yes {
    pub(crate) admin: bool,
    pub(crate) name: usize,
    owner: usize,
    other_tenant: bool,
    /// Given while the clock was suspect.
    suspect: bool,
    /// True milliseconds since, as long as the node was not started again.
    age: i64,
    /// Whole seconds by which the wall clock moved since.
    moved: i64,
    /// Started again since.
    restarted: bool,
    /// In how many seconds of the wall clock the right to log in ends, and the administrator's; none
    /// without an end.
    pub(crate) ends: Option<i64>,
    pub(crate) admin_ends: Option<i64>,
}

/// Why an old yes does not stand in.
enum NoGrace {
    /// It would, could its age be known.
    Clock,
    Other,
}

/// One node.
pub(crate) struct Node {
    settings: Settings,
    mistake: Mistake,
    pub(crate) people: [Option<Yes>; PEOPLE],
    /// The wall clock in milliseconds, what is added to it in seconds, and the time since the start.
    wall: i64,
    lift: i64,
    suspect: bool,
    up: i64,
}

impl Node {
    /// A node whose wall clock shows `wall` and which has run for `up`, in milliseconds.
    pub(crate) fn new(
        settings: Settings,
        found: Option<Found>,
        wall: i64,
        up: i64,
        mistake: Mistake,
    ) -> Self {
        let mut people = [None; PEOPLE];
        if let Some(found) = found {
            people[found.person] = Some(Yes {
                admin: found.admin,
                name: found.name,
                owner: found.person,
                other_tenant: found.other_tenant,
                suspect: found.suspect,
                age: found.age,
                moved: found.age / SECOND,
                restarted: found.before_restart,
                ends: found.ends,
                admin_ends: found.admin_ends,
            });
        }
        Self { settings, mistake, people, wall, lift: 0, suspect: false, up }
    }

    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == mistake
    }

    /// The wall clock in whole seconds.
    fn now(&self) -> i64 {
        self.wall.div_euclid(SECOND) + self.lift
    }

    /// Time goes by, or the clocks are changed.
    pub(crate) fn pass(&mut self, event: Event) {
        let before = self.now();
        let (truly, on_the_wall) = match event {
            Event::Wait(by) => (by, by),
            Event::Suspend(by, wrong) => (by, by + wrong),
            Event::Jump(by) => (0, by),
            Event::Restart(off, up) => (off + up, off + up),
            Event::Suspect(_) | Event::Trusted => (0, 0),
        };
        self.wall += on_the_wall;
        match event {
            Event::Restart(_, up) => self.up = up,
            _ => self.up += truly,
        }
        match event {
            Event::Suspect(lift) => (self.suspect, self.lift) = (true, lift),
            Event::Trusted => (self.suspect, self.lift) = (false, 0),
            _ => {}
        }
        let moved = self.now() - before;
        for yes in self.people.iter_mut().flatten() {
            yes.age += truly;
            yes.moved += moved;
            for end in [&mut yes.ends, &mut yes.admin_ends].into_iter().flatten() {
                *end -= moved;
            }
            yes.restarted |= matches!(event, Event::Restart(..));
        }
    }

    /// The yes that was handed over, when it is the asking person's own.
    fn own(&self, ask: &Ask) -> Option<Yes> {
        let other_tenant = ask.flaws.contains(&Flaw::IdentityOfOtherTenant);
        self.people[ask.handed].filter(|yes| yes.owner == ask.person && yes.other_tenant == other_tenant)
    }

    /// Answers, and does to the old yes what the answer does.
    pub(crate) fn answer(&mut self, ask: &Ask) -> Said {
        let said = self.judge(ask);
        let known = !ask.flaws.contains(&Flaw::IdentityWithdrawn);
        match said {
            Said::In { admin, degraded, .. } => {
                let (ends, admin_ends) = ask.right.ends();
                let remembers = !degraded || self.makes(Mistake::GraceRenewsItself);
                if remembers && (!self.suspect || self.makes(Mistake::SuspectYesRemembered)) {
                    self.people[ask.person] = Some(Yes {
                        admin,
                        name: ask.name,
                        owner: ask.person,
                        other_tenant: false,
                        suspect: self.suspect,
                        age: 0,
                        moved: 0,
                        restarted: false,
                        ends,
                        admin_ends: admin_ends.filter(|_| admin),
                    });
                } else if remembers && self.own(ask).is_some_and(|old| self.takes_away(old, admin, ask.right))
                {
                    self.people[ask.person] = None;
                }
            }
            // A definite no about the role counts, whatever else is unknown.
            Said::Unknown(_) if known && refused(ask.right) && !self.makes(Mistake::NoHiddenByUnknown) => {
                if self.own(ask).is_some() {
                    self.people[ask.person] = None;
                }
            }
            Said::No if known && !self.makes(Mistake::EraseForgotten) => {
                // Only what was handed over can be seen, and only the person's own goes.
                if self.own(ask).is_some() || self.makes(Mistake::OtherPersonErased) {
                    self.people[ask.person] = None;
                }
            }
            Said::Unknown(_) if known && self.makes(Mistake::UnknownErases) => self.people[ask.person] = None,
            Said::No | Said::Unknown(_) => {}
        }
        said
    }

    /// Whether what Azure says while the clock is suspect is less than the old yes: a user where that was
    /// an administrator's, or an end that comes sooner. It is not kept, but the old yes must not hide it.
    fn takes_away(&self, old: Yes, admin: bool, right: Right) -> bool {
        let sooner = |new: Option<i64>, old: Option<i64>| match (new, old) {
            (Some(new), Some(old)) => new < old,
            (new, _) => new.is_some(),
        };
        if old.admin && !admin {
            return !self.makes(Mistake::SuspectUserHidden);
        }
        let (end, admin_end) = right.ends();
        let less = sooner(end, old.ends) || old.admin && sooner(admin_end, old.admin_ends);
        less && !self.makes(Mistake::SuspectEndHidden)
    }

    /// The rules in their order; the first that is broken is the answer.
    fn judge(&self, ask: &Ask) -> Said {
        let has = |flaw| ask.flaws.contains(&flaw);
        let in_grace = matches!(ask.right, Right::Unknown(_));
        let withdrawn = has(Flaw::IdentityWithdrawn);
        // A credential that states no tenant is judged by its identity.
        let other_tenant = has(Flaw::OtherTenant) && !has(Flaw::NoTenant);
        if has(Flaw::NotAdmitted) || other_tenant || (has(Flaw::IdentityOfOtherTenant) && !withdrawn) {
            return Said::No;
        }
        if self.settings.one_domain && ask.name == FOREIGN_NAME {
            return Said::No;
        }
        let expired = ask.credential <= 0 && !(in_grace && self.makes(Mistake::ExpiredCredentialInGrace));
        if expired || has(Flaw::NoEnd) {
            return Said::No;
        }
        if withdrawn {
            return Said::Unknown(Reason::IdentityUnknown);
        }
        let uid = [Flaw::NoUid, Flaw::UidMoved, Flaw::UidOfAnother, Flaw::NameOfAnother, Flaw::Renamed];
        if uid.into_iter().any(has) && !(in_grace && self.makes(Mistake::OtherRulesSkippedInGrace)) {
            return Said::No;
        }
        match ask.guest {
            Some(true) if !self.settings.guests => Said::No,
            // A domain that is listed is evidence enough that nobody is a guest.
            None if !self.settings.guests && !self.settings.one_domain => {
                Said::Unknown(Reason::IdentityUnknown)
            }
            _ => self.judge_right(ask),
        }
    }

    fn judge_right(&self, ask: &Ask) -> Said {
        let sudo = ask.service == Service::Sudo;
        let over = |end: Option<i64>| end.is_some_and(|end| end <= 0);
        match ask.right {
            right if refused(right) => {
                if self.makes(Mistake::RefusedRightGetsGrace) {
                    return self.stand_in(ask, Cause::Upstream, None);
                }
                Said::No
            }
            Right::User(end, _) | Right::Admin(end, _) if over(end) => Said::No,
            Right::User(end, _) if !sudo => self.let_in(ask, None, false, &[end]),
            // What Azure refused of the administrator's right is no silence.
            Right::User(_, AdminPart::UnknownAndRefused(cause))
                if !self.makes(Mistake::SudoThoughAdminRefused) =>
            {
                Said::Unknown(reason(cause))
            }
            Right::User(end, AdminPart::Unknown(cause) | AdminPart::UnknownAndRefused(cause)) => {
                if self.makes(Mistake::SudoWithoutAdminPart) {
                    return Said::Unknown(reason(cause));
                }
                self.stand_in(ask, cause, end)
            }
            // No administrator, or a deny assignment: what else is unknown does not matter.
            Right::User(..) | Right::DenyAssignment | Right::PimNotActive => Said::No,
            Right::Conditional | Right::NoAssignment => Said::No,
            Right::Admin(_, admin_end) if sudo && over(admin_end) => Said::No,
            Right::Admin(end, admin_end) if over(admin_end) => self.let_in(ask, None, false, &[end]),
            Right::Admin(end, admin_end) => self.let_in(ask, Some(admin_end), false, &[end]),
            Right::Unknown(cause) => self.stand_in(ask, cause, None),
        }
    }

    /// Azure did not say: an old yes may stand in. `end` is when the right ends that Azure did give.
    fn stand_in(&self, ask: &Ask, cause: Cause, end: Option<i64>) -> Said {
        match self.grace(ask) {
            Ok((admin, left)) => {
                let round = if self.makes(Mistake::EndRoundedUp) { SECOND - 1 } else { 0 };
                let left = (left + round) / SECOND;
                let degraded = !self.makes(Mistake::DegradedNotMarked);
                self.let_in(ask, admin.then_some(Some(left)), degraded, &[end, Some(left)])
            }
            Err(NoGrace::Clock) => Said::Unknown(Reason::ClockSuspect),
            Err(NoGrace::Other) => Said::Unknown(reason(cause)),
        }
    }

    /// The earliest end counts; each is in seconds from now. An administrator may have an end of their own.
    fn let_in(&self, ask: &Ask, admin: Option<Option<i64>>, degraded: bool, ends: &[Option<i64>]) -> Said {
        let stretched = degraded && self.makes(Mistake::CredentialStretched);
        let mut shortest = if stretched { i64::from(u32::MAX) } else { ask.credential };
        for end in ends.iter().flatten() {
            shortest = shortest.min(*end);
        }
        if let Some(limit) = self.settings.max_session.filter(|_| !self.makes(Mistake::SessionLimitForgotten))
        {
            shortest = shortest.min(i64::from(limit));
        }
        let until = self.now() + shortest;
        let admin_until = admin.map(|end| end.map_or(until, |end| until.min(self.now() + end)));
        Said::In { admin: admin.is_some(), admin_until, degraded, until }
    }

    /// What the old yes gives: whether an administrator's right, and for how many milliseconds more.
    fn grace(&self, ask: &Ask) -> Result<(bool, i64), NoGrace> {
        let yes = self.people[ask.handed].ok_or(NoGrace::Other)?;
        let same = yes.owner == ask.person && !yes.other_tenant;
        if !same && !self.makes(Mistake::PersonNotCompared) {
            return Err(NoGrace::Other);
        }
        if yes.name != ask.name && !self.makes(Mistake::NameNotCompared) {
            return Err(NoGrace::Other);
        }
        if ask.service == Service::Sudo && !yes.admin && !self.makes(Mistake::SudoByUserYes) {
            return Err(NoGrace::Other);
        }
        let window = self.window(ask, yes);
        if window == 0 && !self.makes(Mistake::SuspectIsTheReasonAlways) {
            return Err(NoGrace::Other);
        }
        let live = ask.service == Service::Live && !self.makes(Mistake::LiveKeepsAdmin);
        let admin = (yes.admin || ask.service == Service::Sudo) && !live;
        let end = self.end(yes, admin);
        let last = if self.makes(Mistake::LastSecondOfTheRole) { -1 } else { 0 };
        let over = end.is_some_and(|end| end <= last);
        if over && !self.makes(Mistake::EndHiddenByTheClock) {
            return Err(NoGrace::Other);
        }
        let doubt = self.suspect && !self.makes(Mistake::SuspectIgnored)
            || yes.suspect && !self.makes(Mistake::SuspectYesBelieved);
        if doubt {
            return Err(NoGrace::Clock);
        }
        let age = self.age(yes)?;
        // With less than a whole second there is nothing to give.
        let least = match self.mistake {
            Mistake::HoldsAtTheVeryEnd => 0,
            Mistake::LastFractionHolds => 1,
            _ => SECOND,
        };
        if over || age < 0 || window - age < least {
            return Err(NoGrace::Other);
        }
        let left = end.map_or(window - age, |end| (window - age).min(end * SECOND));
        Ok((admin, left))
    }

    /// In how many seconds the role ends that grace would give.
    fn end(&self, yes: Yes, admin: bool) -> Option<i64> {
        let by_admin = admin || yes.admin && self.makes(Mistake::LiveByAdminEnd);
        let ends = if self.makes(Mistake::EndForgotten) { None } else { yes.ends };
        let own = if self.makes(Mistake::AdminEndForgotten) { None } else { yes.admin_ends };
        if by_admin { own.or(ends) } else { ends }
    }

    /// How long a yes may stand in for this question, in milliseconds.
    fn window(&self, ask: &Ask, yes: Yes) -> i64 {
        let live = ask.service == Service::Live && !self.makes(Mistake::LiveByAdminWindow);
        let user = !yes.admin || live || self.makes(Mistake::AdminGraceOfUser);
        let wished = if user { self.settings.user_window } else { self.settings.admin_window };
        let window = if self.makes(Mistake::CeilingForgotten) { wished } else { wished.min(CEILING) };
        if self.makes(Mistake::WindowOneSecondLonger) { window + SECOND } else { window }
    }

    /// How old a yes is, in milliseconds; less than 0 when it comes from the future.
    fn age(&self, yes: Yes) -> Result<i64, NoGrace> {
        let moved = yes.moved * SECOND;
        if !yes.restarted {
            return Ok(if self.makes(Mistake::WallClockInOneBoot) { moved } else { yes.age });
        }
        if self.makes(Mistake::BootClockOverRestart) {
            return Ok(self.up);
        }
        if moved < 0 && !self.makes(Mistake::WallBackwardsIsYoung) {
            return Err(NoGrace::Clock);
        }
        Ok(if self.makes(Mistake::UptimeNotCounted) { moved.max(0) } else { moved.max(self.up) })
    }
}

const fn refused(right: Right) -> bool {
    matches!(right, Right::DenyAssignment | Right::PimNotActive | Right::Conditional | Right::NoAssignment)
}

const fn reason(cause: Cause) -> Reason {
    match cause {
        Cause::NodeNotPermitted => Reason::NodeNotPermitted,
        Cause::Throttled => Reason::Throttled,
        Cause::ScopeUnknown => Reason::ScopeUnknown,
        Cause::Upstream => Reason::UpstreamUnknown,
    }
}
