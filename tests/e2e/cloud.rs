//! The emulated cloud behind one node: every back end gives the same answer on the same facts, what is
//! the node's own fault is never the person's denial, and nothing is asked that need not be.

use std::ops::Deref;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use nightlatch_emulator::world;
use nightlatch_world::{Person, wait_until};
use serde_json::{Value, json};

use crate::tenant::Cluster;

/// Any uid of ours: what the hook is told about the uid counts only later, in PAM.
const SOME_UID: &str = "2000000000";
/// A PIM window that is open while the story runs.
const WINDOW_S: i64 = 1_200;

/// Nodes for stories that need one for themselves, made when they are wanted. Two, as many as this
/// project's tests have cores.
pub(crate) struct Pool<T: 'static>([Mutex<Option<T>>; 2]);

/// One of them, until it is dropped.
pub(crate) struct Taken<T: 'static>(MutexGuard<'static, Option<T>>);

impl<T> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self([const { Mutex::new(None) }; 2])
    }

    /// A free one, or the first that becomes free.
    pub(crate) fn take(&'static self, make: impl FnOnce() -> T) -> Taken<T> {
        let free = self.0.iter().find_map(|slot| match slot.try_lock() {
            Ok(slot) => Some(slot),
            // A story that failed leaves a world behind, which the next one clears.
            Err(TryLockError::Poisoned(slot)) => Some(slot.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        let mut slot = free.unwrap_or_else(|| self.0[0].lock().unwrap_or_else(PoisonError::into_inner));
        slot.get_or_insert_with(make);
        Taken(slot)
    }
}

impl<T> Deref for Taken<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap()
    }
}

/// A node for stories that rewrite the configuration, with the default world and settings.
pub(crate) fn stage() -> Taken<Cluster> {
    static STAGES: Pool<Cluster> = Pool::new();
    let cluster = STAGES.take(|| Cluster::start(""));
    cluster.control("POST", "reset", &json!({}));
    cluster.without_grace();
    cluster.configure("");
    cluster
}

pub(crate) fn now() -> i64 {
    nightlatch::clock::Clock::System.now().0
}

impl Cluster {
    /// Writes the configuration and starts the daemon anew: its caches are empty then.
    pub(crate) fn configure(&self, more: &str) {
        let text = format!("mode = \"enforce\"\n{more}");
        self.node.write_file("/etc/nightlatch/nightlatch.toml", text.as_bytes(), 0o644, "root:root").unwrap();
        self.restart();
    }

    /// What an earlier yes could do for a person is not what these stories are about.
    pub(crate) fn without_grace(&self) {
        self.node.shell("install -d -m 0755 /etc/nightlatch/conf.d").unwrap();
        let text = b"[login]\ngrace_user = \"0s\"\n";
        self.node.write_file("/etc/nightlatch/conf.d/grace.toml", text, 0o644, "root:root").unwrap();
    }

    pub(crate) fn restart(&self) {
        self.node.shell("systemctl restart nightlatchd").unwrap_or_else(|why| {
            panic!("{why}\n{}", self.journal());
        });
    }

