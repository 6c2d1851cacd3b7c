//! Access rules on real logins: every keyword lets somebody in and keeps somebody out; a broken file changes nothing;
//! rules that change end the sessions that they no longer allow.

use std::time::Duration;

use nightlatch_emulator::world;
use nightlatch_model::Timestamp;
use nightlatch_openpubkey::KeyType;
use nightlatch_world::{
    OPENPUBKEY_CLIENT, Person, SshOutcome, local_user, openpubkey_person, register_openpubkey, wait_until,
};
use serde_json::{Value, json};

use crate::live::{Open, Watched};
use crate::site::SOON;
use crate::tenant::Cluster;

const ALICE: &str = world::ALICE.upn;
const ADELE: &str = world::ADELE.upn;
/// A rule for everybody whom no rule before it is about.
const REST: &str = "[[rule]]\nname = \"rest\"\neffect = \"permit\"\nwho = { anyone = true }\n";
const FOLDER: &str = "/etc/nightlatch/policy.d";

fn start() -> Cluster {
    let cluster = Cluster::start(&format!(
        "[node]\nlabels = {{ env = \"prod\", site = \"ams\" }}\n[login]\nport_forwarding = true\nrejudge = \"5s\"\n\
         [openpubkey]\nclient_ids = [\"{OPENPUBKEY_CLIENT}\"]\n"
    ));
    register_openpubkey(&cluster.tenant).unwrap();
    cluster
}

impl Cluster {
    /// Puts these rules in force, and waits until they are: `check` and `status` name the same digest.
    pub(crate) fn rules(&self, text: &str) {
        self.node.shell(&format!("install -d -m 0755 {FOLDER}")).unwrap();
        self.node.write_file(&format!("{FOLDER}/rules.toml"), text.as_bytes(), 0o644, "root:root").unwrap();
        let checked = self.node.exec(&["nightlatch", "policy", "check", "-o", "json"]).unwrap();
        let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
        let digest = checked["digest"].as_str().unwrap_or_else(|| panic!("{text}: {checked}")).to_owned();
        self.node.shell("systemctl kill --kill-whom=main -s HUP nightlatchd").unwrap();
        let in_force = || self.node.shell("nightlatch status || true").unwrap().contains(&digest);
        wait_until("the rules to be in force", SOON, in_force)
            .unwrap_or_else(|late| panic!("{late}: {text}\n{}", self.journal()));
    }

    /// Somebody with a sign-in that shows these claims.
    fn with_claims(&self, upn: &str, claims: &Value) -> Person {
        self.tenant.control("PUT", &format!("users/{upn}/claims"), claims).unwrap();
        openpubkey_person(&self.image, &self.node, upn, KeyType::Ed25519).unwrap()
    }

    fn from(&self, person: &Person, user: &str, address: &str) -> SshOutcome {
        self.node.ssh(person, user, &["true"], &["-o", &format!("BindAddress={address}")]).unwrap()
    }

    fn why(&self, name: &str) -> String {
        self.node.shell(&format!("nightlatch explain {name} --last || true")).unwrap()
    }

    #[track_caller]
    fn is_in(&self, login: &SshOutcome, name: &str, rules: &str) {
        assert!(login.is_in(), "{rules}\n{login:?}\n{}\n{}", self.why(name), self.journal());
    }

    #[track_caller]
    fn is_out(&self, login: &SshOutcome, reason: &str, rules: &str) {
        let words = format!("reason {reason}, ref ");
        assert!(
            login.status == 255 && login.stderr.contains(&words),
            "{rules}\n{login:?}\n{}",
            self.journal()
        );
    }

    fn seconds(&self) -> i64 {
        self.node.shell("date +%s").unwrap().trim().parse().unwrap()
    }
}

/// A rule that permits on this condition, and nothing else does.
fn permits(condition: &str) -> String {
    let who = if condition.contains("who =") { "" } else { "who = { anyone = true }\n" };
    format!("[[rule]]\nname = \"only\"\neffect = \"permit\"\n{who}{condition}\n")
}

/// A rule that refuses on this condition, before everybody is let in.
fn denies(condition: &str) -> String {
    format!("{}{REST}", permits(condition).replace("permit", "deny"))
}

