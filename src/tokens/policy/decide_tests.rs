//! What the rules decide, case by case.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::{
    Ask, Door, IdentityInfo, IdentityKind, IdentityRef, IdentityTable, Pod, PopAsk, Process, Resource,
};

/// The names of a small node.
pub(super) struct Names;

impl NameLookup for Names {
    fn uid(&self, user: &str) -> Option<u32> {
        [("root", 0), ("anna", 1000), ("ben", 1001)].iter().find(|(name, _)| *name == user).map(|(_, id)| *id)
    }

    fn gid(&self, group: &str) -> Option<u32> {
        [("wheel", 10), ("dev", 20)].iter().find(|(name, _)| *name == group).map(|(_, id)| *id)
    }
}

pub(super) fn table() -> IdentityTable {
    let mut node = IdentityInfo::new("node", IdentityKind::Managed);
    node.client_id = Some(nightlatch_model::Guid::from_bytes([7; 16]));
    let mut spare = IdentityInfo::new("spare", IdentityKind::Federated);
    spare.client_id = node.client_id;
    IdentityTable::new(vec![node, IdentityInfo::new("backup", IdentityKind::Certificate), spare])
}

pub(super) fn policy(text: &str) -> Policy {
    Policy::compile(&[("10-test.toml".into(), text.into())], &Names, &table()).unwrap()
}

pub(super) fn resource(text: &str) -> Resource {
    text.parse().unwrap()
}

pub(super) const VAULT: &str = "https://vault.azure.net";
const ARM: &str = "https://management.azure.com";

pub(super) fn caller(uid: u32) -> Caller {
    Caller {
        uid,
        gid: Some(uid),
        groups: vec![],
        door: Door::Broker,
        place: Place::Host,
        process: Some(Process { pid: 42, start: 1, unit: None, slice: None, pod: None }),
        header_unit: None,
    }
}

fn in_unit(uid: u32, unit: &str, slice: &str) -> Caller {
    let mut caller = caller(uid);
    let process = caller.process.as_mut().unwrap();
    (process.unit, process.slice) = (Some(unit.into()), Some(slice.into()));
    caller
}

fn in_pod(uid: u32, pod: &str) -> Caller {
    let mut caller = caller(uid);
    caller.place = Place::Container;
    caller.process.as_mut().unwrap().pod = Some(Pod { uid: pod.into(), container: None });
    caller
}

fn ask(identity: IdentityRef, text: &str) -> Ask {
    Ask::new(identity, resource(text))
}

fn named(name: &str) -> IdentityRef {
    IdentityRef::name(name).unwrap()
}