    pub(crate) fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        self.tenant.control(method, path, body).unwrap()
    }

    /// How often a service of the cloud was called since the counters were cleared.
    pub(crate) fn calls(&self, service: &str) -> u64 {
        let all = self.control("GET", "counters", &json!({}));
        all[service]["total"].as_u64().unwrap()
    }

    /// `nightlatch explain … -o json`: exit status and document.
    pub(crate) fn explain(&self, words: &[&str]) -> (i32, Value) {
        let words = [&["nightlatch", "explain"], words, &["-o", "json"]].concat();
        let done = self.node.exec(&words).unwrap();
        let document = serde_json::from_slice(&done.stdout).unwrap_or(Value::Null);
        (done.status.code().unwrap(), document)
    }

    /// What would be decided for this certificate now.
    pub(crate) fn judged(&self, person: &Person, name: &str) -> (i32, Value) {
        self.node.copy_in(&person.certificate_path(), "/root/certificate", 0o600).unwrap();
        self.explain(&[name, "--cert", "/root/certificate"])
    }

    /// What the hook prints, and how long it took, started as sshd starts it.
    pub(crate) fn hook(&self, person: &Person, name: &str) -> (String, Duration) {
        let line = std::fs::read_to_string(person.certificate_path()).unwrap();
        let (key_type, key) = line.split_once(' ').unwrap();
        let program = "/usr/libexec/nightlatch/authorized-keys";
        // bash's clock, so that entering the node does not count.
        let script = "from=${EPOCHREALTIME/./}; \"$@\"; echo $((${EPOCHREALTIME/./} - from))";
        let words = ["bash", "-c", script, "hook", program, name, SOME_UID, key_type, key];
        let done = self.node.exec_as("nightlatch-hook", &words).unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        let (line, micros) = said.trim_end().rsplit_once('\n').unwrap_or_else(|| ("", said.trim_end()));
        (line.to_owned(), Duration::from_micros(micros.parse().unwrap()))
    }

    /// A login that is let in, whatever was kept from before.
    pub(crate) fn soon_in(&self, person: &Person, name: &str, within: Duration) {
        wait_until("the login to work again", within, || self.ssh(person, name, &["true"]).is_in())
            .unwrap_or_else(|why| {
                let last = self.explain(&[name, "--last"]).1;
                panic!("{name}: {why}\n{}\n{}", step(&last, "role")["input"], self.journal());
            });
    }
}

/// What should become of somebody: a role, or the reason of the refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    User,
    Admin,
    No(&'static str),
}

struct Row {
    /// The login name.
    name: &'static str,
    /// How the directory spells it.
    upn: &'static str,
    checked: Answer,
    /// Listing sees the assignments themselves, so it can say more about a no.
    listed: Answer,
}

const fn row(name: &'static str, upn: &'static str, answer: Answer) -> Row {
    Row { name, upn, checked: answer, listed: answer }
}

/// Everybody in the default world.
const PEOPLE: [Row; 12] = [
    row("alice@contoso.com", world::ALICE.upn, Answer::User),
    row("adele@contoso.com", world::ADELE.upn, Answer::Admin),
    row("norman@contoso.com", world::NORMAN.upn, Answer::No("no_vm_role")),
    row("dora@contoso.com", world::DORA.upn, Answer::No("deny_assignment")),
    // A window of yesterday is in no answer and in no list any more.
    row("petra@contoso.com", world::PETRA.upn, Answer::No("no_vm_role")),
    row("olga@contoso.com", world::OLGA.upn, Answer::No("no_vm_role")),
    row("mixed.case@contoso.com", world::MIXED_CASE.upn, Answer::User),
    row("grace@contoso.com", world::GRACE.upn, Answer::User),
    row("clara@contoso.com", world::CLARA.upn, Answer::User),
    row(world::BOB_MAIL, world::BOB.upn, Answer::User),
    row(world::CI_PIPELINE.oid, "", Answer::User),
    // CheckAccess says no more than "not allowed"; the list shows that a condition stands in the way.
    Row {
        name: "conrad@contoso.com",
        upn: world::CONRAD.upn,
        checked: Answer::No("no_vm_role"),
        listed: Answer::No("conditional_role"),
    },
];

fn sign_in(cluster: &Cluster, row: &Row) -> Person {
    let person = Person::new(&cluster.image).unwrap();
    if row.upn.is_empty() {
        cluster.tenant.sign_in_app(&person, world::CI_PIPELINE_APP, world::CI_PIPELINE_SECRET).unwrap();
    } else {
        cluster.tenant.sign_in(&person, row.upn).unwrap();
    }
    person
}