#[test]
fn who_where_when_and_from_where_let_in_and_keep_out() {
    let cluster = start();
    let (alice, adele) = (cluster.person(ALICE), cluster.person(ADELE));
    let login = |person: &Person, name: &str| cluster.ssh(person, name, &["true"]);

    // The role that a person has, and nobody else's.
    for (rules, reason) in [
        (permits("who = { role = \"admin\" }"), "policy_no_rule"),
        (denies("who = { role = \"user\" }"), "policy_denied"),
        (permits(&format!("who = {{ users = [\"{}\"] }}", world::ADELE.oid)), "policy_no_rule"),
        (denies(&format!("who = {{ users = [\"{}\"] }}", world::ALICE.oid)), "policy_denied"),
    ] {
        cluster.rules(&rules);
        cluster.is_in(&login(&adele, ADELE), ADELE, &rules);
        cluster.is_out(&login(&alice, ALICE), reason, &rules);
    }
    // The refusal names the rule, and so does what the administrator reads.
    let refused = login(&alice, ALICE);
    assert!(refused.stderr.contains("rule `only`"), "{refused:?}");
    assert!(cluster.why(ALICE).contains("only refuses"), "{}", cluster.why(ALICE));

    // A label that is spelled wrong names no node: a rule that denies would keep nobody out.
    let misspelt = "where = { labels = { evn = \"prod\" } }";
    cluster.rules(&denies(misspelt));
    cluster.is_in(&login(&alice, ALICE), ALICE, misspelt);
    let checked = cluster.node.shell("nightlatch policy check").unwrap();
    assert!(checked.contains("this node has no label `evn`") && checked.contains("1 warning"), "{checked}");
    let journal = cluster.journal();
    assert!(journal.contains("this node has no label `evn`"), "{journal}");

    // The node: its labels and its resource id.
    let segments: Vec<&str> = world::NODE.split('/').collect();
    let group = format!("/subscriptions/*/RESOURCEGROUPS/{}*", &segments[4][..4]);
    for (here, elsewhere) in [
        ("labels = { env = \"prod\" }".to_owned(), "labels = { env = \"dev\" }".to_owned()),
        (
            "labels = { env = \"prod\", site = \"ams\" }".to_owned(),
            "labels = { env = \"prod\", site = \"fra\" }".to_owned(),
        ),
        (
            format!("resource = [\"{group}\"]"),
            "resource = [\"/subscriptions/*/resourceGroups/other\"]".to_owned(),
        ),
    ] {
        let at = |place: &str| format!("where = {{ {place} }}");
        cluster.rules(&permits(&at(&here)));
        cluster.is_in(&login(&alice, ALICE), ALICE, &here);
        cluster.rules(&permits(&at(&elsewhere)));
        cluster.is_out(&login(&alice, ALICE), "policy_no_rule", &elsewhere);
        cluster.rules(&denies(&at(&here)));
        cluster.is_out(&login(&alice, ALICE), "policy_denied", &here);
    }

    // The time, in a zone that is not the node's: from an hour ago to an hour from now, and never now.
    let clock = |shift: i64| {
        cluster.node.shell(&format!("TZ=Asia/Kolkata date -d '{shift} minutes' +%H:%M")).unwrap()
    };
    let window = |from: i64, to: i64| {
        format!(
            "when = {{ from = \"{}\", to = \"{}\", zone = \"Asia/Kolkata\" }}",
            clock(from).trim(),
            clock(to).trim()
        )
    };
    let (open, shut) = (window(-60, 60), window(60, 120));
    cluster.rules(&permits(&open));
    cluster.is_in(&login(&alice, ALICE), ALICE, &open);
    cluster.rules(&permits(&shut));
    cluster.is_out(&login(&alice, ALICE), "policy_no_rule", &shut);
    cluster.rules(&denies(&open));
    cluster.is_out(&login(&alice, ALICE), "policy_denied", &open);

    // The client's address.
    let office = permits("network = [\"127.0.0.2/32\", \"2001:db8::/32\"]");
    cluster.rules(&office);
    cluster.is_in(&cluster.from(&alice, ALICE, "127.0.0.2"), ALICE, &office);
    cluster.is_out(&cluster.from(&alice, ALICE, "127.0.0.3"), "policy_no_rule", &office);
    let not_there = denies("network = [\"127.0.0.2/31\"]");
    cluster.rules(&not_there);
    cluster.is_out(&cluster.from(&alice, ALICE, "127.0.0.3"), "policy_denied", &not_there);
    cluster.is_in(&cluster.from(&alice, ALICE, "127.0.0.4"), ALICE, &not_there);
    // The administrator can ask beforehand; without an address it is that of the last login.
    for (from, word) in
        [("--from 127.0.0.3", "policy_denied"), ("--from ::ffff:127.0.0.4", "permit"), ("", "permit")]
    {
        let said = cluster.node.shell(&format!("nightlatch explain {ALICE} {from} || true")).unwrap();
        assert!(
            said.lines().any(|line| line.starts_with(word) || line.contains(&format!(": {word}: "))),
            "{from}: {said}"
        );
    }

    // The door: who may log in need not be able to run sudo.
    let sudo = |person: &Person| cluster.ssh(person, ADELE, &["sudo -n true"]);
    let both = permits("service = [\"login\", \"sudo\"]");
    cluster.rules(&both);
    cluster.is_in(&sudo(&adele), ADELE, &both);
    let shell_only = permits("service = [\"login\"]");
    cluster.rules(&shell_only);
    cluster.is_in(&login(&adele, ADELE), ADELE, &shell_only);
    let refused = sudo(&adele);
    assert!(refused.status == 1 && refused.stdout.contains("policy_no_rule"), "{refused:?}");

    // What the week's logins would have been under other rules, before these are rolled out.
    let file = "/root/next.toml";
    let next = denies("network = [\"127.0.0.2/32\"]");
    cluster.node.write_file(file, next.as_bytes(), 0o644, "root:root").unwrap();
    let replayed = cluster.node.exec(&["nightlatch", "policy", "replay", "--since", "1h", file]).unwrap();
    let table = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert_eq!(replayed.status.code(), Some(1), "{replayed:?}");
    let row = |words: &[&str]| table.lines().any(|line| words.iter().all(|word| line.contains(word)));
    // Refused from .3 then, permitted from there now; permitted from .2 then, refused now.
    assert!(row(&[ALICE, "127.0.0.3", "policy_no_rule", "permit", "rest"]), "{table}");
    assert!(row(&[ALICE, "127.0.0.2", "permit", "policy_denied", "only"]), "{table}");
    assert!(row(&[ADELE, "sudo", "policy_no_rule", "permit"]), "{table}");
    assert!(table.contains(" decisions since "), "{table}");
    assert!(!row(&["127.0.0.4"]), "the same then and now: {table}");
    let broken =
        cluster.node.exec(&["sh", "-c", "echo 'x = 1' >/root/x.toml; nightlatch policy replay /root/x.toml"]);
    let broken = broken.unwrap();
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
}

