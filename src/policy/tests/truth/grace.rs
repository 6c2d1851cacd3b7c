//! When an old yes stands in for an answer, row by row.

use std::time::Duration;

use nightlatch_model::{LoginName, ObjectId, Role, TenantId};
use nightlatch_policy::{
    BootId, FreshYes, Grace, GraceRule, LoginRequest, MAX_GRACE, Moment, NoGrace, Service, grace,
};

use crate::given::*;

const G: u64 = 3_600;
const DAY: u64 = 86_400;
const TEN_YEARS: i64 = 315_576_000;

/// One question: alice by ssh, who was let in just now as a user, on a node with the default rule.
struct Row {
    service: Service,
    last: Option<FreshYes>,
    who: (TenantId, ObjectId),
    name: &'static str,
    rule: GraceRule,
    now: Moment,
}

fn row(change: impl FnOnce(&mut Row)) -> Grace {
    let mut row = Row {
        service: Service::Ssh,
        last: Some(yes(Role::User, Duration::ZERO)),
        who: (tenant(1), alice()),
        name: "alice@contoso.com",
        rule: GraceRule::default(),
        now: now(),
    };
    change(&mut row);
    let request = LoginRequest { service: row.service, name: LoginName::parse(row.name).unwrap() };
    grace(row.last.as_ref(), row.who, &request, row.rule, row.now)
}

fn holds(seconds: i64, role: Role) -> Grace {
    Grace::Holds { until: NOW.plus(seconds), role }
}

fn too_old(age: Duration) -> Grace {
    Grace::Fails(NoGrace::TooOld { age })
}

/// The yes of a user, `ago` in this boot.
fn user(ago: Duration) -> Grace {
    row(|r| r.last = Some(yes(Role::User, ago)))
}

/// The yes of an administrator, `ago` in this boot, with `admin` minutes of grace for administrators.
fn admin(service: Service, ago: u64, admin: u64) -> Grace {
    row(|r| {
        r.service = service;
        r.last = Some(yes(Role::Admin, secs(ago)));
        r.rule = GraceRule::new(secs(G), secs(admin * 60));
    })
}

#[test]
fn it_holds_while_the_yes_is_younger_than_the_window() {
    assert_eq!(user(Duration::ZERO), holds(3_600, Role::User), "fresh");
    assert_eq!(user(secs(1)), holds(3_599, Role::User));
    assert_eq!(user(secs(G - 1)), holds(1, Role::User), "within");
    assert_eq!(user(secs(G)), too_old(secs(G)), "exactly");
    assert_eq!(user(secs(G + 1)), too_old(secs(G + 1)), "past");
    assert_eq!(user(UP), too_old(UP));
}

#[test]
fn what_is_left_is_rounded_down_to_whole_seconds() {
    assert_eq!(user(Duration::from_millis(1)), holds(3_599, Role::User));
    assert_eq!(user(Duration::from_millis(999)), holds(3_599, Role::User));
    assert_eq!(user(secs(G) - Duration::from_nanos(1)), holds(0, Role::User), "over in this very second");
}

#[test]
fn without_a_kept_yes_there_is_none() {
    assert_eq!(row(|r| r.last = None), Grace::Fails(NoGrace::Never));
    assert_eq!(Grace::default(), Grace::Fails(NoGrace::Never));
}

#[test]
fn within_a_boot_the_wall_clock_plays_no_part() {
    for jump in [-TEN_YEARS, -86_400, -1, 1, 86_400, TEN_YEARS] {
        let at = |ago: u64| {
            row(|r| {
                r.last = Some(yes(Role::User, secs(ago)));
                r.now.wall = NOW.plus(jump);
            })
        };
        let until = NOW.plus(jump).plus(600);
        assert_eq!(at(3_000), Grace::Holds { until, role: Role::User }, "clock moved by {jump} s");
        assert_eq!(at(G), too_old(secs(G)), "clock moved by {jump} s");
    }
    // A yes from the future of this boot is none.
    let early = row(|r| r.now.since_boot = UP - Duration::from_nanos(1));
    assert_eq!(early, too_old(Duration::MAX));
}

