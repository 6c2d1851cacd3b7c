//! What an administrator asks before trusting a broker: does it work behind our proxy, whom does an agent act
//! for, is every hand-out in the record, and does it leave a throttled service alone.

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_emulator::world;
use nightlatch_world::wait_until;
use serde_json::{Value, json};

use crate::broker::{BACKUP, IMDS_SOCKET, OTHER, STORAGE, Stage, VAULT, stage};

pub(crate) const DEV: &str = "dev";
pub(crate) const APP: &str = "svc-app";
pub(crate) const BUS: &str = "https://servicebus.azure.net";
const DROP_IN: &str = "/etc/systemd/system/nightlatchd.service.d/90-story.conf";
const EVENTS: &str = "/var/lib/nightlatch/handouts.jsonl";
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const SOON: Duration = Duration::from_secs(15);

const AGENTS: &str = r#"
[[rule]]
name = "agents"
who = { user = ["dev", "dev2"] }
may = { identity = ["acting"], resource = ["https://vault.azure.net"], purpose = "agent" }

[[rule]]
name = "acting-programs"
who = { user = ["dev"] }
may = { identity = ["acting"], resource = ["https://storage.azure.com"] }
"#;

/// What a story did to the daemon, taken back when it ends, however it ends.
pub(crate) struct Undo<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) bundle: Option<Vec<u8>>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(bundle) = &self.bundle {
            let _ = self.stage.node.write_file(BUNDLE, bundle, 0o644, "root:root");
        }
        let tidy =
            format!("systemctl stop tls-proxy.service 2>/dev/null; rm -f {DROP_IN}; systemctl daemon-reload");
        let _ = self.stage.node.shell(&tidy);
        let _ = self.stage.tenant.control("DELETE", "faults", &json!({}));
        let _ = self.stage.tenant.control("DELETE", "entra/scripts", &json!({}));
        self.stage.restart();
        // The other stories count from nothing.
        let _ = self.stage.tenant.control("DELETE", "counters", &json!({}));
    }
}

/// The payload of a token.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

impl Stage {
    /// A daemon without a kept token, with whatever drop-in there is now.
    fn restart(&self) {
        let done = self.node.exec(&["systemctl", "restart", "nightlatchd"]);
        assert!(done.is_ok_and(|done| done.status.success()), "{}", self.journal());
    }

    pub(crate) fn drop_in(&self, lines: &str) {
        let text = format!("[Service]\n{lines}\n");
        self.node.shell("mkdir -p /etc/systemd/system/nightlatchd.service.d").unwrap();
        self.node.write_file(DROP_IN, text.as_bytes(), 0o644, "root:root").unwrap();
        self.node.shell("systemctl daemon-reload").unwrap();
        self.restart();
    }

    pub(crate) fn run(&self, unit: &str, user: &str, words: &[&str]) -> (i32, String, String) {
        let done = self.node.service(unit, user).run(words).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (done.status.code().unwrap(), text(&done.stdout), text(&done.stderr))
    }

    /// `nightlatch token get`: the document, or what was said instead.
    pub(crate) fn token(
        &self,
        unit: &str,
        user: &str,
        identity: &str,
        resource: &str,
        more: &[&str],
    ) -> Result<Value, String> {
        let words =
            ["nightlatch", "token", "get", "--identity", identity, "--resource", resource, "-o", "json"];
        match self.run(unit, user, &[&words, more].concat()) {
            (0, out, _) => Ok(serde_json::from_str(&out).unwrap()),
            (_, out, err) => {
                assert!(!out.contains("accessToken"), "{out}");
                Err(err)
            }
        }
    }

    pub(crate) fn must(
        &self,
        unit: &str,
        user: &str,
        identity: &str,
        resource: &str,
        more: &[&str],
    ) -> Value {
        self.token(unit, user, identity, resource, more)
            .unwrap_or_else(|why| panic!("{identity} {resource}: {why}\n{}", self.journal()))
    }