#[test]
fn proofs_and_evidence_let_in_and_keep_out() {
    let cluster = start();
    let entra = cluster.person(ALICE);
    let login = |person: &Person, name: &str| cluster.ssh(person, name, &["true"]);
    let now = cluster.seconds();
    let device = "de71ce00-0000-4000-8000-000000000001";
    let claims = |amr: &[&str], acrs: &[&str], device: Option<&str>, age: i64| json!({"amr": amr, "acrs": acrs, "deviceid": device, "auth_time": now - age});
    let bare = claims(&["pwd"], &[], None, 7_200);
    let plain = cluster.with_claims(ALICE, &bare);

    // The kind of proof.
    let only = permits("proof = [\"openpubkey\"]");
    cluster.rules(&only);
    cluster.is_in(&login(&plain, ALICE), ALICE, &only);
    cluster.is_out(&login(&entra, ALICE), "policy_no_rule", &only);
    let only = permits("proof = [\"entra\"]");
    cluster.rules(&only);
    cluster.is_in(&login(&entra, ALICE), ALICE, &only);
    cluster.is_out(&login(&plain, ALICE), "policy_no_rule", &only);

    // What the sign-in shows: who has it gets in by a permit and by a step-up rule; who has not is told what is missing,
    // and the step-up rule says so even where another rule would have let them in.
    for (require, shows, word) in [
        ("amr = [\"mfa\"]", claims(&["pwd", "mfa"], &[], None, 7_200), "a sign-in with `mfa`"),
        ("acrs = [\"c1\"]", claims(&["pwd"], &["c1", "c2"], None, 7_200), "the authentication context `c1`"),
        ("device = true", claims(&["pwd"], &[], Some(device), 7_200), "a registered device"),
        ("max_auth_age = \"1h\"", claims(&["pwd"], &[], None, 60), "credentials given within 1 h"),
    ] {
        let strong = cluster.with_claims(ALICE, &shows);
        let demand = permits(&format!("require = {{ {require} }}"));
        cluster.rules(&demand);
        cluster.is_in(&login(&strong, ALICE), ALICE, &demand);
        for weak in [&plain, &entra] {
            let refused = login(weak, ALICE);
            cluster.is_out(&refused, "evidence_missing", &demand);
            assert!(
                refused.stderr.contains(word) && refused.stderr.contains("nightlatch cert"),
                "{refused:?}"
            );
        }
        let step_up = format!("{}{REST}", demand.replace("\"permit\"", "\"step-up\""));
        cluster.rules(&step_up);
        cluster.is_in(&login(&strong, ALICE), ALICE, &step_up);
        cluster.is_out(&login(&plain, ALICE), "step_up", &step_up);
        cluster.is_out(&login(&entra, ALICE), "step_up", &step_up);
    }

    // How long ago the certificate was issued: of either kind.
    let young = permits("require = { max_age = \"1h\" }");
    cluster.rules(&young);
    cluster.is_in(&login(&entra, ALICE), ALICE, &young);
    cluster.is_in(&login(&plain, ALICE), ALICE, &young);
    let old = Person::new(&cluster.image).unwrap();
    let order = json!({"user": ALICE, "valid_after": now - 5_400, "valid_before": now + 1_800});
    cluster.tenant.forge(&old, order).unwrap();
    cluster.is_out(&login(&old, ALICE), "evidence_missing", &young);

    // Groups and guests, which only a certificate with claims tells.
    let group = format!("groups/{}/members/{}", world::GROUP_INNER, world::ALICE.oid);
    cluster.tenant.control("PUT", &group, &json!({})).unwrap();
    let member = cluster.with_claims(ALICE, &bare);
    let team = permits(&format!("who = {{ groups = [\"{}\"] }}", world::GROUP_OUTER));
    cluster.rules(&team);
    cluster.is_in(&login(&member, ALICE), ALICE, &team);
    // A sign-in that lists no group, and a certificate that could not list any.
    for untold in [&plain, &entra] {
        cluster.is_out(&login(untold, ALICE), "evidence_missing", &team);
    }
    let not_team = denies(&format!("who = {{ groups = [\"{}\"] }}", world::GROUP_OUTER));
    cluster.rules(&not_team);
    cluster.is_out(&login(&member, ALICE), "policy_denied", &not_team);
    // Whoever cannot show not to be meant is refused as well.
    for untold in [&plain, &entra] {
        cluster.is_out(&login(untold, ALICE), "evidence_missing", &not_team);
    }

    cluster.tenant.control("PUT", &format!("users/{ALICE}"), &json!({"kind": "guest"})).unwrap();
    let guest = cluster.with_claims(ALICE, &bare);
    let members = denies("who = { guests = true }");
    cluster.rules(&members);
    cluster.is_in(&login(&plain, ALICE), ALICE, &members);
    cluster.is_out(&login(&guest, ALICE), "policy_denied", &members);
    let guests = permits("who = { guests = true }");
    cluster.rules(&guests);
    cluster.is_in(&login(&guest, ALICE), ALICE, &guests);
    cluster.is_out(&login(&plain, ALICE), "policy_no_rule", &guests);
}