#[test]
fn over_a_boot_the_wall_clock_counts_and_the_time_since_boot_is_the_least() {
    let rebooted = |wall: i64, up: u64| {
        row(|r| r.now = Moment { wall: NOW.plus(wall), boot: BootId([2; 16]), since_boot: secs(up), ..now() })
    };
    let until = |from: i64, left: i64| Grace::Holds { until: NOW.plus(from + left), role: Role::User };
    assert_eq!(rebooted(60, 20), until(60, 3_540));
    assert_eq!(rebooted(0, 0), until(0, 3_600));
    assert_eq!(rebooted(3_599, 20), until(3_599, 1));
    assert_eq!(rebooted(3_600, 20), too_old(secs(G)));
    assert_eq!(rebooted(60, 3_599), until(60, 1), "the wall clock says less than the boot");
    assert_eq!(rebooted(60, G), too_old(secs(G)));
    assert_eq!(rebooted(-1, 20), Grace::Fails(NoGrace::ClockSuspect), "back");
    assert_eq!(rebooted(-TEN_YEARS, 20), Grace::Fails(NoGrace::ClockSuspect));
    assert_eq!(rebooted(TEN_YEARS, 20), too_old(secs(315_576_000)), "forward");
    assert_eq!(rebooted(i64::MAX, 20), too_old(secs(i64::MAX.unsigned_abs() - NOW.0.unsigned_abs())));
    assert_eq!(rebooted(i64::MIN, 20), Grace::Fails(NoGrace::ClockSuspect));
}

#[test]
fn none_while_the_clock_is_suspect() {
    let suspect = Grace::Fails(NoGrace::ClockSuspect);
    assert_eq!(row(|r| r.now.suspect = true), suspect, "now");
    assert_eq!(row(|r| r.last.as_mut().unwrap().at.suspect = true), suspect, "then");
    let other_boot = |r: &mut Row| (r.now.suspect, r.now.boot) = (true, BootId([2; 16]));
    assert_eq!(row(other_boot), suspect);
    // Whoever has none anyway is told why.
    let no_window = |r: &mut Row| (r.now.suspect, r.rule) = (true, GraceRule::new(Duration::ZERO, secs(G)));
    assert_eq!(row(no_window), Grace::Fails(NoGrace::NotAllowed));
    assert_eq!(
        row(|r| (r.now.suspect, r.name) = (true, "bob@contoso.com")),
        Grace::Fails(NoGrace::OtherName)
    );
}

#[test]
fn it_is_the_persons_and_the_names_own() {
    let person = Grace::Fails(NoGrace::OtherPerson);
    assert_eq!(row(|r| r.who = (tenant(1), bob())), person);
    assert_eq!(row(|r| r.who = (tenant(2), alice())), person, "the same object id in another tenant");
    assert_eq!(row(|r| r.name = "alice@fabrikam.com"), Grace::Fails(NoGrace::OtherName));
    let both = |r: &mut Row| (r.who, r.name) = ((tenant(1), bob()), "bob@contoso.com");
    assert_eq!(row(both), person);
}

#[test]
fn administrators_have_none_unless_the_node_says_so() {
    let none = Grace::Fails(NoGrace::NotAllowed);
    for service in [Service::Ssh, Service::Sudo, Service::Other] {
        assert_eq!(admin(service, 0, 0), none, "{service:?}");
        assert_eq!(admin(service, 600, 30), holds(1_200, Role::Admin), "{service:?}");
        assert_eq!(admin(service, 1_799, 30), holds(1, Role::Admin), "{service:?}");
        assert_eq!(admin(service, 1_800, 30), too_old(secs(1_800)), "within a user's window");
        assert_eq!(admin(service, 5_000, 120), holds(2_200, Role::Admin), "past a user's window");
    }
    // A user has no right to sudo that could be kept, however long the windows are.
    let sudo = row(|r| (r.service, r.rule) = (Service::Sudo, GraceRule::new(MAX_GRACE, MAX_GRACE)));
    assert_eq!(sudo, none);
    let no_users = GraceRule::new(Duration::ZERO, MAX_GRACE);
    assert_eq!(row(|r| r.rule = no_users), none);
}