/// `rule/identity` of a yes, `rule: word` of a no.
fn told(policy: &Policy, caller: &Caller, ask: &Ask) -> String {
    match policy.decide(caller, ask, &table()) {
        Decision::Permit(grant) => format!("{}/{}", grant.rule, grant.identity),
        Decision::Deny(denied) => {
            assert!(denied.sentence.contains("nightlatch token explain --resource "), "{}", denied.sentence);
            assert!(denied.sentence.starts_with("uid "), "{}", denied.sentence);
            assert!(denied.sentence.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
            format!("{}: {}", denied.rule, denied.word)
        }
    }
}

pub(super) fn default(policy: &Policy, caller: &Caller, resource: &str) -> String {
    told(policy, caller, &ask(IdentityRef::Default, resource))
}

#[test]
fn without_a_rule_the_answer_is_no() {
    let none = Policy::compile(&[], &Names, &table()).unwrap();
    assert!(none.is_empty());
    // A file without a rule is a mistake: emptied by a full disk, what it denied would be given.
    for text in ["", "# nothing\n"] {
        let refused = Policy::compile(&[("10-test.toml".into(), text.into())], &Names, &table());
        assert!(refused.is_err_and(|why| why.to_string().contains("holds no rule")));
    }
    for uid in [0, 1000, 65_534, u32::MAX - 1] {
        assert_eq!(default(&none, &caller(uid), VAULT), "default: not_allowed");
        assert_eq!(told(&none, &caller(uid), &ask(named("node"), VAULT)), "default: not_allowed");
    }
    assert_eq!(default(&none, &caller(u32::MAX), VAULT), "default: caller_unknown");
}

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = policy(
        r#"
        [[rule]]
        name = "not-ben"
        effect = "deny"
        who = { user = ["ben"] }
        may = { resource = ["https://vault.azure.net"] }
        [[rule]]
        name = "devs"
        who = { group = ["dev"] }
        may = { identity = ["backup", "node"], resource = ["https://vault.azure.net/"], max_life = "1h", rate = "60/min" }
        [[rule]]
        name = "all"
        who = { anyone = true }
        may = { identity = ["node"], resource = ["https://management.azure.com"] }
        "#,
    );
    let mut anna = caller(1000);
    anna.groups = vec![5, 20];
    let mut ben = caller(1001);
    ben.gid = Some(20);
    assert_eq!(default(&policy, &anna, VAULT), "devs/backup", "the first identity is the default one");
    assert_eq!(told(&policy, &anna, &ask(named("node"), VAULT)), "devs/node");
    assert_eq!(default(&policy, &ben, VAULT), "not-ben: not_allowed");
    assert_eq!(default(&policy, &ben, ARM), "all/node");
    assert_eq!(told(&policy, &ben, &ask(named("backup"), ARM)), "default: identity_not_allowed");
    assert_eq!(default(&policy, &ben, "https://storage.azure.com"), "default: resource_not_allowed");
    assert_eq!(default(&policy, &caller(7), VAULT), "default: resource_not_allowed");
    let Decision::Deny(denied) = policy.decide(&ben, &ask(named("backup"), ARM), &table()) else {
        panic!("allowed")
    };
    assert_eq!(
        denied.sentence,
        "uid 1001 gets no token of backup for https://management.azure.com: no rule allows it; `all` comes closest, \
         but it does not name the identity, or a rule before denies it; see: nightlatch token explain --resource \
         https://management.azure.com --identity backup"
    );
    let Decision::Permit(grant) = policy.decide(&anna, &ask(IdentityRef::Default, VAULT), &table()) else {
        panic!("refused")
    };
    assert_eq!(grant.max_life, Some(Duration::from_secs(3_600)));
    assert_eq!(grant.rate, Some(Rate { count: 60, per: Duration::from_secs(60) }));
    assert_eq!(grant.owner(&anna), None);
    assert_eq!(policy.rules_of(&ben), ["not-ben", "devs", "all"].map(Arc::from));
    assert_eq!(
        policy.grants_of(&anna),
        [
            ("backup".into(), vec![VAULT.to_owned()]),
            ("node".into(), vec![VAULT.to_owned(), ARM.to_owned()]),
            ("person".into(), vec!["*".to_owned()]),
        ]
    );
}

#[test]
fn an_identity_is_resolved_by_the_table_and_must_be_granted() {
    let policy = policy(
        r#"
        [[rule]]
        name = "a"
        effect = "deny"
        who = { uid = [1] }
        may = { identity = ["node"], resource = ["*"] }
        [[rule]]
        name = "b"
        who = { uid = [1, 2] }
        may = { identity = ["node", "spare"], resource = ["https://vault.azure.net"] }
        "#,
    );
    let by_id = ask(IdentityRef::ClientId(nightlatch_model::Guid::from_bytes([7; 16])), VAULT);
    assert_eq!(told(&policy, &caller(2), &by_id), "b/node");
    // One application, configured twice: what is denied of the one does not stand in the way of the other.
    assert_eq!(told(&policy, &caller(1), &by_id), "b/spare");
    assert_eq!(default(&policy, &caller(1), VAULT), "b/spare");
    assert_eq!(told(&policy, &caller(1), &ask(named("node"), VAULT)), "a: not_allowed");
    let other = ask(IdentityRef::ClientId(nightlatch_model::Guid::from_bytes([8; 16])), VAULT);
    assert_eq!(told(&policy, &caller(2), &other), "default: identity_not_allowed");
    // An identity that the configuration has dropped since is not handed out.
    let smaller = IdentityTable::new(vec![]);
    let answer = policy.decide(&caller(2), &ask(IdentityRef::Default, VAULT), &smaller);
    assert!(matches!(answer, Decision::Deny(denied) if denied.word == "identity_not_allowed"));
}