#[test]
fn limits_hold_and_a_changed_rule_ends_the_session_that_it_no_longer_allows() {
    let cluster = start();
    let node = &cluster.node;
    let (alice, adele) = (cluster.person(ALICE), cluster.person(ADELE));

    // Forwarding: what the node allows, a rule can take away.
    let forwards = || {
        let through = ["-o", "ExitOnForwardFailure=yes", "-W", "127.0.0.1:22"];
        let mut command = node.ssh_command(&alice, ALICE, &through, &[]).unwrap();
        let done = command.stdin(std::process::Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&done.stdout).contains("SSH-2.0")
    };
    let with = |limit: &str| format!("{}{limit}\n", permits(""));
    cluster.rules(&with("forward = [\"port\"]"));
    assert!(forwards(), "{}", cluster.journal());
    // Without it the login is as good as before.
    let refused = || !forwards() && cluster.ssh(&alice, ALICE, &["true"]).is_in();
    cluster.rules(&with("forward = []"));
    assert!(refused());
    // A rule for somebody else does not matter; one that could turn out to be theirs does.
    let other = format!("users = [\"{}\"]", world::ADELE.oid);
    cluster.rules(&format!("{}forward = []\n{REST}", permits(&format!("who = {{ {other} }}"))));
    assert!(forwards());
    cluster.rules(&format!("{}forward = []\n{REST}", permits("who = { role = \"admin\" }")));
    assert!(refused());

    // Grace: while Azure is silent the node's hour stands, unless a rule gives none.
    cluster.rules(&with("grace = \"1h\""));
    assert!(cluster.ssh(&alice, ALICE, &["true"]).is_in());
    cluster.tenant.control("PUT", "pdp", &json!({"ttl_ms": 0})).unwrap();
    cluster.tenant.control("PUT", "faults/pdp", &json!({"kind": "status", "status": 503})).unwrap();
    node.shell("systemctl restart nightlatchd").unwrap();
    let by_grace = cluster.ssh(&alice, ALICE, &["true"]);
    cluster.is_in(&by_grace, ALICE, "grace = 1h");
    cluster.rules(&with("grace = \"0\""));
    cluster.is_out(&cluster.ssh(&alice, ALICE, &["true"]), "upstream_unknown", "grace = 0");
    cluster.tenant.control("DELETE", "faults/pdp", &json!({})).unwrap();

    // The longest session: the shortest that can be written, and the reason when it is over.
    cluster.rules(&format!("{}max_session = \"60s\"\n{REST}", permits(&format!("who = {{ {other} }}"))));
    wait_until("Azure to be asked again", SOON, || cluster.ssh(&alice, ALICE, &["true"]).is_in()).unwrap();
    let mut long = Open::start(node, &alice, ALICE, &[], &["sleep 300"]);
    let short = Open::start(node, &adele, ADELE, &[], &["sleep 300"]);
    node.wait_for_sessions(ADELE, 1);
    let (status, _) = short.end(Duration::from_secs(85));
    assert_eq!(status, 255, "{:?}", node.sessions(false));
    let over = |name: &str| -> Value {
        wait_until("the end record", SOON, || !node.sessions_of(name, true).is_empty()).unwrap();
        node.sessions_of(name, true).pop().unwrap()
    };
    let last = over(ADELE);
    assert_eq!(last["reason"], "session_over", "{last}");
    let at = |key: &str| Timestamp::from_rfc3339(last[key].as_str().unwrap()).unwrap();
    let lived = at("ended").since(at("started"));
    assert!((55..=75).contains(&lived), "{last}");
    assert!(long.lives());

    // Rules that change: who is no longer allowed goes with the reason, at once; the other stays.
    let mut stays = Open::start(node, &adele, ADELE, &[], &["sleep 300"]);
    node.wait_for_sessions(ADELE, 1);
    cluster.rules(&denies(&format!("who = {{ users = [\"{}\"] }}", world::ALICE.oid)));
    let (status, _) = long.end(SOON);
    assert_eq!(status, 255);
    let denied =
        || node.sessions_of(ALICE, true).last().is_some_and(|last| last["reason"] == "policy_denied");
    wait_until("the end record", SOON, denied).unwrap();
    assert!(stays.lives());
}