/// What becomes of a real login, and of sudo in it.
fn answer(cluster: &Cluster, person: &Person, name: &str) -> Result<Answer, String> {
    let login = cluster.ssh(person, name, &["sudo -n id -u || echo user"]);
    match (login.status, login.stdout.trim()) {
        (0, "0") => Ok(Answer::Admin),
        (0, "user") => Ok(Answer::User),
        (255, _) => {
            let said = login.stderr.split("reason ").nth(1).and_then(|rest| rest.split(',').next());
            let known = said.and_then(|word| word.parse::<nightlatch_model::Reason>().ok());
            known.map(|reason| Answer::No(reason.word())).ok_or_else(|| format!("{login:?}"))
        }
        _ => Err(format!("{login:?}")),
    }
}

/// Logs everybody in and compares.
fn everybody(cluster: &Cluster, people: &[Person], back_end: &str, expected: impl Fn(&Row) -> Answer + Sync) {
    // Two at a time: the machine has two cores.
    let rows: Vec<_> = PEOPLE.iter().zip(people).collect();
    let check = |row: &Row, person: &Person| {
        let (got, want) = (answer(cluster, person, row.name), Ok(expected(row)));
        (got != want).then(|| format!("{back_end}: {}: {got:?} instead of {want:?}", row.name))
    };
    let check = &check;
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let halves: Vec<_> = rows
            .chunks(rows.len().div_ceil(2))
            .map(|half| {
                scope.spawn(move || half.iter().filter_map(|(row, person)| check(row, person)).collect())
            })
            .collect();
        halves.into_iter().flat_map(|half| -> Vec<String> { half.join().unwrap() }).collect()
    });
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), cluster.journal());
}

#[test]
fn every_back_end_gives_the_same_answer_on_the_same_facts() {
    let cluster = stage();
    let people: Vec<Person> = PEOPLE.iter().map(|row| sign_in(&cluster, row)).collect();
    let settings = |back_end: &str| {
        format!(
            "[node]\ncluster_id = \"{}\"\n[login]\nroles_from = \"{back_end}\"\nrole_scopes = [\"node\", \"cluster\"]\n",
            world::CLUSTER
        )
    };
    for back_end in ["pdp", "checkaccess"] {
        cluster.configure(&settings(back_end));
        everybody(&cluster, &people, back_end, |row| row.checked);
    }
    cluster.configure(&settings("list"));
    everybody(&cluster, &people, "list", |row| row.listed);

    // The same facts as a file: what gives no right is not in it.
    let mut file = String::new();
    for (role, person) in [
        ("user", world::ALICE),
        ("admin", world::ADELE),
        ("user", world::MIXED_CASE),
        ("user", world::GRACE),
        ("user", world::CLARA),
        ("user", world::BOB),
        ("user", world::CI_PIPELINE),
    ] {
        file.push_str(&format!("[[assignment]]\nprincipal = \"{}\"\nrole = \"{role}\"\n", person.oid));
    }
    file.push_str(&format!("[[deny]]\nprincipal = \"{}\"\n", world::DORA.oid));
    cluster.node.write_file("/etc/nightlatch/roles.toml", file.as_bytes(), 0o644, "root:root").unwrap();
    cluster.configure(&settings("file"));
    everybody(&cluster, &people, "file", |row| row.checked);
}

#[test]
fn a_role_on_the_cluster_counts_only_where_the_cluster_counts() {
    let cluster = stage();
    let clara = cluster.person(world::CLARA.upn);
    let told = format!("[node]\ncluster_id = \"{}\"\n[login]\n", world::CLUSTER);
    for (scopes, back_end, status) in
        [("\"node\"", "pdp", 1), ("\"node\", \"cluster\"", "pdp", 0), ("\"cluster\"", "list", 0)]
    {
        cluster.configure(&format!("{told}roles_from = \"{back_end}\"\nrole_scopes = [{scopes}]\n"));
        let (code, said) = cluster.judged(&clara, world::CLARA.upn);
        assert_eq!(code, status, "{scopes}: {said}");
        let input = step(&said, "role")["input"].as_str().unwrap().to_owned();
        assert_eq!(input.contains("at=cluster"), status == 0, "{input}");
    }
}