#[test]
fn past_bug_22_a_persons_token_is_for_the_uid_that_signed_in() {
    let policy = policy(
        r#"
        [[rule]]
        name = "no-graph"
        effect = "deny"
        who = { anyone = true }
        may = { identity = ["person"], resource = ["https://graph.microsoft.com"] }
        [[rule]]
        name = "short"
        who = { uid = [1000] }
        may = { identity = ["person"], resource = ["https://vault.azure.net"], max_life = "10m" }
        [[rule]]
        name = "wild"
        who = { anyone = true, place = "container" }
        may = { identity = ["person", "node"], resource = ["*"] }
        "#,
    );
    let person = |resource: &str| ask(IdentityRef::Person, resource);
    for (uid, resource, expected) in [
        (1000, VAULT, "short/person"),
        (1001, VAULT, "person/person"),
        (0, ARM, "person/person"),
        (1000, "https://graph.microsoft.com/", "no-graph: not_allowed"),
    ] {
        assert_eq!(told(&policy, &caller(uid), &person(resource)), expected);
        assert_eq!(told(&policy, &caller(uid), &ask(named("person"), resource)), expected);
        if let Decision::Permit(grant) = policy.decide(&caller(uid), &person(resource), &table()) {
            assert_eq!(grant.owner(&caller(uid)), Some(uid), "the owner is the caller and nobody else");
        }
    }
    // No rule reaches rule 0: not in a container, not where the place is unknown, not on loopback.
    let mut unknown = caller(1000);
    unknown.place = Place::Unknown;
    for elsewhere in [in_pod(1000, "*"), unknown] {
        assert_eq!(told(&policy, &elsewhere, &person(VAULT)), "person: caller_unknown");
    }
    assert_eq!(
        default(&policy, &in_pod(1000, "*"), VAULT),
        "wild/node",
        "the next identity, not the person's"
    );
    // Nobody is served a person's token without having asked for it or a rule that says so.
    assert_eq!(default(&policy, &caller(1001), VAULT), "default: not_allowed");
    assert_eq!(default(&policy, &caller(1000), VAULT), "short/person");
    // A software agent has rules of its own, also for the person's token.
    let mut agent = person(VAULT);
    agent.purpose = Purpose::Agent;
    assert_eq!(told(&policy, &caller(1000), &agent), "default: purpose_not_allowed");
}

#[test]
fn past_bug_22_a_pod_cannot_choose_the_person_it_acts_for() {
    let table = IdentityTable::new(vec![
        IdentityInfo::new("for-people", IdentityKind::OnBehalfOf),
        IdentityInfo::new("node", IdentityKind::Managed),
    ]);
    let rules = r#"
        [[rule]]
        name = "pods"
        who = { pod = ["*"] }
        may = { identity = ["for-people", "node"], resource = ["https://vault.azure.net"] }
        [[rule]]
        name = "people"
        who = { uid = [1000] }
        may = { identity = ["for-people"], resource = ["https://vault.azure.net"] }
    "#;
    let policy = Policy::compile(&[("pods.toml".into(), rules.into())], &Names, &table).unwrap();
    let decide = |caller: &Caller, identity| policy.decide(caller, &ask(identity, VAULT), &table);
    // Whoever writes the pod writes `runAsUser: 1000`, too, and is not the person under that uid.
    let pod = in_pod(1000, "6dae42f8-4368-4678-94ff-3960e28e3630");
    match decide(&pod, named("for-people")) {
        Decision::Deny(denied) => assert_eq!(denied.word, "caller_unknown"),
        Decision::Permit(grant) => panic!("{grant:?}"),
    }
    for (caller, identity, expected) in
        [(&pod, IdentityRef::Default, "node"), (&caller(1000), named("for-people"), "for-people")]
    {
        let Decision::Permit(grant) = decide(caller, identity) else { panic!("{expected}") };
        assert_eq!(&*grant.identity, expected);
    }
    let mut unknown = caller(1000);
    unknown.place = Place::Unknown;
    assert!(matches!(decide(&unknown, named("for-people")), Decision::Deny(_)));
}