    /// The rules of these stories, in force.
    pub(crate) fn with_agents(&self) {
        let path = "/etc/nightlatch/broker.d/70-agents.toml";
        self.node.write_file(path, AGENTS.as_bytes(), 0o644, "root:root").unwrap();
        drop(self.node.exec(&["systemctl", "reload", "nightlatchd"]).unwrap());
        wait_until("the rules for agents", SOON, || {
            self.run("who.service", DEV, &["nightlatch", "whoami", "-o", "json"]).1.contains("\"agents\"")
        })
        .unwrap_or_else(|why| panic!("{why}\n{}", self.journal()));
    }

    pub(crate) fn sign_in(&self) {
        self.tenant.control("PUT", "entra", &json!({"interactive_user": world::ALICE.upn})).unwrap();
        let (code, out, err) = self.run("login.service", DEV, &["nightlatch", "login", "--device-code"]);
        assert_eq!(code, 0, "{out}{err}\n{}", self.journal());
    }

    pub(crate) fn register_certificate(&self) {
        let pem = String::from_utf8(self.node.read_file("/etc/nightlatch/ci.pem").unwrap()).unwrap();
        let begin = pem.find("-----BEGIN CERTIFICATE-----").unwrap();
        let app = format!("apps/{}", world::CI_PIPELINE_APP);
        let known = json!({"certificates": [&pem[begin..]], "secrets": [world::CI_PIPELINE_SECRET]});
        self.tenant.control("PUT", &app, &known).unwrap();
    }

