//! May an old yes of Azure stand in for an answer that cannot be had, and for how long?
//!
//! Bounded by a ceiling in code, by the role and its end, by the person and the name, and by a clock that
//! can be trusted. Nothing here may turn a no into a yes, lengthen a credential or a role, or read a clock
//! by itself.

use std::fmt;
use std::time::Duration;

use nightlatch_model::{LoginName, ObjectId, Role, TenantId, Timestamp};

use crate::answer::{earlier, lasting};
use crate::facts::{LoginRequest, Service};

/// The longest grace that any configuration can give: 24 hours.
pub const MAX_GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// The grace of a user where nothing is configured: 60 minutes.
const DEFAULT_USER_GRACE: Duration = Duration::from_secs(60 * 60);

/// How long a yes may stand in for an answer. Zero is no grace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GraceRule {
    user: Duration,
    admin: Duration,
}

impl GraceRule {
    /// The windows for users and for administrators; each is cut to [`MAX_GRACE`].
    #[must_use]
    pub fn new(user: Duration, admin: Duration) -> Self {
        Self { user: user.min(MAX_GRACE), admin: admin.min(MAX_GRACE) }
    }

    /// The same, but no window longer than this.
    #[must_use]
    pub fn at_most(self, longest: Option<Duration>) -> Self {
        longest.map_or(self, |longest| Self::new(self.user.min(longest), self.admin.min(longest)))
    }

    /// The window of somebody who was a user.
    #[must_use]
    pub const fn user(&self) -> Duration {
        self.user
    }

    /// The window of somebody who was an administrator.
    #[must_use]
    pub const fn admin(&self) -> Duration {
        self.admin
    }
}

impl Default for GraceRule {
    /// 60 minutes for users, none for administrators.
    fn default() -> Self {
        Self::new(DEFAULT_USER_GRACE, Duration::ZERO)
    }
}

/// One boot of this node (`/proc/sys/kernel/random/boot_id`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct BootId(pub [u8; 16]);

/// A point in time, by both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The wall clock; while the clock is suspect, never before the latest time that was proven.
    pub wall: Timestamp,
    /// The boot that [`Moment::since_boot`] counts from.
    pub boot: BootId,
    /// Time since that boot, suspend included (`CLOCK_BOOTTIME`).
    pub since_boot: Duration,
    /// True when the wall clock is behind a time that was proven.
    pub suspect: bool,
}

/// The last yes that Azure itself gave a person on this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FreshYes {
    /// The person's tenant.
    pub tid: TenantId,
    /// The person.
    pub oid: ObjectId,
    /// The login name that was let in.
    pub name: LoginName,
    /// The right that the permit gave.
    pub role: Role,
    /// When it was given.
    pub at: Moment,
    /// When the right to log in ends, if Azure told an end (PIM).
    pub ends: Option<Timestamp>,
    /// When the administrator's right ends, if Azure told an end: never after [`FreshYes::ends`]; `None`
    /// for [`Role::User`].
    pub admin_ends: Option<Timestamp>,
}

impl FreshYes {
    /// When the right to be this ends, if Azure told an end.
    #[must_use]
    pub fn end_of(&self, role: Role) -> Option<Timestamp> {
        match role {
            Role::User => self.ends,
            Role::Admin => earlier(self.admin_ends, self.ends),
        }
    }

    /// True when this yes gives less than an `older` one: a lesser role, or an end that comes sooner. What
    /// takes something away must not be lost, or the older one would give it back.
    #[must_use]
    pub fn gives_less_than(&self, older: &Self) -> bool {
        let sooner = |role| lasting(self.end_of(role)) < lasting(older.end_of(role));
        self.role < older.role || sooner(Role::User) || (older.role == Role::Admin && sooner(Role::Admin))
    }
}

/// Whether an old yes stands in for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grace {
    /// It does.
    Holds {
        /// The first second in which it no longer does.
        until: Timestamp,
        /// The right that it gives.
        role: Role,
    },
    /// It does not.
    Fails(NoGrace),
}

impl Default for Grace {
    /// None: no yes is kept.
    fn default() -> Self {
        Self::Fails(NoGrace::Never)
    }
}

/// Why an old yes does not stand in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoGrace {
    /// No yes is kept: there was none, or a no came after it.
    Never,
    /// The yes was another person's.
    OtherPerson,
    /// The yes was for another login name.
    OtherName,
    /// The node gives no grace to this right.
    NotAllowed,
    /// The yes is older than the node allows.
    TooOld {
        /// How old; [`Duration::MAX`] for a yes from the future.
        age: Duration,
    },
    /// The right ended at the time that Azure itself had told.
    RoleEnded,
    /// The clock cannot tell how old the yes is.
    ClockSuspect,
}