#[test]
fn a_living_session_is_kept_as_a_users() {
    assert_eq!(admin(Service::Live, 600, 0), holds(3_000, Role::User), "no grace for administrators");
    assert_eq!(admin(Service::Live, 600, 30), holds(3_000, Role::User), "not as an administrator");
    assert_eq!(admin(Service::Live, G, 0), too_old(secs(G)));
    assert_eq!(admin(Service::Live, G, 120), too_old(secs(G)), "the window is a user's");
    assert_eq!(row(|r| r.service = Service::Live), holds(3_600, Role::User));
    let no_users = row(|r| {
        (r.service, r.rule) = (Service::Live, GraceRule::new(Duration::ZERO, MAX_GRACE));
        r.last = Some(yes(Role::Admin, Duration::ZERO));
    });
    assert_eq!(no_users, Grace::Fails(NoGrace::NotAllowed));
}

#[test]
fn no_configuration_gives_more_than_a_day() {
    assert_eq!(MAX_GRACE, secs(DAY));
    let rule = GraceRule::new(secs(DAY + 1), Duration::MAX);
    assert_eq!((rule.user(), rule.admin()), (MAX_GRACE, MAX_GRACE));
    assert_eq!(GraceRule::new(secs(7), secs(9)).user(), secs(7));
    assert_eq!(GraceRule::new(secs(7), secs(9)).admin(), secs(9));
    let default = GraceRule::default();
    assert_eq!((default.user(), default.admin()), (secs(G), Duration::ZERO));
    for role in [Role::User, Role::Admin] {
        let ago = |ago: u64| row(|r| (r.last, r.rule) = (Some(yes(role, secs(ago))), rule));
        assert_eq!(ago(DAY - 1), holds(1, role));
        assert_eq!(ago(DAY), too_old(secs(DAY)));
        assert_eq!(ago(DAY + 1), too_old(secs(DAY + 1)));
    }
}

/// An end that Azure told is kept to the second, whatever the window would give.
#[test]
fn it_ends_with_the_role() {
    let ended = Grace::Fails(NoGrace::RoleEnded);
    let user = |ends: Option<i64>| row(|r| r.last = Some(ending(Role::User, secs(600), ends, None)));
    assert_eq!(user(None), holds(3_000, Role::User), "no end");
    assert_eq!(user(Some(3_001)), holds(3_000, Role::User), "after the window");
    assert_eq!(user(Some(3_000)), holds(3_000, Role::User));
    assert_eq!(user(Some(2_999)), holds(2_999, Role::User));
    assert_eq!(user(Some(1)), holds(1, Role::User));
    for over in [0, -1, -TEN_YEARS] {
        assert_eq!(user(Some(over)), ended, "{over}");
    }
    // In the very last fraction of the window, too.
    let last = row(|r| {
        let ago = secs(G) - Duration::from_millis(1_500);
        r.last = Some(ending(Role::User, ago, Some(9), None));
    });
    assert_eq!(last, holds(1, Role::User));
}

/// Each door has the end of the right that grace would give there.
#[test]
fn the_end_is_that_of_the_right_that_grace_gives() {
    let ended = Grace::Fails(NoGrace::RoleEnded);
    let was = |service, ends: Option<i64>, admin_ends: Option<i64>| {
        row(|r| {
            r.service = service;
            r.last = Some(ending(Role::Admin, secs(600), ends, admin_ends));
            r.rule = GraceRule::new(secs(G), secs(1_800));
        })
    };
    for service in [Service::Ssh, Service::Sudo, Service::Other] {
        assert_eq!(was(service, None, None), holds(1_200, Role::Admin), "{service:?}");
        assert_eq!(was(service, None, Some(60)), holds(60, Role::Admin), "{service:?}");
        assert_eq!(was(service, Some(70), Some(60)), holds(60, Role::Admin), "{service:?}");
        assert_eq!(was(service, Some(70), None), holds(70, Role::Admin), "an administrator logs in as well");
        assert_eq!(was(service, Some(70), Some(0)), ended, "not as a user in their place");
        assert_eq!(was(service, Some(0), None), ended, "{service:?}");
        assert_eq!(was(service, Some(0), Some(60)), ended, "never after the right to log in");
    }
    // The session that lives is a user's, so the administrator's end is none of its business.
    assert_eq!(was(Service::Live, Some(70), Some(0)), holds(70, Role::User));
    assert_eq!(was(Service::Live, None, Some(0)), holds(3_000, Role::User));
    assert_eq!(was(Service::Live, Some(0), Some(0)), ended);
}