    /// The record from its `from`th line on.
    fn events(&self, from: usize) -> Vec<Value> {
        let text = self.node.shell(&format!("cat {EVENTS} 2>/dev/null || true")).unwrap();
        text.lines().skip(from).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What was only counted since then, by the journal.
    fn skipped_since(&self, cursor: &str) -> u64 {
        self.records_since(cursor)
            .iter()
            .filter_map(|record| record["NIGHTLATCH_SKIPPED"].as_str()?.parse::<u64>().ok())
            .sum()
    }

    pub(crate) fn records_since(&self, cursor: &str) -> Vec<Value> {
        let words = format!("journalctl --sync; journalctl -u nightlatchd -o json --after-cursor='{cursor}'");
        self.node.shell(&words).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn cursor(&self) -> String {
        // The cursor of a record of this unit: after another one, journalctl leaves out the unit's first.
        let said =
            self.node.shell("journalctl --sync; journalctl -u nightlatchd -n 1 --show-cursor").unwrap();
        said.lines().last().unwrap().trim_start_matches("-- cursor: ").to_owned()
    }

    fn uid(&self, user: &str) -> u64 {
        self.node.shell(&format!("id -u {user}")).unwrap().trim().parse().unwrap()
    }
}

fn of_imds(resource: &str) -> String {
    format!("http://localhost/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}")
}

// ---- a proxy that opens TLS ----

/// The proxy's authority, and a certificate of it for Entra's host.
fn proxys_certificates(folder: &std::path::Path) {
    let host = "subjectAltName=DNS:login.microsoftonline.com";
    let authority = ["-subj", "/CN=Company Inspection CA", "-keyout", "ca.key", "-out", "ca.pem"];
    let leaf = [
        &[
            "-subj",
            "/CN=login.microsoftonline.com",
            "-keyout",
            "leaf.key",
            "-out",
            "leaf.pem",
            "-CA",
            "ca.pem",
        ][..],
        &["-CAkey", "ca.key", "-addext", host, "-addext", "basicConstraints=critical,CA:FALSE"],
    ];
    for words in [authority.to_vec(), leaf.concat()] {
        let made = Command::new("openssl")
            .current_dir(folder)
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
            .args(words)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

#[test]
fn a_proxy_that_opens_tls_is_used_when_its_authority_is_trusted() {
    let stage = stage();
    let folder = tempfile::tempdir().unwrap();
    proxys_certificates(folder.path());
    let whole = stage.node.read_file(BUNDLE).unwrap();
    let undo = Undo { stage: &stage, bundle: Some(whole.clone()) };
    stage.node.shell("install -d -m 0755 /opt/proxy; rm -f /opt/proxy/log").unwrap();
    for name in ["leaf.pem", "leaf.key"] {
        stage.node.copy_in(&folder.path().join(name), &format!("/opt/proxy/{name}"), 0o600).unwrap();
    }
    stage
        .node
        .shell(
            "systemd-run --quiet --unit=tls-proxy.service --collect /opt/interop/sdk/bin/python \
             /opt/interop/drivers/tls_proxy.py 3129 /opt/proxy/leaf.pem /opt/proxy/leaf.key \
             /etc/nightlatch/proxy-ca.pem /opt/proxy/log",
        )
        .unwrap();
    let listens =
        || stage.node.exec(&["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/3129"]).unwrap().status.success();
    wait_until("the proxy", SOON, listens).unwrap();
    stage.register_certificate();
    stage.node.trust_ca(&std::fs::read_to_string(folder.path().join("ca.pem")).unwrap()).unwrap();
    stage.drop_in("Environment=HTTPS_PROXY=http://127.0.0.1:3129 HTTP_PROXY=http://127.0.0.1:3129");
    for identity in ["by-secret", "by-certificate"] {
        let given = stage.must("app.service", APP, identity, VAULT, &[]);
        assert_eq!(given["clientId"], world::CI_PIPELINE_APP, "{identity}");
    }
    let before = stage.imds_asked(VAULT);
    stage.must("backup.service", BACKUP, "node", VAULT, &[]);
    assert_eq!(stage.imds_asked(VAULT), before + 1);
    let log = stage.node.shell("cat /opt/proxy/log").unwrap();
    let token_requests =
        log.lines().filter(|line| line.starts_with("inside POST /") && line.contains("/token")).count();
    assert!(token_requests >= 2, "{log}");
    assert!(log.contains("CONNECT login.microsoftonline.com:443 "), "{log}");
    for line in log.lines() {
        assert!(
            line.starts_with("CONNECT ") || line.starts_with("inside ") || line.starts_with("broken "),
            "{line}"
        );
        for near in ["169.254.", "127.0.0.", "localhost", "40342", "metadata/identity"] {
            assert!(!line.contains(near), "a question to the node itself went to the proxy: {line}");
        }
    }

    // The same without the proxy's authority: what the person reads, and what goes on working.
    stage.node.write_file(BUNDLE, &whole, 0o644, "root:root").unwrap();
    stage.restart();
    let sentence = stage.token("app.service", APP, "by-secret", VAULT, &[]).unwrap_err();
    println!("without the proxy's authority a caller reads: {sentence}");
    for word in ["login.microsoftonline.com", "certificate", "proxy", "update-ca-certificates"] {
        assert!(sentence.contains(word), "{word}: {sentence}");
    }
    stage.must("backup.service", BACKUP, "node", VAULT, &[]);
    drop(undo);
    stage.must("app.service", APP, "by-secret", STORAGE, &[]);
    stage.restart();
}

// ---- agents ----

#[test]
fn an_agent_acts_for_the_person_of_its_uid_for_a_quarter_of_an_hour() {
    let stage = stage();
    stage.with_agents();
    let agent = ["--purpose", "agent"];
    let before = stage.token("agent.service", DEV, "acting", VAULT, &agent).unwrap_err();
    assert!(before.contains("nightlatch login"), "{before}");
    stage.sign_in();
    let from = stage.events(0).len();
    let given = stage.must("agent.service", DEV, "acting", VAULT, &agent);
    let said = claims(given["accessToken"].as_str().unwrap());
    assert_eq!((&said["oid"], &said["aud"]), (&json!(world::ALICE.oid), &json!(VAULT)), "{said}");
    assert_eq!((&given["rule"], &given["clientId"]), (&json!("agents"), &json!(world::NODE_APP)));
    let now: i64 = stage.node.shell("date +%s").unwrap().trim().parse().unwrap();
    let told = given["expires_on"].as_i64().unwrap() - now;
    assert!((1..=900).contains(&told), "{told} s");
    println!("an agent is told {told} s; the token itself lives {} s", said["exp"].as_i64().unwrap() - now);

    // Neither rule serves what the other is for; nobody else has Alice's.
    let program = stage.must("agent.service", DEV, "acting", STORAGE, &[]);
    assert_eq!(program["rule"], "acting-programs");
    for (user, resource, more, word) in [
        (DEV, VAULT, &[][..], "no rule allows it"),
        (DEV, STORAGE, &agent, "no rule allows it"),
        ("dev2", VAULT, &agent, "nobody is signed in"),
        (BACKUP, VAULT, &agent, "no rule allows it"),
        ("root", VAULT, &agent, "no rule allows it"),
    ] {
        let why = stage.token("agent.service", user, "acting", resource, more).unwrap_err();
        assert!(why.contains(word), "{user} {resource} {more:?}: {why}");
    }

    let wrote = || stage.events(from).into_iter().find(|event| event["uti"] == said["uti"]);
    wait_until("its event", SOON, || wrote().is_some()).unwrap();
    let event = wrote().unwrap();
    assert_eq!(
        (&event["purpose"], &event["on_behalf_of"], &event["oid"]),
        (&json!("agent"), &json!(world::ALICE.oid), &said["oid"]),
        "{event}"
    );
    let query = format!(
        "journalctl --sync; journalctl -u nightlatchd -o json NIGHTLATCH_UTI={}",
        said["uti"].as_str().unwrap()
    );
    let record: Value =
        serde_json::from_str(stage.node.shell(&query).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(
        (&record["NIGHTLATCH_PURPOSE"], &record["NIGHTLATCH_ON_BEHALF_OF"]),
        (&json!("agent"), &json!(world::ALICE.oid))
    );
    assert_eq!(stage.run("shell.service", DEV, &["nightlatch", "logout"]).0, 0);
    let gone = stage.token("agent.service", DEV, "acting", VAULT, &agent).unwrap_err();
    assert!(gone.contains("nightlatch login"), "{gone}");
}

// ---- the record ----

#[test]
fn every_hand_out_is_recorded_and_counted_over_a_restart_and_a_flood() {
    const ASKED: usize = 40;
    const FLOOD: u64 = 400;
    let stage = stage();
    stage.restart();
    let from = stage.events(0).len();
    let asks = format!("'{}' ", of_imds(STORAGE)).repeat(ASKED);
    let line = format!(
        "echo $$$$; exec curl --silent --fail --header 'Metadata: true' --unix-socket {IMDS_SOCKET} {asks}"
    );
    let (code, out, err) = stage.run("audited.service", OTHER, &["sh", "-c", &line]);
    assert_eq!(code, 0, "{err}\n{}", stage.journal());
    let (pid, bodies) = out.split_once('\n').unwrap();
    let bodies: Vec<Value> =
        serde_json::Deserializer::from_str(bodies).into_iter().map(Result::unwrap).collect();
    assert_eq!(bodies.len(), ASKED);
    let refused = stage.token("audited.service", OTHER, "node", VAULT, &[]).unwrap_err();
    stage.restart();

    let token = claims(bodies[0]["access_token"].as_str().unwrap());
    let events = stage.events(from);
    let mine: Vec<&Value> =
        events.iter().filter(|event| event["pid"] == json!(pid.parse::<i32>().unwrap())).collect();
    let counts: Vec<_> =
        mine.iter().map(|event| (event["outcome"].as_str().unwrap(), event["count"].as_u64())).collect();
    assert_eq!(counts, [("handed_out", Some(1)), ("repeated", Some(ASKED as u64 - 1))], "{events:?}");
    for event in &mine {
        let expected = json!({"uid": stage.uid(OTHER), "unit": "audited.service", "rule": "storage-for-services",
            "identity": "node", "resource": STORAGE, "uti": token["uti"], "oid": token["oid"], "expires": token["exp"],
            "source": "source", "age": 0, "purpose": "program", "correlation": mine[0]["correlation"]});
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&event[name], value, "{name} of {event}");
        }
    }
    assert_eq!(token["oid"], world::KUBELET_OID);
    let no = events.iter().find(|event| event["outcome"] == "refused").unwrap();
    assert_eq!(
        (&no["uid"], &no["rule"], &no["resource"]),
        (&json!(stage.uid(OTHER)), &json!("default"), &json!(VAULT))
    );
    assert!(refused.contains(no["correlation"].as_str().unwrap()), "{refused} {no}");

    // Four hundred programs of one uid, more than are told apart: the sum is right all the same.
    let (from, cursor) = (stage.events(0).len(), stage.cursor());
    let flood = format!(
        "seq {FLOOD} | xargs -P 8 -I@ curl --silent --fail --output /dev/null --header 'Metadata: true' \
         --unix-socket {IMDS_SOCKET} '{}'",
        of_imds(STORAGE)
    );
    let (code, _, err) = stage.run("flood.service", OTHER, &["sh", "-c", &flood]);
    assert_eq!(code, 0, "{err}");
    stage.restart();
    let events = stage.events(from);
    let counted: u64 = events.iter().map(|event| event["count"].as_u64().unwrap()).sum();
    let skipped = stage.skipped_since(&cursor);
    println!("{FLOOD} hand-outs: {} events that count {counted}, {skipped} only counted", events.len());
    assert_eq!(counted + skipped, FLOOD);
    assert!(events.len() < 200, "{}", events.len());
}

// ---- a throttled service ----

#[test]
fn a_throttled_metadata_service_is_left_alone_for_as_long_as_it_says() {
    const WAIT: Duration = Duration::from_secs(12);
    let stage = stage();
    stage.restart();
    let undo = Undo { stage: &stage, bundle: None };
    let asked = || [VAULT, STORAGE, BUS].map(|resource| stage.imds_asked(resource)).iter().sum::<usize>();
    let before = asked();
    let throttled =
        json!({"kind": "status", "status": 429, "retry_after": WAIT.as_secs(), "path": "identity"});
    stage.tenant.control("PUT", "faults/imds", &throttled).unwrap();
    let start = Instant::now();
    let http = || {
        let words =
            ["curl", "--silent", "--include", "--header", "Metadata: true", "--unix-socket", IMDS_SOCKET];
        stage.run("two.service", OTHER, &[&words[..], &[&of_imds(STORAGE)]].concat()).1
    };
    let first = http();
    assert!(first.starts_with("HTTP/1.1 503"), "{first}");
    assert_eq!(asked(), before + 1);
    stage.tenant.control("DELETE", "faults/imds", &json!({})).unwrap();
    let mut questions = 1;
    while questions < 7 && start.elapsed() < WAIT / 2 {
        let (code, said) = stage.grpc("backup.service", BACKUP, "GetToken", &json!({"resource": VAULT}));
        assert_eq!((code, &said["status"]), (3, &json!("UNAVAILABLE")), "{said}");
        let wait = said["retry"].as_f64().unwrap();
        assert!((0.1..=WAIT.as_secs_f64() + 2.0).contains(&wait), "{said}");
        let answer = http();
        let header = answer
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("retry-after: ")?.trim().parse().ok());
        let seconds: u64 = header.unwrap_or_else(|| panic!("{answer}"));
        assert!(
            answer.starts_with("HTTP/1.1 503") && (1..=WAIT.as_secs() + 2).contains(&seconds),
            "{answer}"
        );
        questions += 2;
    }
    assert!(questions >= 3, "{questions}");
    assert_eq!(asked(), before + 1, "{questions} questions of callers");
    let mut after = Duration::ZERO;
    wait_until("a token", SOON, || {
        let given = http().starts_with("HTTP/1.1 200");
        after = start.elapsed();
        given
    })
    .unwrap();
    assert!(after >= WAIT, "{after:?}");
    println!("{questions} questions cost IMDS one; the next was let through after {after:?}");
    drop(undo);
}
