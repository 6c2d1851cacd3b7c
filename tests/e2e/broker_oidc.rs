//! The sources against an authority that nobody here wrote: npm's oidc-provider answers at Entra's addresses. It
//! checks our assertion's signature by its own code, and takes no refresh token twice.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_emulator::world;
use nightlatch_world::{
    Binaries, InNetwork, LocalCa, Node, NodeSpec, install, interop, interop_drivers, wait_until,
};
use serde_json::{Value, json};

use crate::broker::{BACKUP, BROKER_SOCKET, VAULT};
use crate::site::NODE_ID;

const DEV: &str = "dev";
const LOGIN: &str = "login.microsoftonline.com";

const POLICY: &str = r#"
[[rule]]
name = "backup"
who = { user = ["svc-backup"] }
may = { identity = ["ci"], resource = ["https://vault.azure.net"] }

[[rule]]
name = "people"
who = { user = ["dev"] }
may = { identity = ["person"], resource = ["https://vault.azure.net"] }
"#;

/// A node, and the authority in its network.
struct Stage {
    // Before the node, in whose network it runs.
    _authority: InNetwork,
    node: Node,
    log: Arc<Mutex<Vec<Value>>>,
    _folder: tempfile::TempDir,
}

fn openssl(folder: &Path, words: &[&str]) -> String {
    let done = Command::new("openssl").args(words).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// A key and a certificate of its own, `NAME-key.pem` and `NAME.pem`.
pub(crate) fn certificate(folder: &Path, name: &str, host: &str) {
    let (key, pem) = (format!("{name}-key.pem"), format!("{name}.pem"));
    let (subject, names) = (format!("/CN={host}"), format!("subjectAltName=DNS:{host}"));
    let words = [
        &["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject][..],
        &["-addext", &names, "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &key, "-out", &pem],
    ];
    openssl(folder, &words.concat());
}

/// The public key of the application, as the authority has it registered.
fn jwk(folder: &Path) -> Value {
    let modulus = openssl(folder, &["rsa", "-in", "client-key.pem", "-noout", "-modulus"]);
    let digits = modulus.trim().strip_prefix("Modulus=").unwrap();
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let bytes: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    json!({"kty": "RSA", "use": "sig", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(bytes)})
}

fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    certificate(here, "tls", LOGIN);
    certificate(here, "client", "ci-pipeline");
    let at = |name: &str| here.join(name).display().to_string();
    let settings = json!({"host": LOGIN, "port": 443, "tenant": world::TENANT, "key": at("tls-key.pem"),
        "cert": at("tls.pem"), "jwks": {"keys": [jwk(here)]}, "client_id": world::CI_PIPELINE_APP,
        "device_client_id": world::OWN_APP, "person": world::ALICE.oid, "resource": VAULT});
    std::fs::write(here.join("settings.json"), settings.to_string()).unwrap();

    let node = Node::boot(&NodeSpec::default()).unwrap();
    let program = interop("node-program").unwrap().display().to_string();
    let script = interop("oidc").unwrap().join("provider.mjs").display().to_string();
    let mut authority = node.spawn_in_netns(&[&program, &script, &at("settings.json")]).unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let (lines, writer) = (BufReader::new(authority.stdout().unwrap()), Arc::clone(&log));
    std::thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            writer.lock().unwrap().extend(serde_json::from_str::<Value>(&line));
        }
    });
    wait_until("the authority", Duration::from_secs(30), || {
        log.lock().unwrap().iter().any(|said| said["event"] == "ready")
    })
    .unwrap();

    node.trust_ca(&std::fs::read_to_string(here.join("tls.pem")).unwrap()).unwrap();
    node.add_users(&[BACKUP, DEV]).unwrap();
    node.shell(
        "install -d -m 0755 /etc/nightlatch /etc/nightlatch/broker.d && useradd --system --user-group \
                --home-dir /var/lib/nightlatch --shell /usr/sbin/nologin nightlatch",
    )
    .unwrap();
    let mut pem = std::fs::read(here.join("client-key.pem")).unwrap();
    pem.extend(std::fs::read(here.join("client.pem")).unwrap());
    node.write_file("/etc/nightlatch/ci.pem", &pem, 0o640, "root:nightlatch").unwrap();
    let text = format!(
        r#"tenant = "{}"
cloud = "AzureCloud"
mode = "observe"
[node]
kind = "vm"
resource_id = "{NODE_ID}"
[trust]
ca = ["file"]
[login]
roles_from = "file"
[broker]
device_code = true
[broker.sign_in]
client_id = "{}"
scopes = ["{VAULT}/.default"]
[[broker.identity]]
name = "ci"
kind = "certificate"
client_id = "{}"
certificate_file = "/etc/nightlatch/ci.pem"
"#,
        world::TENANT,
        world::OWN_APP,
        world::CI_PIPELINE_APP
    );
    node.write_file("/etc/nightlatch/nightlatch.toml", text.as_bytes(), 0o644, "root:root").unwrap();
    let ca = LocalCa::new(node.image()).unwrap();
    node.write_file("/etc/nightlatch/ca.pub", ca.public_key().unwrap().as_bytes(), 0o644, "root:root")
        .unwrap();
    node.write_file("/etc/nightlatch/roles.toml", b"assignment = []\n", 0o644, "root:root").unwrap();
    node.write_file("/etc/nightlatch/broker.d/50-stories.toml", POLICY.as_bytes(), 0o644, "root:root")
        .unwrap();
    install(&node, &Binaries::find().unwrap()).unwrap();
    let sdk = interop("sdk").unwrap();
    node.open_way(&sdk.join("bin/python")).unwrap();
    for (what, name) in [(interop_drivers(), "drivers"), (sdk, "sdk"), (interop("stubs").unwrap(), "stubs")] {
        node.lend(&what, name).unwrap();
    }
    Stage { _authority: authority, node, log, _folder: folder }
}