#[test]
fn a_broken_rule_never_replaces_a_good_one_and_never_starts_the_daemon() {
    let cluster = start();
    let node = &cluster.node;
    let (alice, adele) = (cluster.person(ALICE), cluster.person(ADELE));
    let local = Person::with_key(&cluster.image, "ed25519").unwrap();
    local_user(node, "lotte", &local).unwrap();
    let good = permits("who = { role = \"admin\" }");
    cluster.rules(&good);
    let status = || node.shell("nightlatch status || true").unwrap();
    let same = || {
        cluster.is_in(&cluster.ssh(&adele, ADELE, &["true"]), ADELE, "the rules of before");
        cluster.is_out(&cluster.ssh(&alice, ALICE, &["true"]), "policy_no_rule", "the rules of before");
    };
    for (broken, words) in [
        (good.replace("effect", "efect"), "line 3"),
        (good.replace("\"admin\"", "\"root\""), "line 4"),
        (good.replace("role = \"admin\"", ""), "names nobody"),
        (good.replace("permit", "deny"), "permits anybody"),
        ("# nothing".repeat(40_000), "bytes"),
        ("\u{0}".to_owned(), "line 1"),
        // Emptied by a full disk, or on the way to being written.
        (String::new(), "holds no rule"),
    ] {
        node.write_file(&format!("{FOLDER}/rules.toml"), broken.as_bytes(), 0o644, "root:root").unwrap();
        wait_until("the status to say it", SOON, || {
            let said = status();
            said.contains("what was read before stays") && said.contains(words)
        })
        .unwrap_or_else(|late| panic!("{late}: {words}: {}", status()));
        let checked = node.exec(&["nightlatch", "policy", "check"]).unwrap();
        assert!(!checked.status.success(), "{checked:?}");
        same();
    }
    // Written in place, a bit at a time, as some editors do: what stands there meanwhile is never in force.
    let slowly = "f=/etc/nightlatch/policy.d/rules.toml; : >$f; sleep 3; printf '[[rule]]\\n' >>$f; sleep 3; \
                  printf 'name = \"x\"\\neffect = \"permit\"\\nwho = { role = \"admin\" }\\n' >>$f";
    node.shell(slowly).unwrap();
    same();
    // A file that somebody else can write is as good as a broken one, and so is one that the daemon cannot read.
    node.write_file(&format!("{FOLDER}/rules.toml"), REST.as_bytes(), 0o600, "root:root").unwrap();
    wait_until("the status to say it", SOON, || status().contains("ermission denied")).unwrap();
    let checked = node.exec(&["nightlatch", "policy", "check"]).unwrap();
    let words = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.code() == Some(1) && words.contains("chmod go+r"), "{checked:?}");
    same();
    node.write_file(&format!("{FOLDER}/rules.toml"), REST.as_bytes(), 0o666, "root:root").unwrap();
    wait_until("the status to say it", SOON, || status().contains("chmod go-w")).unwrap();
    same();
    // A folder that vanishes takes no rule away, while the daemon runs and when it starts.
    node.write_file(&format!("{FOLDER}/rules.toml"), good.as_bytes(), 0o644, "root:root").unwrap();
    node.shell(&format!("mv {FOLDER} {FOLDER}.away")).unwrap();
    wait_until("the status to say it", SOON, || status().contains("the folder is gone")).unwrap();
    same();
    node.shell("systemctl restart nightlatchd || true; sleep 1").unwrap();
    assert_ne!(node.shell("systemctl is-active nightlatchd || true").unwrap().trim(), "active");
    assert!(!cluster.ssh(&alice, ALICE, &["true"]).is_in());
    node.shell(&format!(
        "mv {FOLDER}.away {FOLDER}; systemctl reset-failed nightlatchd; systemctl restart nightlatchd"
    ))
    .unwrap();
    wait_until("logins again", SOON, || cluster.ssh(&adele, ADELE, &["true"]).is_in()).unwrap();
    same();

    // At the start there is nothing from before: it does not run, says why, and nobody else notices.
    node.write_file(&format!("{FOLDER}/rules.toml"), b"[[rule]]\nname = 1\n", 0o644, "root:root").unwrap();
    node.shell("systemctl restart nightlatchd || true; sleep 1").unwrap();
    assert_ne!(node.shell("systemctl is-active nightlatchd || true").unwrap().trim(), "active");
    let journal = node.journal(&["-u", "nightlatchd", "-n", "20"]).unwrap();
    assert!(journal.contains("rules.toml`, line 2") && journal.contains("policy check"), "{journal}");
    assert!(!cluster.ssh(&adele, ADELE, &["true"]).is_in());
    let lotte = node.ssh(&local, "lotte", &["id", "-un"], &[]).unwrap();
    assert_eq!(lotte.stdout.trim(), "lotte", "{lotte:?}");

    // Checked first this time; with cases beside it.
    node.write_file(&format!("{FOLDER}/rules.toml"), good.as_bytes(), 0o644, "root:root").unwrap();
    let cases = "[[case]]\nname = \"admins\"\nrole = \"admin\"\nexpect = \"permit\"\n\
                 [[case]]\nname = \"others\"\nexpect = \"policy_no_rule\"\n";
    node.write_file(&format!("{FOLDER}/rules.test.toml"), cases.as_bytes(), 0o644, "root:root").unwrap();
    let said = node.shell("nightlatch policy check && nightlatch policy test").unwrap();
    assert!(said.contains("1 rule, 0 warnings, 2 cases") && said.contains("2 cases, 0 failed"), "{said}");
    node.shell("systemctl reset-failed nightlatchd; systemctl restart nightlatchd").unwrap();
    wait_until("logins again", SOON, || cluster.ssh(&adele, ADELE, &["true"]).is_in()).unwrap();
    same();
    // No rules are wanted: the folder is empty, and may go afterwards.
    node.shell(&format!("rm {FOLDER}/*")).unwrap();
    wait_until("the status to say it", SOON, || status().contains("the role alone decides")).unwrap();
    cluster.is_in(&cluster.ssh(&alice, ALICE, &["true"]), ALICE, "no rules");
    node.shell(&format!("rmdir {FOLDER}; systemctl restart nightlatchd")).unwrap();
    wait_until("logins again", SOON, || cluster.ssh(&alice, ALICE, &["true"]).is_in()).unwrap();
}