#[test]
fn past_bug_46_root_of_a_container_is_not_root() {
    let policy = policy(
        r#"
        [[rule]]
        name = "root"
        who = { user = ["root"] }
        may = { identity = ["node"], resource = ["*"] }
        [[rule]]
        name = "host-1000"
        who = { uid = [1000] }
        may = { identity = ["node"], resource = ["*"] }
        [[rule]]
        name = "everybody"
        who = { anyone = true }
        may = { identity = ["backup"], resource = ["https://vault.azure.net"] }
        [[rule]]
        name = "pod"
        who = { pod = ["0f6d2c64-0000-4000-8000-000000000001"] }
        may = { identity = ["spare"], resource = ["https://vault.azure.net"] }
        "#,
    );
    assert_eq!(default(&policy, &caller(0), ARM), "root/node");
    let mut contained = caller(0);
    contained.place = Place::Container;
    assert_eq!(default(&policy, &contained, ARM), "default: not_allowed");
    contained.uid = 1000;
    assert_eq!(
        default(&policy, &contained, ARM),
        "default: not_allowed",
        "a container's uid 1000 is not ours"
    );
    assert_eq!(
        default(&policy, &contained, VAULT),
        "default: not_allowed",
        "anyone means anyone on the node"
    );
    assert_eq!(default(&policy, &in_pod(0, "0f6d2c64-0000-4000-8000-000000000001"), VAULT), "pod/spare");
    assert_eq!(
        default(&policy, &in_pod(0, "0f6d2c64-0000-4000-8000-000000000002"), VAULT),
        "default: not_allowed"
    );
    let mut unknown = caller(0);
    unknown.place = Place::Unknown;
    assert_eq!(default(&policy, &unknown, ARM), "default: resource_not_allowed");
    assert_eq!(default(&policy, &unknown, VAULT), "everybody/backup");
    let trace = policy.trace(&unknown, &ask(IdentityRef::Default, ARM), &table());
    assert!(trace[0].why.contains("could not be found out"), "{trace:?}");
}

#[test]
fn units_slices_and_pods_need_a_known_place() {
    let policy = policy(
        r#"
        [[rule]]
        name = "backup"
        who = { uid = [7], unit = ["backup.service", "dump@*.service"] }
        may = { identity = ["backup"], resource = ["https://vault.azure.net"] }
        [[rule]]
        name = "batch"
        who = { slice = ["batch.slice"], place = "host" }
        may = { identity = ["node"], resource = ["https://vault.azure.net"] }
        "#,
    );
    for (unit, slice, expected) in [
        ("backup.service", "system.slice", "backup/backup"),
        ("dump@mon.service", "system.slice", "backup/backup"),
        ("dump@.service", "system.slice", "backup/backup"),
        ("dump.service", "system.slice", "default: not_allowed"),
        ("dump@mon.scope", "system.slice", "default: not_allowed"),
        ("xdump@mon.service", "system.slice", "default: not_allowed"),
        ("x.service", "batch.slice", "batch/node"),
        ("x.service", "batch-night.slice", "batch/node"),
        ("x.service", "batch-night-deep.slice", "batch/node"),
        ("x.service", "batches.slice", "default: not_allowed"),
        ("x.service", "night-batch.slice", "default: not_allowed"),
        ("x.service", "-.slice", "default: not_allowed"),
    ] {
        assert_eq!(default(&policy, &in_unit(7, unit, slice), VAULT), expected, "{unit} {slice}");
        let mut unknown = in_unit(7, unit, slice);
        unknown.place = Place::Unknown;
        assert_eq!(default(&policy, &unknown, VAULT), "default: caller_unknown", "{unit} {slice}");
    }
    assert_eq!(default(&policy, &in_unit(8, "backup.service", "a.slice"), VAULT), "default: not_allowed");
    // On loopback the header stands for the unit, and it alone.
    let mut loopback = caller(7);
    (loopback.door, loopback.place, loopback.process) = (Door::Loopback, Place::Unknown, None);
    assert_eq!(default(&policy, &loopback, VAULT), "default: caller_unknown");
    loopback.header_unit = Some("backup.service".into());
    assert_eq!(default(&policy, &loopback, VAULT), "backup/backup");
    loopback.uid = 8;
    assert_eq!(default(&policy, &loopback, VAULT), "default: caller_unknown");
    let mut forged = in_unit(7, "x.service", "system.slice");
    forged.header_unit = Some("backup.service".into());
    assert_eq!(default(&policy, &forged, VAULT), "default: not_allowed", "a header counts on loopback only");
}