impl fmt::Display for Grace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds { until, role } => write!(f, "holds as {role} until {until}"),
            Self::Fails(why) => write!(f, "none: {why}"),
        }
    }
}

impl fmt::Display for NoGrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("no earlier yes is kept; log in again when Azure answers"),
            Self::OtherPerson => f.write_str("the last yes was another person's; log in when Azure answers"),
            Self::OtherName => f.write_str("the last yes was for another name; log in with that name"),
            Self::NotAllowed => f.write_str("not allowed for this right; an administrator can allow it"),
            Self::TooOld { age: Duration::MAX } => {
                f.write_str("the last yes is from the future; set the clock of the node")
            }
            Self::TooOld { age } => {
                write!(f, "the last yes is {} s old; log in again when Azure answers", age.as_secs())
            }
            Self::RoleEnded => {
                f.write_str("the role ended while Azure was silent; renew it and log in when Azure answers")
            }
            Self::ClockSuspect => f.write_str("the clock cannot be trusted; set the clock of the node"),
        }
    }
}

/// Whether the `last` yes stands in for an answer about `who`, who comes by `request` at `now`.
#[must_use]
pub fn grace(
    last: Option<&FreshYes>,
    who: (TenantId, ObjectId),
    request: &LoginRequest,
    rule: GraceRule,
    now: Moment,
) -> Grace {
    match remaining(last, who, request, rule, now) {
        Ok(Remaining { left, role, end }) => {
            // At most MAX_GRACE, so the conversion never falls back.
            let until = now.wall.plus(i64::try_from(left.as_secs()).unwrap_or(0));
            Grace::Holds { until: end.map_or(until, |end| end.min(until)), role }
        }
        Err(why) => Grace::Fails(why),
    }
}

/// What an old yes still gives.
struct Remaining {
    /// What is left of the window.
    left: Duration,
    role: Role,
    /// When that role ends.
    end: Option<Timestamp>,
}

fn remaining(
    last: Option<&FreshYes>,
    who: (TenantId, ObjectId),
    request: &LoginRequest,
    rule: GraceRule,
    now: Moment,
) -> Result<Remaining, NoGrace> {
    let last = last.ok_or(NoGrace::Never)?;
    if (last.tid, last.oid) != who {
        return Err(NoGrace::OtherPerson);
    }
    if last.name != request.name {
        return Err(NoGrace::OtherName);
    }
    let (window, role) = window(request.service, last.role, rule).ok_or(NoGrace::NotAllowed)?;
    // Before the age: while the clock is suspect its time is the least that it can be, and past the end.
    let end = last.end_of(role);
    if end.is_some_and(|end| end <= now.wall) {
        return Err(NoGrace::RoleEnded);
    }
    let age = age(last.at, now)?;
    match window.checked_sub(age) {
        Some(left) if !left.is_zero() => Ok(Remaining { left, role, end }),
        _ => Err(NoGrace::TooOld { age }),
    }
}

/// The window and the right that it gives; `None` where there is no grace.
///
/// A session that lives is kept as a user's whatever its owner was: an outage must not throw
/// administrators out of the shell in which they mend it, and their `sudo` asks by itself.
fn window(service: Service, recorded: Role, rule: GraceRule) -> Option<(Duration, Role)> {
    let found = match (service, recorded) {
        (Service::Live, _) | (Service::Ssh | Service::Other, Role::User) => (rule.user, Role::User),
        (Service::Ssh | Service::Other | Service::Sudo, Role::Admin) => (rule.admin, Role::Admin),
        (Service::Sudo, Role::User) => return None,
    };
    (!found.0.is_zero()).then_some(found)
}

/// How old a yes is. Within one boot the wall clock plays no part; over a boot it is all there is, and
/// the time since the boot is the least.
fn age(at: Moment, now: Moment) -> Result<Duration, NoGrace> {
    if now.suspect || at.suspect {
        return Err(NoGrace::ClockSuspect);
    }
    if at.boot == now.boot {
        return now.since_boot.checked_sub(at.since_boot).ok_or(NoGrace::TooOld { age: Duration::MAX });
    }
    let seconds = u64::try_from(now.wall.since(at.wall)).map_err(|_| NoGrace::ClockSuspect)?;
    Ok(Duration::from_secs(seconds).max(now.since_boot))
}