fn step<'a>(said: &'a Value, rule: &str) -> &'a Value {
    let steps = said["steps"].as_array().unwrap_or_else(|| panic!("no steps in {said}"));
    steps.iter().find(|step| step["rule"] == rule).unwrap_or_else(|| panic!("no {rule} in {said}"))
}

#[test]
fn the_end_of_an_activation_caps_the_permit() {
    let cluster = stage();
    cluster.configure("[login]\nroles_from = \"list\"\n");
    let ends = now() + WINDOW_S;
    let grant = |name: &str, oid: &str, ends: i64| {
        cluster.control("POST", "users", &json!({"oid": oid, "upn": name}));
        cluster.control(
            "POST",
            "role-assignments",
            &json!({"principal_id": oid, "role_definition_id": world::ROLE_USER_LOGIN,
                    "scope": world::NODE, "starts": now() - 60, "ends": ends}),
        );
        cluster.person(name)
    };
    let pia = grant("pia@contoso.com", "91a00000-0000-4000-8000-0000000000b1", ends);
    let login = cluster.ssh(&pia, "pia@contoso.com", &["true"]);
    assert!(login.is_in(), "{login:?}\n{}", cluster.journal());
    let (code, said) = cluster.explain(&["pia@contoso.com", "--last"]);
    let until = nightlatch_model::Timestamp(ends).to_string();
    assert_eq!(code, 0, "{said}");
    let input = step(&said, "role")["input"].as_str().unwrap();
    assert!(input.contains(&format!("until={until}")), "{input}, not {until}");
    // The account itself is open no longer than the activation, whatever the certificate says.
    let snapshot = cluster.node.read_file("/run/nightlatch/accounts/snapshot.json").unwrap();
    let book = cluster.node.read_file("/var/lib/nightlatch/accounts.json").unwrap();
    let book = String::from_utf8(book).unwrap();
    assert!(book.contains(&ends.to_string()), "{book}\n{}", String::from_utf8_lossy(&snapshot));

    // One that ends while it is used, although the answer itself may be kept for a minute.
    let brief = grant("bruno@contoso.com", "b4000000-0000-4000-8000-0000000000b2", now() + 6);
    assert!(cluster.ssh(&brief, "bruno@contoso.com", &["true"]).is_in(), "{}", cluster.journal());
    wait_until("the end of the activation", Duration::from_secs(15), || {
        cluster.judged(&brief, "bruno@contoso.com").0 == 1
    })
    .unwrap();
    let refused = cluster.ssh(&brief, "bruno@contoso.com", &["true"]);
    assert!(refused.stderr.contains("reason no_vm_role"), "{refused:?}");
}

#[test]
fn authorities_change_their_keys_and_nobody_is_locked_out() {
    let cluster = stage();
    let (old, name) = (cluster.person(world::ALICE.upn), world::ALICE.upn);
    cluster.soon_in(&old, name, Duration::from_secs(5));

    // A key that is not published yet is nobody's.
    let kid = cluster.control("POST", "ssh-ca/rotate", &json!({"publish_new": false}))["kid"].clone();
    let new = cluster.person(name);
    assert!(cluster.ssh(&new, name, &["true"]).is_refused());
    assert_eq!(cluster.judged(&new, name).1["reason"], "ca_unknown");
    let path = format!("ssh-ca/{}", kid.as_str().unwrap());
    cluster.control("PUT", &path, &json!({"published": true}));
    cluster.restart();
    cluster.soon_in(&new, name, Duration::from_secs(10));

    // The old one is no longer listed, and believed for the grace: here and after a restart.
    let listed = cluster.control("GET", "ssh-ca", &json!({}));
    for key in listed.as_array().unwrap().iter().filter(|key| key["kid"] != kid) {
        let path = format!("ssh-ca/{}", key["kid"].as_str().unwrap());
        cluster.control("PUT", &path, &json!({"published": false}));
    }
    cluster.restart();
    assert!(cluster.ssh(&old, name, &["true"]).is_in(), "{}", cluster.journal());

    // Nobody answers at all: the keys and the machine are known from before, both are admitted at once.
    for service in ["imds", "pdp", "entra"] {
        cluster.control("PUT", &format!("faults/{service}"), &json!({"kind": "blackhole"}));
    }
    cluster.restart();
    for person in [&old, &new] {
        let (line, _) = cluster.hook(person, name);
        assert!(line.contains("cert-authority"), "{line}\n{}", cluster.journal());
        let (code, said) = cluster.judged(person, name);
        assert_eq!((code, &said["reason"]), (3, &json!("upstream_unknown")), "{said}");
    }
    cluster.control("DELETE", "faults", &json!({}));

    // Without a grace the key goes as soon as it is not listed.
    cluster.configure("[trust]\nca_grace = \"1s\"\n");
    wait_until("the end of the grace", Duration::from_secs(10), || {
        cluster.judged(&old, name).1["reason"] == "ca_unknown"
    })
    .unwrap();
    assert!(cluster.ssh(&old, name, &["true"]).is_refused());
    cluster.soon_in(&new, name, Duration::from_secs(5));
}

