//! `nightlatch capture` on real nodes of the emulated tenant: it records, leaks nothing, changes
//! nothing.

use std::path::Path;
use std::process::Output;

use nightlatch_emulator::world;
use nightlatch_world::{Metadata, Node, NodeSpec, Person, Tenant, prepare};
use serde_json::{Value, json};

use crate::tenant::Cluster;

/// Every file of the configuration and state, with content, owner, mode and change time.
const FINGERPRINT: &str = "find /etc /var/lib /var/opt /usr/local /home /root -xdev -type f \
    -not -path '/var/lib/systemd/*' -printf '%p %m %u:%g %s %T@\\n' | sort | sha256sum; \
    systemctl list-units --all --plain --no-legend --type=service,socket | awk '{print $1,$3,$4}' | grep -E 'nightlatch|ssh|himds' | sort";

fn run(node: &Node, words: &[&str]) -> Output {
    node.exec(&[&["nightlatch", "capture"], words].concat()).unwrap()
}

fn stderr(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// What a recording of the emulated world must not hold, in any case.
fn canaries(node: &Node) -> Vec<String> {
    let host = String::from_utf8(node.read_file("/proc/sys/kernel/hostname").unwrap()).unwrap();
    let mut all: Vec<String> = [
        "alice",
        "contoso",
        "mc_rg",
        "rg-shop",
        "rg-arc",
        "arc1",
        "aks-pool",
        "westeurope",
        "169.254.",
        "127.0.0.1",
        "eyj",
    ]
    .map(str::to_owned)
    .to_vec();
    all.extend(
        [world::TENANT, world::SUBSCRIPTION, world::ALICE.oid, world::KUBELET_CLIENT, world::ARC_CLIENT]
            .map(str::to_owned),
    );
    all.push(world::ALICE.oid.replace('-', ""));
    all.push(host.trim().to_ascii_lowercase());
    all
}

fn check_scrubbed(node: &Node, text: &str) {
    let lower = text.to_ascii_lowercase();
    for canary in canaries(node) {
        assert!(!lower.contains(&canary), "`{canary}` in {text}");
    }
}

/// The command line alone: a capture comes before anything else is installed.
fn program(node: &Node) {
    node.copy_in(Path::new(env!("CARGO_BIN_EXE_nightlatch")), "/usr/bin/nightlatch", 0o755).unwrap();
}

fn certificate_of(node: &Node, person: &Person) {
    node.copy_in(&person.certificate_path(), "/run/person-aadcert.pub", 0o644).unwrap();
}

/// The recording that is checked in is of the form that this build records.
fn check_like(recorded: &Value, name: &str) {
    let path = format!("{}/tests/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
    // For whoever changes the form on purpose; a plain run only compares.
    if std::env::var_os("NIGHTLATCH_RECORD").is_some() {
        std::fs::write(&path, format!("{recorded:#}\n")).unwrap();
    }
    let kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(without_chance(recorded), without_chance(&kept), "record anew with NIGHTLATCH_RECORD=1");
}

/// Keys are made anew with each emulator, and the node's system is the host's.
fn without_chance(recording: &Value) -> Value {
    match recording {
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| {
                !matches!(name.as_str(), "fingerprint" | "kid" | "n" | "os" | "sshd" | "arch" | "nightlatch")
            })
            .map(|(name, value)| (name.clone(), without_chance(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(entries) => entries.iter().map(without_chance).collect(),
        other => other.clone(),
    }
}

#[test]
fn an_aks_node_is_recorded_without_a_name_and_nothing_changes() {
    let cluster = Cluster::start("");
    let node = &cluster.node;
    certificate_of(node, &cluster.person(world::ALICE.upn));
    let before = node.shell(FINGERPRINT).unwrap();

    let words =
        ["--yes", "--cert", "/run/person-aadcert.pub", "--person", world::ALICE.oid, "--out", "/run/r.json"];
    let done = run(node, &words);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert!(done.stdout.is_empty());
    assert_eq!(node.shell(FINGERPRINT).unwrap(), before);
    assert_eq!(node.shell("stat -c '%a %U' /run/r.json").unwrap().trim(), "600 root");

    let text = String::from_utf8(node.read_file("/run/r.json").unwrap()).unwrap();
    check_scrubbed(node, &text);
    check_scrubbed(node, &stderr(&done).replace("169.254.169.254", "").replace("127.0.0.1:40342", ""));
    let recorded: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(recorded["kind"], "aks");
    assert_eq!(recorded["imds"]["ca_keys"]["reader"], "accepts", "{text}");
    assert_eq!(recorded["certificate"]["authority_is_published"], true, "{text}");
    assert_eq!(recorded["certificate"]["principals"], json!(["<address-1>"]), "{text}");
    assert_eq!(recorded["pdp"]["reader"], "granted", "{text}");
    assert_eq!(recorded["himds"], json!({"no_answer": "unreachable"}));
    assert!(recorded["machine"]["sshd"].as_str().unwrap().starts_with("OpenSSH_"), "{text}");
    check_like(&recorded, "emulated-aks");

    let again = run(node, &words);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("not overwritten"), "{}", stderr(&again));

    // A certificate whose ids stand under other names: the lines to configure, and no clean bill.
    let person = Person::new(&cluster.image).unwrap();
    let now = node.shell("date +%s").unwrap().trim().parse::<i64>().unwrap();
    cluster.tenant.forge(&person, json!({"valid_after": now, "valid_before": now + 7 * 86_400, "principals": ["alice@contoso.com"]})).unwrap();
    certificate_of(node, &person);
    let done = run(node, &["--yes", "--cert", "/run/person-aadcert.pub"]);
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    assert!(stderr(&done).contains("max_lifetime = \"168h\""), "{}", stderr(&done));
    check_scrubbed(node, &String::from_utf8_lossy(&done.stdout));
    serde_json::from_slice::<Value>(&done.stdout).unwrap();
}

#[test]
fn an_arc_machine_is_recorded_with_the_rule_of_its_challenge() {
    let image = prepare().unwrap();
    let node = Node::boot(&NodeSpec::default()).unwrap();
    let tenant = Tenant::start(&node, Metadata::Himds).unwrap();
    program(&node);
    node.shell("install -d -m 0755 /etc/nightlatch").unwrap();
    let config = format!("tenant = \"{}\"\n[node]\nregion = \"{}\"\n", world::TENANT, world::REGION);
    node.write_file("/etc/nightlatch/nightlatch.toml", config.as_bytes(), 0o644, "root:root").unwrap();
    let person = Person::new(&image).unwrap();
    tenant.sign_in(&person, world::ALICE.upn).unwrap();
    certificate_of(&node, &person);
    let done = run(&node, &["--yes", "--cert", "/run/person-aadcert.pub", "--person", world::ALICE.oid]);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    check_scrubbed(&node, &text);
    let recorded: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", stderr(&done)));
    assert_eq!(recorded["kind"], "arc-vm");
    // Whether the emulator's challenge lies where the agent's would depends on where it runs: the
    // recording says which, and the reader takes it exactly when it does.
    let token = &recorded["himds"]["token_for_pdp"];
    let inside = token["challenge"]["in_the_agents_folder"] == true;
    assert_eq!(token["reader"], if inside { "accepts" } else { "challenge not accepted" }, "{text}");
    assert_eq!(token["challenge"]["ends_with_key"], true, "{text}");
    assert_eq!(token["challenge"]["scheme"], "Basic realm=", "{text}");
    assert_eq!(recorded["himds"]["ca_keys"]["reader"], "accepts", "{text}");
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_asked() {
    let node = Node::boot(&NodeSpec::default()).unwrap();
    program(&node);
    node.shell("useradd -m mallory").unwrap();
    for (words, status, said) in [
        (vec!["--yes", "--cert", "/nowhere"], 2, "`/nowhere` does not exist"),
        (vec!["--yes", "--out", "/no/such/folder/r.json"], 2, "does not exist: make it first"),
        (vec!["--yes", "--person", "alice@contoso.com"], 2, "give the object id"),
        (vec!["--frobnicate"], 2, "--frobnicate"),
        (vec![], 2, "add --yes"),
    ] {
        let done = run(&node, &words);
        assert_eq!(done.status.code(), Some(status), "{words:?}: {}", stderr(&done));
        assert!(stderr(&done).contains(said), "{words:?}: {}", stderr(&done));
        assert!(done.stdout.is_empty());
    }
    let done = node.exec_as("mallory", &["nightlatch", "capture", "--yes"]).unwrap();
    assert_eq!(done.status.code(), Some(3), "{}", stderr(&done));
    assert!(stderr(&done).contains("run it with sudo"), "{}", stderr(&done));

    // Neither IMDS nor himds: an honest recording of nothing, and what to pin.
    let done = run(&node, &["--yes"]);
    let recorded: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    assert_eq!(recorded["kind"], "plain");
    assert!(stderr(&done).contains("trust.ca: this machine has neither IMDS nor himds"), "{}", stderr(&done));
}