impl Stage {
    fn journal(&self) -> String {
        self.node.journal(&["-u", "nightlatchd", "-n", "40"]).unwrap()
    }

    /// What the authority said of a grant: how often it gave a token, and the words of its refusals.
    fn grants(&self, grant: &str) -> (usize, Vec<String>) {
        let log = self.log.lock().unwrap();
        let of = || log.iter().filter(|said| said["grant"] == grant);
        let refusals = of().filter(|said| said["event"] == "grant.error");
        (
            of().filter(|said| said["event"] == "grant.success").count(),
            refusals.map(|said| format!("{}: {}", said["error"], said["detail"])).collect(),
        )
    }

    fn person(&self, words: &[&str]) -> (i32, String) {
        let done = self.node.service("shell.service", DEV).run(words).unwrap();
        let text = [done.stdout, done.stderr].concat();
        (done.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
    }
}

#[test]
fn another_authority_takes_our_assertion() {
    let stage = stage();
    let request = json!({"resource": VAULT}).to_string();
    let words = [
        "/opt/interop/sdk/bin/python",
        "/opt/interop/drivers/grpc_client.py",
        BROKER_SOCKET,
        "GetToken",
        &request,
        "--stubs",
        "/opt/interop/stubs",
    ];
    let done = stage.node.service("backup.service", BACKUP).run(&words).unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}\n{:?}\n{}", stage.log.lock().unwrap(), stage.journal());
    let said: Value = serde_json::from_str(said.trim()).unwrap();
    assert_eq!(
        (&said["token"]["client_id"], &said["token"]["aud"]),
        (&json!(world::CI_PIPELINE_APP), &json!(VAULT))
    );
    assert_eq!(stage.grants("client_credentials"), (1, vec![]));
}

#[test]
fn another_authority_signs_a_person_in_and_rotates() {
    let stage = stage();
    let mut login =
        stage.node.service("login.service", DEV).command(&["nightlatch", "login", "--device-code"]);
    let mut login = login.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(login.stderr.take().unwrap());
    let mut heard = String::new();
    // The code is said plainly; oidc-provider's look like ABCD-EFGH.
    let code = loop {
        let mut line = String::new();
        assert_ne!(
            told.read_line(&mut line).unwrap(),
            0,
            "no code in {heard}\n{:?}\n{}",
            stage.log.lock().unwrap(),
            stage.journal()
        );
        heard.push_str(&line);
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let is_code = |word: &&str| {
            word.len() == 9 && word.chars().nth(4) == Some('-') && word.to_uppercase() == **word
        };
        if let Some(code) = words.find(is_code) {
            break code.to_owned();
        }
    };
    let approve = format!("https://{LOGIN}/__approve?user_code={code}");
    let approved = stage.node.exec(&["curl", "--silent", "--fail", "--max-time", "20", &approve]).unwrap();
    assert!(approved.status.success(), "{approved:?}");
    let status = login.wait().unwrap();
    assert!(status.success(), "{heard}\n{:?}\n{}", stage.log.lock().unwrap(), stage.journal());

    // Each of these uses the refresh token that the one before brought; one that is used twice is refused.
    let get = ["nightlatch", "token", "get", "--identity", "person", "--resource", VAULT, "-o", "json"];
    for (round, more) in [&[][..], &["--force-refresh"]].into_iter().enumerate() {
        let (code, text) = stage.person(&[&get, more].concat());
        assert_eq!(code, 0, "{round}: {text}\n{:?}\n{}", stage.log.lock().unwrap(), stage.journal());
    }
    stage.node.shell("systemctl restart nightlatchd").unwrap();
    let (code, text) = stage.person(&get);
    assert_eq!(code, 0, "after a restart: {text}\n{:?}\n{}", stage.log.lock().unwrap(), stage.journal());
    let (given, refused) = stage.grants("refresh_token");
    assert!(given >= 2 && refused.is_empty(), "{given} {refused:?}");
    let (given, refused) = stage.grants("urn:ietf:params:oauth:grant-type:device_code");
    assert!(given == 1 && refused.iter().all(|why| why.contains("authorization_pending")), "{refused:?}");
}
