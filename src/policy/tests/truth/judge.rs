//! The rules of a login, one by one and together.

use std::collections::HashMap;
use std::num::NonZeroU32;

use nightlatch_model::{Answer, LoginName, ObjectId, Reason, Role, uid_of};
use nightlatch_policy::{
    Facts, Grant, Judgement, LoginRequest, Outcome, Refused, RoleAnswer, Rules, Service, UidFact,
    UnknownCause, Verdict, judge,
};

use crate::given::*;

pub(crate) type Case = (LoginRequest, Facts, Rules);

fn ask((request, facts, rules): &Case) -> Judgement {
    judge(request, facts, rules, NOW)
}

/// `None` for a permit.
fn reason(judgement: &Judgement) -> Option<Reason> {
    match &judgement.verdict {
        Verdict::Permit(_) => None,
        Verdict::Denial(denial) => Some(denial.reason()),
    }
}

fn with(change: impl FnOnce(&mut Case)) -> Option<Reason> {
    let mut case = good();
    change(&mut case);
    reason(&ask(&case))
}

#[test]
fn all_in_order_is_a_permit() {
    let Judgement { steps, verdict: Verdict::Permit(permit) } = ask(&good()) else { panic!("a permit") };
    assert_eq!((permit.role(), permit.admin(), permit.until()), (Role::Admin, true, NOW.plus(3_600)));
    assert_eq!(permit.admin_until(), Some(NOW.plus(3_600)));
    assert!(steps.iter().all(|s| !matches!(s.outcome, Outcome::Fail(_))));
    let names: Vec<_> = steps.iter().map(|s| s.rule).collect();
    let order = [
        "admit",
        "tenant",
        "domain",
        "session",
        "credential",
        "identity",
        "name_owner",
        "uid_held",
        "uid_owner",
        "guest",
        "role",
        "grace",
        "admin",
        "access rules",
    ];
    assert_eq!(names, order);
}

