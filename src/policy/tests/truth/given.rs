//! The people, roles and answers that the tests speak of.

use std::time::Duration;

use nightlatch_model::{Guid, LoginName, ObjectId, Role, TenantId, Timestamp};
use nightlatch_policy::{
    ActionSet, BootId, DenyAssignment, DenyPrincipals, Evidence, Facts, FreshYes, Grace, Grant, LoginRequest,
    Moment, Permissions, RbacFacts, Refused, RoleAnswer, RoleAssignment, RoleDefinition, Ruled, Rules, Scope,
    Service, UidFact, UnknownCause, builtin_definitions, evaluate,
};

pub(crate) const NOW: Timestamp = Timestamp(1_795_300_205);
pub(crate) const NODE: &str = "/subscriptions/S1/resourceGroups/MC_rg/providers/Microsoft.Compute/virtualMachineScaleSets/np1/virtualMachines/0";
pub(crate) const USER_LOGIN: &str = "fb879df8-f326-4884-b1cf-06f3ad86be52";
pub(crate) const ADMIN_LOGIN: &str = "1c0163c0-47e6-4577-8991-ea5c82e286e4";
pub(crate) const LOGIN: &str = "Microsoft.Compute/virtualMachines/login/action";
pub(crate) const LOGIN_AS_ADMIN: &str = "Microsoft.Compute/virtualMachines/loginAsAdmin/action";

pub(crate) fn oid(n: u8) -> ObjectId {
    ObjectId(Guid::from_bytes([n; 16]))
}

pub(crate) fn tenant(n: u8) -> TenantId {
    TenantId(Guid::from_bytes([n; 16]))
}

pub(crate) fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap()
}

pub(crate) fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

pub(crate) fn data(actions: &[&str], minus: &[&str]) -> Permissions {
    Permissions { data_actions: texts(actions), not_data_actions: texts(minus), ..Permissions::default() }
}

pub(crate) fn definition(id: &str, permissions: Vec<Permissions>) -> RoleDefinition {
    RoleDefinition { id: id.to_owned(), name: "test".to_owned(), permissions }
}

/// `definition` for alice at the subscription, always.
pub(crate) fn assignment(definition: &str) -> RoleAssignment {
    RoleAssignment {
        id: format!("a-{definition}"),
        principal: alice(),
        definition: definition.to_owned(),
        scope: scope("/subscriptions/S1"),
        condition: None,
        starts: None,
        ends: None,
    }
}

pub(crate) fn deny(permissions: Vec<Permissions>) -> DenyAssignment {
    DenyAssignment {
        id: "d".to_owned(),
        principals: DenyPrincipals::Listed(vec![alice()]),
        exclude_principals: Vec::new(),
        scope: scope("/subscriptions/S1"),
        do_not_apply_to_child_scopes: false,
        permissions,
        condition: None,
    }
}

/// Built-in roles and these assignments.
pub(crate) fn facts(assignments: Vec<RoleAssignment>) -> RbacFacts {
    RbacFacts { definitions: builtin_definitions(), assignments, denies: Vec::new() }
}

/// What alice, without groups, may be on [`NODE`] now.
pub(crate) fn ask(facts: &RbacFacts) -> RoleAnswer {
    evaluate(facts, &[alice()], &scope(NODE), &ActionSet::azure(), NOW)
}

pub(crate) fn alice() -> ObjectId {
    oid(0xa1)
}

pub(crate) fn bob() -> ObjectId {
    oid(0xb0)
}

pub(crate) fn role_of(answer: &RoleAnswer) -> Option<Role> {
    match answer {
        RoleAnswer::Granted(grant) => Some(grant.role),
        RoleAnswer::NotGranted(_) | RoleAnswer::Unknown(_) => None,
    }
}

pub(crate) fn grant(role: Role) -> Grant {
    let seen = |action: &str| Evidence { action: action.to_owned(), ..Evidence::default() };
    Grant {
        role,
        until: None,
        admin_until: None,
        evidence: seen(LOGIN),
        admin_evidence: (role == Role::Admin).then(|| seen(LOGIN_AS_ADMIN)),
        admin_refused: None,
        unknown: None,
    }
}

pub(crate) fn denied() -> Refused {
    Refused::DenyAssignment { id: "d".to_owned() }
}

pub(crate) fn upstream() -> UnknownCause {
    UnknownCause::Upstream("mute".to_owned())
}

pub(crate) const BOOT: BootId = BootId([1; 16]);
/// Since the boot, at [`now`].
pub(crate) const UP: Duration = Duration::from_secs(200_000);

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn now() -> Moment {
    Moment { wall: NOW, boot: BOOT, since_boot: UP, suspect: false }
}

/// Alice's yes, `ago` before [`now`] in the same boot.
pub(crate) fn yes(role: Role, ago: Duration) -> FreshYes {
    let wall = NOW.plus(-i64::try_from(ago.as_secs()).unwrap());
    FreshYes {
        tid: tenant(1),
        oid: alice(),
        name: LoginName::parse("alice@contoso.com").unwrap(),
        role,
        at: Moment { wall, boot: BOOT, since_boot: UP - ago, suspect: false },
        ends: None,
        admin_ends: None,
    }
}

/// [`yes`] of a role that ends, in seconds from [`NOW`].
pub(crate) fn ending(role: Role, ago: Duration, ends: Option<i64>, admin_ends: Option<i64>) -> FreshYes {
    let at = |end: Option<i64>| end.map(|end| NOW.plus(end));
    FreshYes { ends: at(ends), admin_ends: at(admin_ends), ..yes(role, ago) }
}

/// Alice, by ssh, with everything in order: an administrator until her certificate ends in an hour.
pub(crate) fn good() -> (LoginRequest, Facts, Rules) {
    let request =
        LoginRequest { service: Service::Ssh, name: LoginName::parse("alice@contoso.com").unwrap() };
    let facts = Facts {
        admitted: true,
        tenant: Some(tenant(1)),
        identity: Some((tenant(1), alice())),
        guest: None,
        credential_end: Some(NOW.plus(3_600)),
        uid: UidFact { held: Some(7), expected: 7, owner: None, bound_uid: None, name_owner: None },
        roles: RoleAnswer::Granted(grant(Role::Admin)),
        grace: Grace::default(),
        last: None,
        scope: Some(scope("/subscriptions/S1/resourceGroups/rg")),
        sign_in: None,
        from: None,
        began: None,
        told: None,
        access: Ruled::NoPolicy,
    };
    let rules = Rules {
        tenant: tenant(1),
        domains: texts(&["Contoso.com", "fabrikam.com"]),
        guests: true,
        max_session: None,
    };
    (request, facts, rules)
}
