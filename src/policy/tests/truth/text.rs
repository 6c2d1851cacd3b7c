//! What a refused person reads.

use nightlatch_model::{LoginName, Role};
use nightlatch_policy::{Denial, Facts, Grant, Refused, RoleAnswer, Service, UnknownCause, Verdict, judge};

use crate::given::*;

fn denial(service: Service, change: impl FnOnce(&mut Facts)) -> Denial {
    let (mut request, mut facts, rules) = good();
    request.service = service;
    change(&mut facts);
    let Verdict::Denial(denial) = judge(&request, &facts, &rules, NOW).verdict else { panic!("refused") };
    denial
}

const NOBODY: RoleAnswer = RoleAnswer::NotGranted(Refused::NoAssignment);

#[test]
fn the_command_that_would_fix_it() {
    let ssh = denial(Service::Ssh, |f| f.roles = NOBODY);
    assert_eq!(ssh.text(), "you have no VM login role on this node");
    assert_eq!(
        ssh.hint(),
        "if it is yours in Privileged Identity Management, activate it; else: \
         az role assignment create --assignee-object-id a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1 \
         --assignee-principal-type User --role \"Virtual Machine User Login\" \
         --scope /subscriptions/S1/resourceGroups/rg"
    );
    let sudo = denial(Service::Sudo, |f| f.roles = RoleAnswer::Granted(grant(Role::User)));
    assert!(sudo.hint().contains("--role \"Virtual Machine Administrator Login\""), "{}", sudo.hint());
}

#[test]
fn an_application_is_a_service_principal() {
    let (mut request, mut facts, rules) = good();
    request.name = LoginName::parse("a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1").unwrap();
    facts.roles = NOBODY;
    let Verdict::Denial(denial) = judge(&request, &facts, &rules, NOW).verdict else { panic!("refused") };
    assert!(denial.hint().contains("--assignee-principal-type ServicePrincipal"));
}

#[test]
fn a_scope_is_one_word_of_the_shell_or_left_out() {
    let hint = |text: Option<&str>| {
        denial(Service::Ssh, |f| {
            f.roles = NOBODY;
            f.scope = text.map(scope);
        })
        .hint()
        .to_owned()
    };
    assert!(hint(None).ends_with("--scope SCOPE"));
    assert!(
        hint(Some("/subscriptions/S1/resourceGroups/r(1)"))
            .ends_with("--scope '/subscriptions/S1/resourceGroups/r(1)'")
    );
    assert!(hint(Some("/subscriptions/S1/resourceGroups/größe")).ends_with("--scope SCOPE"));
}

#[test]
fn times_that_help_are_told() {
    let text = |roles: RoleAnswer| denial(Service::Sudo, |f| f.roles = roles).text().to_owned();
    let opens = Refused::PimNotActive { opens: Some(NOW.plus(5)), ended: Some(NOW.plus(-9)) };
    let told = "your VM login role is not active now; it becomes active at 2026-11-21T22:30:10Z";
    assert_eq!(text(RoleAnswer::NotGranted(opens.clone())), told);
    assert_eq!(text(RoleAnswer::Granted(Grant { admin_refused: Some(opens), ..grant(Role::User) })), told);
    let ended = Refused::PimNotActive { opens: None, ended: Some(NOW.plus(-5)) };
    assert!(text(RoleAnswer::NotGranted(ended)).ends_with("; it ended at 2026-11-21T22:30:00Z"));
    let wait = RoleAnswer::Unknown(UnknownCause::Throttled { retry_after: 17 });
    assert!(text(wait).ends_with("; Azure asks to wait 17 seconds"));
}

/// The terminal shows no id of a deny assignment, no upstream text and no byte that a terminal obeys.
#[test]
fn nothing_of_the_upstream_reaches_the_terminal() {
    let evil = "\u{1b}]0;x\u{7}\r\nroot ".to_owned();
    for roles in [
        RoleAnswer::Unknown(UnknownCause::Upstream(evil.clone())),
        RoleAnswer::NotGranted(Refused::DenyAssignment { id: evil.clone() }),
        RoleAnswer::NotGranted(Refused::Conditional { assignment: evil.clone() }),
    ] {
        let denial = denial(Service::Ssh, |f| f.roles = roles);
        for shown in [denial.text(), denial.hint()] {
            assert!(shown.bytes().all(|b| (0x20..0x7f).contains(&b)) && !shown.contains("root"), "{shown:?}");
        }
    }
}