#[test]
fn several_identities_are_told_apart_by_the_client_id() {
    let cluster = stage();
    let alice = cluster.person(world::ALICE.upn);
    let one = |client: &str, object: &str| json!({"client_id": client, "object_id": object, "resource_id": "", "system_assigned": false});
    let both = [one(world::ADDON_CLIENT, world::ADDON_OID), one(world::KUBELET_CLIENT, world::KUBELET_OID)];
    cluster.control("PUT", "node", &json!({"identities": both}));
    cluster.restart();
    // azure.json names the kubelet's.
    assert!(cluster.ssh(&alice, world::ALICE.upn, &["true"]).is_in(), "{}", cluster.journal());

    // The add-on's identity has no right: what it may not ask is not the person's fault.
    cluster.configure(&format!("[node]\nclient_id = \"{}\"\n", world::ADDON_CLIENT));
    assert_eq!(answer(&cluster, &alice, world::ALICE.upn), Ok(Answer::No("node_not_permitted")));

    // Nobody says which: the journal and explain name the cure.
    let kept = cluster.node.read_file("/etc/kubernetes/azure.json").unwrap();
    let mut azure: Value = serde_json::from_slice(&kept).unwrap();
    azure.as_object_mut().unwrap().remove("userAssignedIdentityID");
    let write = |bytes: &[u8]| {
        cluster.node.write_file("/etc/kubernetes/azure.json", bytes, 0o600, "root:root").unwrap();
    };
    write(azure.to_string().as_bytes());
    cluster.configure("");
    let (code, said) = cluster.judged(&alice, world::ALICE.upn);
    write(&kept);
    assert_eq!((code, &said["reason"]), (3, &json!("upstream_unknown")), "{said}");
    assert!(step(&said, "role")["input"].as_str().unwrap().contains("userAssignedIdentityID"), "{said}");
}

#[test]
fn what_the_node_may_not_ask_is_never_the_persons_denial() {
    let cluster = stage();
    let (alice, norman) = (cluster.person(world::ALICE.upn), cluster.person(world::NORMAN.upn));
    let clear = format!("role-assignments?principal={}", world::KUBELET_OID);
    cluster.control("DELETE", &clear, &json!({}));
    for back_end in ["pdp", "checkaccess", "list"] {
        cluster.configure(&format!("[login]\nroles_from = \"{back_end}\"\n"));
        for (person, name) in [(&alice, world::ALICE.upn), (&norman, world::NORMAN.upn)] {
            let got = answer(&cluster, person, name);
            assert_eq!(got, Ok(Answer::No("node_not_permitted")), "{back_end} {name}");
        }
        let (code, said) = cluster.explain(&[world::NORMAN.upn, "--last"]);
        assert_eq!((code, &said["verdict"]), (3, &json!("unknown")), "{said}");
        assert!(said["hint"].as_str().unwrap().contains("CheckAccess Reader"), "{said}");
    }
}

