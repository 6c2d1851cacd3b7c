//! Tokens on behalf of a person, for a software agent: whose they are, what they are for, and what of it is
//! recorded.

use std::time::Duration;

use nightlatch_tokens::{Ask, IdentityRef, Purpose};

use super::refusal::RefusalKind;
use super::surface_tests::{Rig, START, caller, policy};

const AGENT: &str = r#"
    [[rule]]
    name = "agent"
    who = { uid = [1000, 1001] }
    may = { identity = ["acting"], resource = ["https://vault.azure.net"], purpose = "agent" }
    [[rule]]
    name = "program"
    who = { uid = [1000] }
    may = { identity = ["acting"], resource = ["https://storage.azure.com"] }
"#;
const QUARTER: i64 = 15 * 60;

fn ask(purpose: Purpose, resource: &str) -> Ask {
    Ask { purpose, ..Ask::new(IdentityRef::name("acting").unwrap(), resource.parse().unwrap()) }
}

#[tokio::test]
async fn an_agents_token_is_its_persons_and_nobody_elses() {
    let rig = Rig::new();
    rig.broker.set_policy(policy(AGENT));
    let (anna, other) = (caller(1_000), caller(1_001));
    let agent = ask(Purpose::Agent, "https://vault.azure.net");
    let given = rig.broker.get(&anna, &agent).await.ok().unwrap();
    assert_eq!((given.key.owner, given.key.on_behalf_of.as_deref()), (Some(1_000), Some("o")));
    assert_eq!((given.key.purpose, &*given.rule), (Purpose::Agent, "agent"));
    assert_eq!(given.expires, START.plus(QUARTER));
    // The rule names the other uid as well, and nobody has signed in there.
    let refused = rig.broker.get(&other, &agent).await.err().unwrap();
    assert_eq!(
        (refused.kind, refused.word, &*refused.rule),
        (RefusalKind::SignIn, "sign_in_needed", "agent")
    );
    assert!(refused.sentence.contains("nightlatch login"), "{}", refused.sentence);
    assert_eq!(rig.source.made.load(std::sync::atomic::Ordering::SeqCst), 1, "nobody was asked for it");
    // Neither rule serves the other purpose.
    for (purpose, resource) in
        [(Purpose::Program, "https://vault.azure.net"), (Purpose::Agent, "https://storage.azure.com")]
    {
        let refused = rig.broker.get(&anna, &ask(purpose, resource)).await.err().unwrap();
        assert_eq!((refused.kind, &*refused.rule), (RefusalKind::Denied, "default"), "{purpose}");
    }
    let program =
        rig.broker.get(&anna, &ask(Purpose::Program, "https://storage.azure.com")).await.ok().unwrap();
    assert_eq!((program.key.purpose, program.key.on_behalf_of.as_deref()), (Purpose::Program, Some("o")));

    rig.broker.logout(&anna).await.unwrap();
    let refused = rig.broker.get(&anna, &agent).await.err().unwrap();
    assert_eq!(refused.kind, RefusalKind::SignIn, "what was kept went with the person");
}

#[tokio::test]
async fn the_record_says_for_whom_and_what_for_and_is_whole_at_the_end() {
    let rig = Rig::new();
    rig.broker.set_policy(policy(AGENT));
    let agent = ask(Purpose::Agent, "https://vault.azure.net");
    for _ in 0..5 {
        rig.broker.get(&caller(1_000), &agent).await.ok().unwrap();
    }
    assert!(rig.broker.audit().close_all(Duration::from_secs(20)));
    let lines: Vec<serde_json::Value> =
        rig.written().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |line: &serde_json::Value| line["count"].as_u64().unwrap();
    assert_eq!(lines.iter().map(count).collect::<Vec<_>>(), [1, 4], "{lines:?}");
    for line in &lines {
        assert_eq!((&line["purpose"], &line["on_behalf_of"]), (&"agent".into(), &"o".into()), "{line}");
    }
}