#[test]
fn an_end_is_told_after_the_person_and_the_window_and_before_the_age() {
    let ended = |change: fn(&mut Row)| {
        row(|r| {
            r.last = Some(ending(Role::User, secs(G), Some(0), None));
            change(r);
        })
    };
    assert_eq!(ended(|_| ()), Grace::Fails(NoGrace::RoleEnded), "also where the yes is too old");
    assert_eq!(ended(|r| r.now.suspect = true), Grace::Fails(NoGrace::RoleEnded), "later at the least");
    assert_eq!(ended(|r| r.now.wall = NOW.plus(-1)), too_old(secs(G)), "by the wall clock");
    let suspect = |r: &mut Row| (r.now.suspect, r.now.wall) = (true, NOW.plus(-1));
    assert_eq!(ended(suspect), Grace::Fails(NoGrace::ClockSuspect));
    assert_eq!(ended(|r| r.name = "bob@contoso.com"), Grace::Fails(NoGrace::OtherName));
    assert_eq!(ended(|r| r.who.1 = bob()), Grace::Fails(NoGrace::OtherPerson));
    assert_eq!(ended(|r| r.service = Service::Sudo), Grace::Fails(NoGrace::NotAllowed));
    let rebooted = ended(|r| r.now = Moment { boot: BootId([2; 16]), since_boot: secs(9), ..now() });
    assert_eq!(rebooted, Grace::Fails(NoGrace::RoleEnded));
}

#[test]
fn a_yes_that_takes_something_away_gives_less() {
    let less = |new: (Role, Option<i64>, Option<i64>), old: (Role, Option<i64>, Option<i64>)| {
        let made = |(role, ends, admin_ends)| ending(role, Duration::ZERO, ends, admin_ends);
        made(new).gives_less_than(&made(old))
    };
    use Role::{Admin, User};
    for (new, old) in [
        ((User, None, None), (Admin, Some(1), Some(1))),
        ((User, Some(9), None), (User, None, None)),
        ((User, Some(8), None), (User, Some(9), None)),
        ((Admin, Some(8), None), (User, Some(9), None)),
        ((Admin, None, Some(9)), (Admin, None, None)),
        ((Admin, None, Some(8)), (Admin, None, Some(9))),
        ((Admin, Some(8), None), (Admin, Some(9), Some(9))),
    ] {
        assert!(less(new, old), "{new:?} {old:?}");
        assert!(!less(old, old) && !less(new, new));
    }
    assert!(!less((Admin, None, Some(1)), (User, None, None)), "as much for a user");
    assert!(!less((Admin, Some(9), None), (Admin, Some(9), Some(9))), "the same in other words");
    assert!(!less((User, None, None), (User, Some(9), None)));
}

/// The words for `explain`: what was found, and what helps.
#[test]
fn it_says_why_not() {
    let said = |grace: Grace| grace.to_string();
    assert_eq!(said(holds(60, Role::User)), "holds as user until 2026-11-21T22:31:05Z");
    assert_eq!(
        said(too_old(secs(5_400))),
        "none: the last yes is 5400 s old; log in again when Azure answers"
    );
    assert_eq!(
        said(too_old(Duration::MAX)),
        "none: the last yes is from the future; set the clock of the node"
    );
    assert!(
        said(Grace::Fails(NoGrace::RoleEnded)).starts_with("none: the role ended while Azure was silent; ")
    );
    for why in [
        NoGrace::Never,
        NoGrace::OtherPerson,
        NoGrace::OtherName,
        NoGrace::NotAllowed,
        NoGrace::RoleEnded,
        NoGrace::ClockSuspect,
    ] {
        let words = why.to_string();
        assert!(words.is_ascii() && words.starts_with(char::is_lowercase) && words.contains("; "), "{words}");
    }
}