pub(crate) type Break = (&'static str, Reason, fn(&mut Case));

/// Ways to break one rule each, in the order of the rules.
pub(crate) const BREAKS: [Break; 11] = [
    ("admit", Reason::NoAdmit, |c| c.1.admitted = false),
    ("tenant", Reason::TenantMismatch, |c| c.1.tenant = Some(tenant(2))),
    ("domain", Reason::DomainNotAllowed, |c| c.2.domains = texts(&["fabrikam.com"])),
    ("credential", Reason::CertExpired, |c| c.1.credential_end = Some(NOW)),
    ("identity", Reason::IdentityUnknown, |c| c.1.identity = None),
    ("name_owner", Reason::NameReused, |c| c.1.uid.name_owner = Some(bob())),
    ("uid_held", Reason::UidChanged, |c| c.1.uid.held = Some(8)),
    ("uid_owner", Reason::UidTaken, |c| c.1.uid.owner = Some(bob())),
    ("guest", Reason::NameNotAllowed, |c| (c.1.guest, c.2.guests) = (Some(true), false)),
    ("role", Reason::NoVmRole, |c| c.1.roles = RoleAnswer::NotGranted(Refused::NoAssignment)),
    // Fails only where the role rule holds.
    ("admin", Reason::NoAdminRole, |c| {
        if role_of(&c.1.roles).is_some() {
            c.1.roles = RoleAnswer::Granted(grant(Role::User));
        }
    }),
];

/// Every set of broken rules, for ssh and for sudo: the first in order decides, each is shown, and a
/// permit comes of the empty set only.
#[test]
fn full_truth_table_of_broken_rules() {
    for service in [Service::Ssh, Service::Sudo, Service::Other, Service::Live] {
        for set in 0_u32..1 << BREAKS.len() {
            let mut case = good();
            case.0.service = service;
            let is_broken = |at: usize| set & (1 << at) != 0;
            for (at, (_, _, break_it)) in BREAKS.iter().enumerate() {
                if is_broken(at) {
                    break_it(&mut case);
                }
            }
            let fails = |at: usize| {
                let needs_identity = at > 4 && at != 8;
                is_broken(at)
                    && !(needs_identity && is_broken(4))
                    && !(BREAKS[at].0 == "admin" && (service != Service::Sudo || is_broken(9)))
            };
            let judgement = ask(&case);
            for (at, (rule, why, _)) in BREAKS.iter().enumerate() {
                let step = judgement.steps.iter().find(|s| s.rule == *rule).unwrap();
                assert_eq!(step.outcome == Outcome::Fail(*why), fails(at), "{service:?} {set:b} {rule}");
                assert!(fails(at) || !matches!(step.outcome, Outcome::Fail(_)), "{service:?} {set:b} {rule}");
            }
            let want = (0..BREAKS.len()).find(|at| fails(*at)).map(|at| BREAKS[at].1);
            assert_eq!(reason(&judgement), want, "{service:?} {set:b}");
        }
    }
}

/// What the role answer makes of ssh and of sudo.
#[test]
fn full_truth_table_of_role_answers() {
    use Reason::*;
    let user = |g: Grant| RoleAnswer::Granted(g);
    let base = || grant(Role::User);
    let pim = || Refused::PimNotActive { opens: Some(NOW.plus(9)), ended: None };
    let conditional = || Refused::Conditional { assignment: "a".to_owned() };
    let past = Some(NOW);
    let soon = Some(NOW.plus(1));
    let table: Vec<(RoleAnswer, Option<Reason>, Option<Reason>)> = vec![
        (RoleAnswer::Granted(grant(Role::Admin)), None, None),
        (RoleAnswer::Granted(Grant { until: soon, admin_until: soon, ..grant(Role::Admin) }), None, None),
        (RoleAnswer::Granted(Grant { admin_until: past, ..grant(Role::Admin) }), None, Some(PimNotActive)),
        (
            RoleAnswer::Granted(Grant { until: past, ..grant(Role::Admin) }),
            Some(PimNotActive),
            Some(PimNotActive),
        ),
        (RoleAnswer::Granted(Grant { unknown: Some(upstream()), ..grant(Role::Admin) }), None, None),
        (user(base()), None, Some(NoAdminRole)),
        (user(Grant { until: past, ..base() }), Some(PimNotActive), Some(PimNotActive)),
        (user(Grant { admin_refused: Some(denied()), ..base() }), None, Some(DenyAssignment)),
        (user(Grant { admin_refused: Some(pim()), ..base() }), None, Some(PimNotActive)),
        (user(Grant { admin_refused: Some(conditional()), ..base() }), None, Some(ConditionalRole)),
        (user(Grant { admin_refused: Some(Refused::NoAssignment), ..base() }), None, Some(NoAdminRole)),
        // What could not be found out is no denial of the administrator's right; a deny is.
        (user(Grant { unknown: Some(upstream()), ..base() }), None, Some(UpstreamUnknown)),
        (
            user(Grant { unknown: Some(upstream()), admin_refused: Some(pim()), ..base() }),
            None,
            Some(UpstreamUnknown),
        ),
        (
            user(Grant { unknown: Some(upstream()), admin_refused: Some(denied()), ..base() }),
            None,
            Some(DenyAssignment),
        ),
        (RoleAnswer::NotGranted(Refused::NoAssignment), Some(NoVmRole), Some(NoVmRole)),
        (RoleAnswer::NotGranted(denied()), Some(DenyAssignment), Some(DenyAssignment)),
        (RoleAnswer::NotGranted(pim()), Some(PimNotActive), Some(PimNotActive)),
        (RoleAnswer::NotGranted(conditional()), Some(ConditionalRole), Some(ConditionalRole)),
        (RoleAnswer::Unknown(upstream()), Some(UpstreamUnknown), Some(UpstreamUnknown)),
        (RoleAnswer::Unknown(UnknownCause::Throttled { retry_after: 9 }), Some(Throttled), Some(Throttled)),
        (RoleAnswer::Unknown(UnknownCause::ScopeUnknown), Some(ScopeUnknown), Some(ScopeUnknown)),
        (RoleAnswer::Unknown(UnknownCause::NodeNotPermitted), Some(NodeNotPermitted), Some(NodeNotPermitted)),
    ];
    for (roles, ssh, sudo) in table {
        for (service, want) in
            [(Service::Ssh, ssh), (Service::Other, ssh), (Service::Live, ssh), (Service::Sudo, sudo)]
        {
            let got = with(|c| {
                c.0.service = service;
                c.1.roles = roles.clone();
            });
            assert_eq!(got, want, "{service:?} {roles:?}");
        }
    }
}

#[test]
fn an_unknown_is_refused_and_is_no_denial() {
    let mut case = good();
    case.1.roles = RoleAnswer::Unknown(UnknownCause::NodeNotPermitted);
    let Verdict::Denial(denial) = ask(&case).verdict else { panic!("refused") };
    assert_eq!(denial.answer(), Answer::Unknown);
    case.1.roles = RoleAnswer::NotGranted(Refused::NoAssignment);
    let Verdict::Denial(denial) = ask(&case).verdict else { panic!("refused") };
    assert_eq!(denial.answer(), Answer::Denial);
}

#[test]
fn the_permit_ends_with_the_first_of_its_caps() {
    let until = |pim: Option<i64>, session: Option<u32>| {
        let mut case = good();
        case.1.roles = RoleAnswer::Granted(Grant { until: pim.map(|s| NOW.plus(s)), ..grant(Role::User) });
        case.2.max_session = session.and_then(NonZeroU32::new);
        let Verdict::Permit(permit) = ask(&case).verdict else { panic!("a permit") };
        assert_eq!(permit.admin_until(), None);
        permit.until().since(NOW)
    };
    assert_eq!(until(None, None), 3_600);
    assert_eq!(until(Some(60), None), 60);
    assert_eq!(until(Some(60), Some(30)), 30);
    assert_eq!(until(Some(60), Some(90)), 60);
    assert_eq!(until(Some(9_999), Some(9_999)), 3_600);
}

#[test]
fn an_admin_right_that_ran_out_leaves_a_user() {
    let mut case = good();
    case.1.roles = RoleAnswer::Granted(Grant { admin_until: Some(NOW), ..grant(Role::Admin) });
    let Verdict::Permit(permit) = ask(&case).verdict else { panic!("a permit") };
    assert_eq!((permit.role(), permit.admin(), permit.admin_until()), (Role::User, false, None));
    case.1.roles = RoleAnswer::Granted(Grant { admin_until: Some(NOW.plus(9)), ..grant(Role::Admin) });
    let Verdict::Permit(permit) = ask(&case).verdict else { panic!("a permit") };
    assert_eq!((permit.until(), permit.admin_until()), (NOW.plus(3_600), Some(NOW.plus(9))));
}

#[test]
fn a_credential_without_an_end_is_refused() {
    assert_eq!(with(|c| c.1.credential_end = None), Some(Reason::CertLifetime));
    assert_eq!(with(|c| c.1.credential_end = Some(NOW)), Some(Reason::CertExpired));
    assert_eq!(with(|c| c.1.credential_end = Some(NOW.plus(1))), None);
}

/// Past bug: a properly signed credential of another tenant.
#[test]
fn tenant_confusion() {
    assert_eq!(with(|c| c.1.tenant = Some(tenant(2))), Some(Reason::TenantMismatch));
    assert_eq!(with(|c| c.1.identity = Some((tenant(2), alice()))), Some(Reason::TenantMismatch));
    let foreign = |c: &mut Case| (c.1.tenant, c.1.identity) = (None, Some((tenant(2), alice())));
    assert_eq!(with(foreign), Some(Reason::TenantMismatch));
    // One source is enough; none is no identity.
    assert_eq!(with(|c| c.1.tenant = None), None);
    assert_eq!(with(|c| (c.1.tenant, c.1.identity) = (None, None)), Some(Reason::IdentityUnknown));
}

#[test]
fn domains_are_whole_names() {
    let named = |name: &str| with(|c| c.0.name = LoginName::parse(name).unwrap());
    assert_eq!(named("alice@fabrikam.com"), None);
    for name in
        ["alice@evil.com", "alice@contoso.com.evil.com", "alice@notcontoso.com", "alice@sub.contoso.com"]
    {
        assert_eq!(named(name), Some(Reason::DomainNotAllowed), "{name}");
    }
    let anywhere = |c: &mut Case| {
        c.0.name = LoginName::parse("alice@evil.com").unwrap();
        c.2.domains.clear();
    };
    assert_eq!(with(anywhere), None);
    // An application has no domain; its role decides.
    assert_eq!(named("a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1"), None);
}

#[test]
fn guests() {
    let ask = |allowed: bool, guest: Option<bool>, domains: &[&str], name: &str| {
        with(|c| {
            c.0.name = LoginName::parse(name).unwrap();
            c.1.guest = guest;
            c.2.guests = allowed;
            c.2.domains = texts(domains);
        })
    };
    let name = "alice@contoso.com";
    for guest in [None, Some(false), Some(true)] {
        assert_eq!(ask(true, guest, &[], name), None);
    }
    assert_eq!(ask(false, Some(true), &["contoso.com"], name), Some(Reason::NameNotAllowed));
    assert_eq!(ask(false, Some(false), &[], name), None);
    // Nobody says: a listed domain is evidence, none is not.
    assert_eq!(ask(false, None, &["contoso.com"], name), None);
    assert_eq!(ask(false, None, &[], name), Some(Reason::IdentityUnknown));
    assert_eq!(ask(false, None, &[], "a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1"), None);
}

/// Held, name's own, bound: which uid is right.
#[test]
fn truth_table_of_uids() {
    use Reason::{Renamed, UidChanged};
    for (held, expected, bound, want) in [
        // First login.
        (Some(7), 7, None, None),
        (Some(8), 7, None, Some(UidChanged)),
        (None, 7, None, Some(UidChanged)),
        // Known person, same name.
        (Some(7), 7, Some(7), None),
        (Some(8), 7, Some(7), Some(UidChanged)),
        (None, 7, Some(7), Some(UidChanged)),
        // Known person under a new name: refused once, until the name's record carries the old uid.
        (Some(7), 7, Some(9), Some(Renamed)),
        (Some(9), 7, Some(9), None),
        (Some(8), 7, Some(9), Some(Renamed)),
        (None, 7, Some(9), Some(Renamed)),
    ] {
        let got =
            with(|c| c.1.uid = UidFact { held, expected, bound_uid: bound, owner: None, name_owner: None });
        assert_eq!(got, want, "{held:?} {expected} {bound:?}");
    }
}

/// Past bug: a leaver's user name given to a joiner opened the leaver's account.
#[test]
fn name_reuse() {
    let reused = |c: &mut Case| {
        c.1.uid = UidFact {
            held: Some(7),
            expected: 7,
            owner: Some(bob()),
            bound_uid: None,
            name_owner: Some(bob()),
        };
    };
    assert_eq!(with(reused), Some(Reason::NameReused), "rather than the uid, which follows from the name");
    let own = |c: &mut Case| {
        c.1.uid = UidFact {
            held: Some(7),
            expected: 7,
            owner: Some(alice()),
            bound_uid: Some(7),
            name_owner: Some(alice()),
        };
    };
    assert_eq!(with(own), None);
}

/// Past bug: two people whose names hash to one uid shared it.
#[test]
fn uid_collision() {
    let mut bound: HashMap<u32, ObjectId> = HashMap::new();
    let mut refused = 0;
    let mut case = good();
    for n in 0_u32..100_000 {
        let name = LoginName::parse(&format!("p{n}@contoso.com")).unwrap();
        let mut id = [0x11; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let me = ObjectId(nightlatch_model::Guid::from_bytes(id));
        let uid = uid_of(case.2.tenant, &name);
        let owner = bound.get(&uid).copied();
        case.1.uid = UidFact { held: Some(uid), expected: uid, owner, bound_uid: None, name_owner: None };
        case.1.identity = Some((tenant(1), me));
        case.0.name = name;
        match reason(&ask(&case)) {
            None => assert_eq!(bound.insert(uid, me), None, "a uid was given twice"),
            Some(why) => {
                assert_eq!((why, owner.is_some()), (Reason::UidTaken, true));
                refused += 1;
                break;
            }
        }
    }
    assert!(refused > 0, "no two of the names met: the test shows nothing");
}

#[test]
fn pam_services() {
    assert_eq!(Service::from_pam("sshd"), Service::Ssh);
    assert_eq!(Service::from_pam("sudo"), Service::Sudo);
    assert_eq!(Service::from_pam("sudo-i"), Service::Sudo);
    for other in ["su", "login", "cron", "sudoers", "live", "Live", ""] {
        assert_eq!(Service::from_pam(other), Service::Other);
    }
}