#[test]
fn past_bug_50_patterns_match_whole_labels_and_nothing_that_only_looks_like_it() {
    let policy = policy(
        r#"
        [[rule]]
        name = "no-secret"
        effect = "deny"
        who = { anyone = true }
        may = { resource = ["https://secret.vault.azure.net", "6dae42f8-4368-4678-94ff-3960e28e3630"] }
        [[rule]]
        name = "vaults"
        who = { uid = [1] }
        may = { identity = ["node"], resource = ["https://*.vault.azure.net", "api://app/Path"] }
        [[rule]]
        name = "all"
        who = { uid = [2] }
        may = { identity = ["node"], resource = ["*"] }
        "#,
    );
    for good in
        ["https://a.vault.azure.net", "https://A.vault.AZURE.net/", "https://a-1.vault.azure.net/.default"]
    {
        assert_eq!(default(&policy, &caller(1), good), "vaults/node", "{good}");
    }
    assert_eq!(default(&policy, &caller(1), "api://app/Path/"), "vaults/node");
    for bad in [
        "https://vault.azure.net",
        "https://avault.azure.net",
        "https://a.b.vault.azure.net",
        "https://.vault.azure.net",
        "https://a.vault.azure.net.evil.com",
        "https://a.vault.azure.net:443",
        "https://a.vault.azure.net/x",
        "https://evil.com/a.vault.azure.net",
        "https://a.vault.azure.net.",
        "http://a.vault.azure.net",
        "https://a~.vault.azure.net",
        "a.vault.azure.net",
        "api://app/path",
        "api://app/Path/more",
        "api://app",
    ] {
        assert_eq!(default(&policy, &caller(1), bad), "default: resource_not_allowed", "{bad}");
    }
    // No spelling gets past a deny.
    for denied in [
        "https://secret.vault.azure.net/",
        "HTTPS://SECRET.vault.azure.net",
        "6DAE42F8-4368-4678-94FF-3960E28E3630",
        "6dae42f8-4368-4678-94ff-3960e28e3630/.default",
    ] {
        assert_eq!(default(&policy, &caller(2), denied), "no-secret: not_allowed", "{denied}");
        assert_eq!(told(&policy, &caller(2), &ask(IdentityRef::Person, denied)), "no-secret: not_allowed");
    }
}

/// What an application gets on behalf of a person speaks for that person, so it goes where their own tokens go.
#[test]
fn what_acts_for_a_person_stays_out_of_containers() {
    let mut identities: Vec<_> = table().iter().cloned().collect();
    identities.push(IdentityInfo::new("acting", IdentityKind::OnBehalfOf));
    let identities = IdentityTable::new(identities);
    let text = r#"
        [[rule]]
        name = "everywhere"
        who = { uid = [1000], place = "container" }
        may = { identity = ["acting"], resource = ["*"] }
        [[rule]]
        name = "host"
        who = { uid = [1000] }
        may = { identity = ["acting"], resource = ["*"] }
        "#;
    let policy = Policy::compile(&[("10-test.toml".into(), text.into())], &Names, &identities).unwrap();
    let ask = ask(named("acting"), VAULT);
    let mut there = caller(1000);
    let Decision::Permit(grant) = policy.decide(&there, &ask, &identities) else { panic!("refused") };
    assert_eq!(&*grant.rule, "host");
    for place in [Place::Container, Place::Unknown] {
        there.place = place;
        assert!(matches!(policy.decide(&there, &ask, &identities), Decision::Deny(_)), "{place:?}");
    }
}

