//! Access rules through the gate: what a login rests on is kept while its session lives, and nothing else is touched.

use nightlatch_rules::compile;

use super::*;
use crate::access::{InForce, NodeZones};

const ALICE: &str = "alice@contoso.com";
const BOB: &str = "bob@contoso.com";
const REST: &str = "[[rule]]\nname = \"rest\"\neffect = \"permit\"\nwho = { anyone = true }\n";

impl Rig {
    /// Puts rules in force: one with this body, then one for everybody else.
    fn rules(&self, body: &str) {
        let first =
            if body.is_empty() { String::new() } else { format!("[[rule]]\nname = \"first\"\n{body}\n") };
        let text = format!("{first}{REST}");
        let compiled = compile(&[("rules.toml".to_owned(), text)], &NodeZones).unwrap();
        self.gate.with_facts(|facts| facts.access = Arc::new(InForce::new(compiled.policy)));
    }

    fn line(&self, name: &str, who: u8) -> String {
        match self.offer(name, who, self.uid(name), &[MONITOR]) {
            Message::Line(line) => line,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_longest_session_is_told_to_sessiond_and_over_with_its_own_reason() {
    let rig = rig();
    rig.role(1, Role::User);
    rig.rules("effect = \"permit\"\nwho = { role = \"user\" }\nmax_session = \"10min\"");
    assert_eq!(rig.login(ALICE, 1), "permit");
    let row = rig.session(1);
    assert_eq!(row.until, NOW.0 + 600);
    rig.hands.advance(599);
    assert_eq!(rig.judge(&row), "stays");
    rig.hands.advance(1);
    assert_eq!(rig.judge(&row), "session_over alone");
    // Longer rules lengthen nothing that has begun.
    rig.rules("");
    assert_eq!(rig.judge(&row), "session_over alone");
    assert_eq!(rig.login(ALICE, 1), "permit");
}

#[test]
fn a_session_goes_on_by_what_it_began_with_and_sudo_is_asked_by_the_clock() {
    let rig = rig();
    rig.role(1, Role::Admin);
    // The certificate is five minutes old at the login.
    rig.rules("effect = \"step-up\"\nwho = { role = \"admin\" }\nrequire = { max_age = \"10min\" }");
    assert_eq!(rig.login(ALICE, 1), "permit");
    let row = rig.session(1);
    assert_eq!(rig.sudo(ALICE), "step_up", "from no session that anybody knows");
    rig.table.rows.lock().unwrap().push(row.clone());
    assert_eq!(rig.sudo(ALICE), "permit");
    rig.hands.advance(2_000);
    assert_eq!(rig.judge(&row), "stays");
    assert_eq!(rig.sudo(ALICE), "step_up");
    assert_eq!(rig.login(ALICE, 1), "step_up");
    // What nobody remembers is missing.
    let forgotten = SignIns::open(rig.folder.path().join("other.json")).unwrap();
    *rig.gate.sign_ins.lock().unwrap() = forgotten;
    assert_eq!(rig.judge(&row), "step_up alone");
}

/// A session whose certificate showed less gains nothing by another one of the same person.
#[test]
fn sudo_is_judged_by_the_session_that_runs_it() {
    let rig = rig();
    rig.role(1, Role::Admin);
    rig.rules(
        "effect = \"deny\"\nwho = { anyone = true }\nservice = [\"sudo\"]\nnetwork = [\"198.51.100.0/24\"]",
    );
    assert_eq!(rig.login(ALICE, 1), "permit");
    let office = rig.session(1);
    rig.table.rows.lock().unwrap().push(Row { rhost: "198.51.100.7".into(), ..office.clone() });
    assert_eq!(rig.sudo(ALICE), "policy_denied");
    *rig.table.rows.lock().unwrap() = vec![office.clone()];
    assert_eq!(rig.sudo(ALICE), "permit");
    // A session of somebody else that has this number tells nothing.
    *rig.table.rows.lock().unwrap() = vec![Row { uid: office.uid + 1, ..office }];
    assert_eq!(rig.sudo(ALICE), "evidence_missing");
}

/// What a rule limits is the login: neither sudo nor a rule's hours may lock the account of a session that may go on.
#[test]
fn a_limit_of_a_rule_leaves_the_account_open_for_what_lives() {
    let rig = rig();
    rig.role(1, Role::Admin);
    let open = |rig: &Rig| rig.snapshot().accounts.iter().find_map(|one| one.unlocked_until).unwrap();
    rig.rules("effect = \"permit\"\nwho = { anyone = true }\nwhen = { from = \"07:00\", to = \"08:10\" }");
    assert_eq!(rig.login(ALICE, 1), "permit");
    assert_eq!(open(&rig), NOW.plus(3_300));
    rig.table.rows.lock().unwrap().push(rig.session(1));
    assert_eq!(rig.sudo(ALICE), "permit");
    rig.rules("effect = \"permit\"\nwho = { anyone = true }\nmax_session = \"1min\"");
    assert_eq!(rig.sudo(ALICE), "permit");
    assert_eq!(rig.login(ALICE, 1), "permit");
    assert_eq!(open(&rig), NOW.plus(3_300));
}

/// A rule that gives less grace refuses its own login while Azure is silent; the person's other session stays.
#[test]
fn less_grace_by_a_rule_ends_one_session_and_not_the_person() {
    let rig = rig();
    rig.role(1, Role::User);
    rig.rules("effect = \"permit\"\nwho = { anyone = true }\nnetwork = [\"198.51.100.0/24\"]\ngrace = \"0\"");
    assert_eq!(rig.login(ALICE, 1), "permit");
    let here = rig.session(1);
    let there = Row { rhost: "198.51.100.7".into(), ..here.clone() };
    rig.answer(1, RoleAnswer::Unknown(UnknownCause::Upstream("down".into())));
    rig.hands.advance(60);
    assert_eq!(rig.judge(&there), "upstream_unknown alone");
    assert_eq!(rig.judge(&here), "stays degraded");
}

#[test]
fn a_rule_ends_the_session_that_it_is_about_and_nothing_else_of_the_person() {
    let rig = rig();
    rig.role(1, Role::User);
    rig.role(2, Role::User);
    rig.rules("");
    assert_eq!(rig.login(ALICE, 1), "permit");
    let here = rig.session(1);
    let elsewhere = Row { id: 2, rhost: "198.51.100.1".into(), ..here.clone() };
    assert_eq!(rig.login(BOB, 2), "permit");
    let other = rig.session(3);
    rig.rules("effect = \"deny\"\nwho = { users = [\"00000000-0000-4000-8000-000000000001\"] }\nnetwork = [\"192.0.2.0/24\"]");
    assert_eq!(rig.judge(&here), "policy_denied alone");
    assert_eq!(rig.judge(&elsewhere), "stays");
    assert_eq!(rig.judge(&other), "stays");
    // A refused login takes neither the open account nor the kept yes.
    let before = rig.ledger();
    assert_eq!(rig.login(ALICE, 1), "policy_denied");
    assert_eq!(rig.ledger(), before);
    assert!(
        rig.snapshot().accounts.iter().any(|one| one.name.as_str() == ALICE && one.unlocked_until.is_some())
    );
}

#[test]
fn a_window_that_closes_ends_the_permit_and_a_later_rule_may_go_on_with_it() {
    let rig = rig();
    rig.role(1, Role::User);
    // NOW is 08:00:00 UTC on a Friday.
    assert_eq!(NOW.civil(), (2027, 1, 15, 8, 0, 0));
    let office = "effect = \"permit\"\nwho = { role = \"user\" }\nwhen = { days = [\"fri\"], from = \"07:00\", to = \"08:10\" }";
    let text = format!("[[rule]]\nname = \"office\"\n{office}\n");
    let compiled = compile(&[("rules.toml".to_owned(), text)], &NodeZones).unwrap();
    rig.gate.with_facts(|facts| facts.access = Arc::new(InForce::new(compiled.policy)));
    assert_eq!(rig.login(ALICE, 1), "permit");
    let row = rig.session(1);
    // sessiond is told the certificate's end: another rule could go on with the session.
    assert_eq!(row.until, NOW.0 + 3_300);
    rig.hands.advance(600);
    assert_eq!(rig.judge(&row), "policy_no_rule alone");
    rig.rules(office);
    assert_eq!(rig.judge(&row), "stays");
}

#[test]
fn sshd_is_told_of_forwardings_only_as_far_as_the_rules_allow() {
    let rig = rig_forwarding();
    rig.role(1, Role::User);
    rig.rules("");
    assert!(rig.line(ALICE, 1).starts_with("restrict,pty,port-forwarding,cert-authority"));
    for narrow in [
        "effect = \"permit\"\nwho = { anyone = true }\nforward = []",
        // The role and the address are not known yet: it could be this rule.
        "effect = \"permit\"\nwho = { role = \"admin\" }\nforward = []",
        "effect = \"permit\"\nwho = { anyone = true }\nnetwork = [\"198.51.100.0/24\"]\nforward = [\"agent\"]",
    ] {
        rig.rules(narrow);
        assert!(rig.line(ALICE, 1).starts_with("restrict,pty,cert-authority"), "{narrow}");
        assert_eq!(word(rig.account(ALICE, "sshd", &[MONITOR])), "permit");
    }
    rig.rules(
        "effect = \"permit\"\nwho = { users = [\"00000000-0000-4000-8000-000000000002\"] }\nforward = []",
    );
    assert!(rig.line(ALICE, 1).contains("port-forwarding"));
    // Between the hook and the decision the rules are exchanged: sshd was told too much.
    rig.rules("effect = \"permit\"\nwho = { anyone = true }\nforward = []");
    assert_eq!(word(rig.account(ALICE, "sshd", &[MONITOR])), "policy_changed");
    assert_eq!(rig.login(ALICE, 1), "permit");
}

#[test]
fn what_the_rules_were_asked_with_is_in_the_record_and_can_be_tried_again() {
    let rig = rig();
    rig.role(1, Role::Admin);
    rig.rules("");
    assert_eq!(rig.login(ALICE, 1), "permit");
    assert_eq!(rig.login("carol@contoso.com", 3), "no_vm_role");
    // Two decisions, and the connection's first admission.
    rig.records(3);
    let strict = "[[rule]]\nname = \"strict\"\neffect = \"deny\"\nwho = { role = \"admin\" }\nnetwork = [\"192.0.2.7\"]\n";
    let files = |text: &str| vec![crate::agent::admin::v1::RulesFile { name: "x".into(), text: text.into() }];
    let reply = rig.gate.replay(Timestamp(0), files(&format!("{strict}{REST}")));
    assert_eq!((reply.looked_at, reply.refused, reply.permitted, reply.rows.len()), (2, 1, 0, 1));
    let row = &reply.rows[0];
    assert_eq!(
        (row.user.as_str(), row.was.as_str(), row.now.as_str(), row.rule.as_str()),
        (ALICE, "permit", "policy_denied", "strict")
    );
    assert_eq!(rig.gate.replay(Timestamp(0), files(REST)).rows.len(), 0);
    assert_eq!(rig.gate.replay(Timestamp(NOW.0 + 1), files(REST)).looked_at, 0);
    let broken = rig.gate.replay(Timestamp(0), files("[[rule]]\nname = 1\n"));
    assert!(broken.error.contains("`x`, line 2"), "{}", broken.error);
}