#[test]
fn a_node_that_azure_does_not_know_yet_is_no_denial() {
    let cluster = stage();
    let norman = cluster.person(world::NORMAN.upn);
    cluster.control("DELETE", "resources", &json!({"id": world::NODE}));
    // CheckAccess v2 says the same 403 for this as for a node without the right.
    for (back_end, reason) in
        [("pdp", "node_not_permitted"), ("checkaccess", "scope_unknown"), ("list", "scope_unknown")]
    {
        cluster.configure(&format!("[login]\nroles_from = \"{back_end}\"\n"));
        let got = answer(&cluster, &norman, world::NORMAN.upn);
        assert_eq!(got, Ok(Answer::No(reason)), "{back_end}\n{}", cluster.journal());
    }
    // After ten minutes it is not new any more: then the id is wrong, and still not the person.
    let first = cluster.node.read_file("/var/lib/nightlatch/first-start").unwrap();
    let script = format!("echo {} >/var/lib/nightlatch/first-start", now() - 700);
    cluster.node.shell(&script).unwrap();
    cluster.restart();
    let (code, said) = cluster.judged(&norman, world::NORMAN.upn);
    cluster
        .node
        .write_file("/var/lib/nightlatch/first-start", &first, 0o600, "nightlatch:nightlatch")
        .unwrap();
    assert_eq!((code, &said["reason"]), (3, &json!("upstream_unknown")), "{said}");
    assert!(step(&said, "role")["input"].as_str().unwrap().contains("check node.resource_id"), "{said}");
}

#[test]
fn one_login_asks_once_however_many_keys_are_offered() {
    let cluster = stage();
    let (alice, more) = (cluster.person(world::ALICE.upn), Person::new(&cluster.image).unwrap());
    let other = Person::with_key(&cluster.image, "ed25519").unwrap();
    let (first, second) = (more.key_path().display().to_string(), other.key_path().display().to_string());
    cluster.control("DELETE", "counters", &json!({}));
    // Plain keys first: each one is a run of the hook of its own.
    let options = ["-i", &first, "-i", &second];
    let login = cluster.node.ssh(&alice, world::ALICE.upn, &["true"], &options).unwrap();
    assert!(login.is_in(), "{login:?}\n{}", cluster.journal());
    assert_eq!(cluster.calls("pdp"), 1);
    // And a second login within the answer's time to live asks nobody.
    assert!(cluster.ssh(&alice, world::ALICE.upn, &["true"]).is_in());
    assert_eq!((cluster.calls("pdp"), cluster.calls("imds") <= 4), (1, true));
}

#[test]
fn certificates_that_are_not_admitted_ask_nobody() {
    let cluster = stage();
    let (person, name) = (Person::new(&cluster.image).unwrap(), world::ALICE.upn);
    let tid = "22222222-2222-3333-4444-555555555555";
    let wrongs = [
        json!({"ca": "foreign"}),
        json!({"tamper": true}),
        json!({"valid_after": now() - 7_200, "valid_before": now() - 3_600}),
        json!({"principals": ["somebody.else@contoso.com"]}),
        json!({"principals": [name, "root"]}),
        json!({"extensions_patch": {"tid@entra.microsoft.com": tid}}),
        json!({"kind": "host"}),
        json!({"critical": {"force-command": "id"}}),
    ];
    let mut lines = String::new();
    for wrong in wrongs.iter().cycle().take(100) {
        cluster.tenant.forge(&person, wrong.clone()).unwrap();
        let line = std::fs::read_to_string(person.certificate_path()).unwrap();
        lines.push_str(&format!("{name} {line}\n"));
    }
    cluster.node.write_file("/run/forged", lines.as_bytes(), 0o644, "root:root").unwrap();
    cluster.control("DELETE", "counters", &json!({}));
    let script = "n=0; while read -r user type key; do n=$((n+1)); \
        /usr/libexec/nightlatch/authorized-keys \"$user\" 2000000000 \"$type\" \"$key\"; done </run/forged; echo $n";
    let done = cluster.node.exec_as("nightlatch-hook", &["sh", "-c", script]).unwrap();
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "100\n");
    let refused = cluster.ssh(&person, name, &["true"]);
    assert!(refused.is_refused(), "{refused:?}");
    for service in ["pdp", "arm", "entra", "graph"] {
        assert_eq!(cluster.calls(service), 0, "{service}");
    }
    // The counter counts: somebody who is admitted is asked about.
    let alice = cluster.person(name);
    assert!(cluster.ssh(&alice, name, &["true"]).is_in());
    assert_eq!(cluster.calls("pdp"), 1);
}