#[test]
fn extras_must_be_granted() {
    let policy = policy(
        r#"
        [[rule]]
        name = "agents"
        who = { uid = [1] }
        may = { identity = ["node"], resource = ["https://vault.azure.net"], purpose = "agent" }
        [[rule]]
        name = "no-mail"
        effect = "deny"
        who = { anyone = true }
        may = { resource = ["https://graph.microsoft.com"], scope = ["Mail.Send"] }
        [[rule]]
        name = "scoped"
        who = { uid = [1] }
        may = { identity = ["person"], resource = ["https://graph.microsoft.com"], scope = ["User.Read", "Mail.Send"] }
        [[rule]]
        name = "bound"
        who = { uid = [1] }
        may = { identity = ["node"], resource = ["https://management.azure.com"], pop = true, cae = false }
        "#,
    );
    let caller = caller(1);
    let mut agent = ask(IdentityRef::Default, VAULT);
    assert_eq!(
        told(&policy, &caller, &agent),
        "default: resource_not_allowed",
        "an agent's rule serves no program"
    );
    agent.purpose = Purpose::Agent;
    assert_eq!(told(&policy, &caller, &agent), "agents/node");
    let Decision::Permit(grant) = policy.decide(&caller, &agent, &table()) else { panic!("refused") };
    assert_eq!((grant.max_life, grant.purpose), (Some(MAX_AGENT_LIFE), Purpose::Agent));
    let mut agent = ask(IdentityRef::Default, ARM);
    agent.purpose = Purpose::Agent;
    assert_eq!(
        told(&policy, &caller, &agent),
        "default: resource_not_allowed",
        "a program's rule serves no agent"
    );

    let mut arm = ask(IdentityRef::Default, ARM);
    assert_eq!(told(&policy, &caller, &arm), "bound/node");
    arm.pop = Some(PopAsk::new("/subscriptions/s", None).unwrap());
    assert_eq!(told(&policy, &caller, &arm), "bound/node");
    arm.cae = true;
    assert_eq!(told(&policy, &caller, &arm), "default: cae_not_allowed");
    let mut graph = ask(IdentityRef::Default, "https://graph.microsoft.com");
    // `.default` would bring Mail.Send with it.
    assert_eq!(told(&policy, &caller, &graph), "no-mail: not_allowed");
    graph.scopes = vec!["user.read".into()];
    assert_eq!(told(&policy, &caller, &graph), "scoped/person");
    graph.pop = Some(PopAsk::new("/subscriptions/s", None).unwrap());
    assert_eq!(told(&policy, &caller, &graph), "default: pop_not_allowed");
    graph.pop = None;
    for bad in ["mail.send", "MAIL.SEND", ".default"] {
        graph.scopes = vec!["User.Read".into(), bad.into()];
        assert_eq!(told(&policy, &caller, &graph), "no-mail: not_allowed");
    }
    graph.scopes = vec!["User.Read".into(), "\u{1b}[2J\n\u{202e}".into()];
    assert_eq!(
        told(&policy, &caller, &graph),
        "default: scope_not_allowed",
        "and not said back to a terminal"
    );
    graph.scopes = vec!["User.Read".into(), "Files.Read".into()];
    assert_eq!(told(&policy, &caller, &graph), "default: scope_not_allowed");
}

#[test]
fn the_trace_says_of_every_rule_why() {
    let policy = policy(
        r#"
        [[rule]]
        name = "other"
        who = { uid = [5] }
        may = { identity = ["node"], resource = ["*"] }
        [[rule]]
        name = "unit"
        who = { unit = ["backup.service"] }
        may = { identity = ["node"], resource = ["*"] }
        [[rule]]
        name = "storage"
        who = { uid = [1] }
        may = { identity = ["node"], resource = ["https://storage.azure.com"] }
        [[rule]]
        name = "less"
        effect = "deny"
        who = { uid = [1] }
        may = { identity = ["node"] }
        [[rule]]
        name = "vault"
        who = { uid = [1] }
        may = { identity = ["node", "backup"], resource = ["https://vault.azure.net"] }
        [[rule]]
        name = "late"
        effect = "deny"
        who = { anyone = true }
        "#,
    );
    let trace =
        policy.trace(&in_unit(1, "x.service", "a.slice"), &ask(IdentityRef::Default, VAULT), &table());
    let lines: Vec<String> =
        trace.iter().map(|line| format!("{}: {}: {}", line.rule, line.outcome, line.why)).collect();
    assert_eq!(
        lines,
        [
            "other: no match: it does not name uid 1",
            "unit: no match: it does not name the caller's unit (x.service)",
            "storage: no match: it does not name https://vault.azure.net",
            "less: deny: denies some of its identities; others may still be had",
            "vault: permit: everything matches; the identity is `backup`",
            "late: no match: not reached: `vault` decided before",
        ]
    );
    let trace = super::Policy::compile(&[], &Names, &table()).unwrap();
    let trace = trace.trace(&caller(1), &ask(IdentityRef::Person, VAULT), &table());
    assert_eq!((&*trace[0].rule, trace[0].outcome), (PERSON_RULE, "permit"));
}