#[test]
fn explain_answers_with_its_exit_status() {
    let cluster = stage();
    for (upn, code, verdict, reason) in [
        (world::ALICE.upn, 0, "permit", ""),
        (world::ADELE.upn, 0, "permit", ""),
        (world::NORMAN.upn, 1, "denial", "no_vm_role"),
        (world::DORA.upn, 1, "denial", "deny_assignment"),
        (world::PETRA.upn, 1, "denial", "no_vm_role"),
    ] {
        let person = cluster.person(upn);
        let (got, said) = cluster.judged(&person, upn);
        assert_eq!(
            (got, &said["verdict"], &said["reason"]),
            (code, &json!(verdict), &json!(reason)),
            "{said}"
        );
        let rules = said["steps"].as_array().unwrap().len();
        assert!(rules >= 11, "every rule is shown: {said}");
        if code == 1 {
            // A dry run decides nothing, so it leaves no decision; the login itself does.
            let login = cluster.ssh(&person, upn, &["true"]);
            let reference = login.stderr.split("ref ").nth(1).and_then(|rest| rest.split_whitespace().next());
            let reference = reference.unwrap_or_else(|| panic!("{login:?}"));
            let (by_reference, kept) = cluster.explain(&[reference]);
            let (by_name, last) = cluster.explain(&[upn, "--last"]);
            assert_eq!((by_reference, by_name, &kept), (1, 1, &last));
            assert_eq!((&kept["reason"], &kept["correlation"]), (&json!(reason), &json!(reference)));
        }
    }
    // For sudo the same person is judged by another right.
    let alice = cluster.person(world::ALICE.upn);
    assert!(cluster.ssh(&alice, world::ALICE.upn, &["true"]).is_in());
    let (code, said) = cluster.explain(&[world::ALICE.upn, "--service", "sudo"]);
    assert_eq!((code, &said["reason"]), (1, &json!("no_admin_role")), "{said}");
    // Without a certificate, and never seen here: whose right should be looked up?
    let (code, said) = cluster.explain(&["nobody@contoso.com"]);
    assert_eq!((code, &said["reason"]), (3, &json!("identity_unknown")), "{said}");
    // Known from a login before, no certificate is needed.
    let (code, said) = cluster.explain(&[world::ALICE.upn]);
    assert_eq!(code, 0, "{said}");
    let table = cluster.node.exec(&["nightlatch", "explain", world::ALICE.upn]).unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.lines().last() == Some("permit") && table.contains("assignment="), "{table}");

    for (words, status) in [
        (vec!["alice@contoso.com", "--cert", "/nowhere"], 2),
        (vec!["deadbeef"], 3),
        (vec!["alice@contoso.com", "--last", "--cert", "/root/certificate"], 2),
    ] {
        assert_eq!(cluster.explain(&words).0, status, "{words:?}");
    }
    // Only root may ask.
    let mut other =
        cluster.node.command(&["runuser", "-u", "nobody", "--", "nightlatch", "explain", "a@b.c"]);
    let done = other.stdin(Stdio::null()).output().unwrap();
    assert_eq!(done.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&done.stderr).contains("only root"), "{done:?}");
}
