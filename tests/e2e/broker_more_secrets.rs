//! No token and no secret is to be found anywhere on the node, although the daemon says all it can, meets every
//! failure, and crashes at the end.

use std::collections::BTreeSet;
use std::time::Duration;

use nightlatch_emulator::world;
use nightlatch_world::wait_until;
use serde_json::json;

use crate::broker::{BACKUP, OTHER, STORAGE, VAULT, stage};
use crate::broker_more::{APP, BUS, DEV, Undo};

const GRAPH: &str = "https://graph.microsoft.com";
const SOON: Duration = Duration::from_secs(15);

/// Everything that nobody may find anywhere, in pieces as they would be written.
#[derive(Default)]
struct Canaries(BTreeSet<String>);

impl Canaries {
    fn add(&mut self, text: &str) {
        // Of a JWT the parts that are its own; the header is the same in all.
        let parts: Vec<&str> = text.trim().split('.').collect();
        let parts = if parts.len() == 3 { &parts[1..] } else { &parts[..] };
        self.0.extend(parts.iter().filter(|part| part.len() >= 12).map(|&part| part.to_owned()));
    }

    fn add_form(&mut self, body: &str) {
        const SECRET: [&str; 6] =
            ["client_secret", "client_assertion", "refresh_token", "assertion", "device_code", "code"];
        for (name, value) in body.split('&').filter_map(|field| field.split_once('=')) {
            if SECRET.contains(&name) {
                self.add(value);
            }
        }
    }
}

#[test]
fn past_bug_row_54_nothing_leaks_at_trace_level_or_in_a_crash() {
    let stage = stage();
    let undo = Undo { stage: &stage, bundle: None };
    stage.with_agents();
    stage.register_certificate();
    // Nothing of it may be left out of the journal for being too much.
    stage.drop_in(
        "Environment=NIGHTLATCH_LOG=trace RUST_LOG=trace RUST_BACKTRACE=full\nLogRateLimitIntervalSec=0",
    );
    let mut canaries = Canaries::default();
    for file in ["ci.secret", "acting.secret"] {
        canaries.add(
            &String::from_utf8(stage.node.read_file(&format!("/etc/nightlatch/{file}")).unwrap()).unwrap(),
        );
    }
    let pem = String::from_utf8(stage.node.read_file("/etc/nightlatch/ci.pem").unwrap()).unwrap();
    let key = pem.split("-----").find(|part| part.len() > 1_000).unwrap();
    key.lines().filter(|line| line.len() > 40).for_each(|line| canaries.add(line));
    let seal = "systemd-creds decrypt --name=nightlatch-seal /etc/credstore.encrypted/nightlatch-seal -";
    let seal = stage.node.shell(seal).unwrap();
    canaries.add(seal.trim().rsplit(' ').next().unwrap());

    stage.sign_in();
    let agent = ["--purpose", "agent"];
    let mut served = 0;
    for (unit, user, identity, resource, more) in [
        ("backup.service", BACKUP, "node", VAULT, &[][..]),
        ("sdk.service", "svc-sdk", "addon-by-object", VAULT, &[]),
        ("sdk.service", "svc-sdk", "addon-by-id", VAULT, &[]),
        ("app.service", APP, "by-secret", VAULT, &[]),
        ("app.service", APP, "by-secret", GRAPH, &["--enable-cae"]),
        ("app.service", APP, "by-certificate", VAULT, &[]),
        ("app.service", APP, "by-chain", VAULT, &[]),
        ("agent.service", DEV, "acting", VAULT, &agent),
        ("shell.service", DEV, "person", GRAPH, &[]),
        ("shell.service", DEV, "person", GRAPH, &["--force-refresh"]),
    ] {
        let given = stage.must(unit, user, identity, resource, more);
        canaries.add(given["accessToken"].as_str().unwrap());
        served += 1;
    }
    let server = "6256c85f-0aad-4d50-b960-e6e9b21efe35";
    let token = json!({"resource": server, "identity": {"name": "by-secret"}});
    let bound = json!({"token": token, "u": world::ARC_CLUSTER, "nonce": "n"});
    let (code, said) = stage.grpc("app.service", APP, "GetPopToken", &bound);
    assert_eq!(code, 0, "{said}");
    canaries.add(said["signed_request"].as_str().unwrap());
    // Refusals by the policy and by Entra, a source that sends garbage, one that is down.
    assert!(stage.token("any.service", OTHER, "node", VAULT, &[]).is_err());
    let expired = json!({"code": 7_000_222, "who": world::CI_PIPELINE_APP, "scope": "servicebus"});
    stage.tenant.control("POST", "entra/scripts", &expired).unwrap();
    assert!(stage.token("app.service", APP, "by-secret", BUS, &[]).is_err());
    assert!(stage.token("app.service", APP, "by-federation", VAULT, &[]).is_err(), "its file holds no token");
    for kind in ["garbage", "close"] {
        stage.tenant.control("PUT", "faults/entra", &json!({"kind": kind})).unwrap();
        assert!(stage.token("app.service", APP, "by-certificate", STORAGE, &[]).is_err(), "{kind}");
    }
    stage.tenant.control("DELETE", "faults/entra", &json!({})).unwrap();
    let requests = stage.tenant.control("GET", "requests?service=entra", &json!({})).unwrap();
    let requests = requests.as_array().unwrap();
    requests.iter().filter_map(|one| one["body"].as_str()).for_each(|body| canaries.add_form(body));
    assert!(
        requests.iter().any(|one| one["body"].as_str().is_some_and(|body| body.contains("refresh_token=")))
    );

    // A search that finds what is there, and then what is searched.
    let needles: Vec<&str> = canaries.0.iter().map(String::as_str).collect();
    println!("{served} tokens, {} requests to Entra, {} canaries", requests.len(), needles.len());
    assert!(needles.len() > 40, "{}", needles.len());
    stage.node.write_file("/root/needles", needles.join("\n").as_bytes(), 0o600, "root:root").unwrap();
    let find = |where_: &str| {
        stage.node.shell(&format!("grep -rlaF -f /root/needles {where_} 2>/dev/null || true")).unwrap()
    };
    assert!(find("/root/needles").contains("needles") && find("/etc/nightlatch").contains("ci.pem"));
    let planted = "CANARY=$(head -n 1 /root/needles) sh -c 'grep -laF -f /root/needles $(ls -d /proc/[0-9]*/environ) || true'";
    assert!(stage.node.shell(planted).unwrap().contains("/environ"), "the search sees no environment");
    let everywhere = || {
        let found = find(
            "/var/lib/nightlatch /run /var/log /var/lib/systemd /tmp /var/tmp $(ls -d /proc/[0-9]*/cmdline /proc/[0-9]*/environ)",
        );
        // What systemd hands over in memory is for the daemon alone.
        found
            .lines()
            .filter(|file| !file.starts_with("/run/credentials/"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let journal = "journalctl --sync; journalctl -o json --output-fields=MESSAGE,NIGHTLATCH_REASON >/dev/shm/j; \
                   journalctl -o export >>/dev/shm/j; grep -caF -f /root/needles /dev/shm/j || true";
    assert_eq!(stage.node.shell(journal).unwrap().trim(), "0");
    let loud: u64 =
        stage.node.shell("grep -ciE 'hyper|h2::|rustls' /dev/shm/j || true").unwrap().trim().parse().unwrap();
    println!("{loud} records of the libraries at trace level hold none of them");
    assert!(loud > 100, "the daemon was not at trace level: {loud}");
    assert_eq!(everywhere(), Vec::<String>::new());

    // Its memory: for no other uid, not for its own, and in no core.
    let pid = stage.node.shell("systemctl show -P MainPID nightlatchd").unwrap().trim().to_owned();
    for user in ["nightlatch", BACKUP, DEV] {
        for file in ["mem", "environ", "maps"] {
            let read =
                stage.node.exec_as(user, &["head", "-c", "1", &format!("/proc/{pid}/{file}")]).unwrap();
            let said = String::from_utf8_lossy(&read.stderr).into_owned();
            assert!(!read.status.success() && said.contains("ermission denied"), "{user} {file}: {read:?}");
        }
    }
    let limits = stage.node.shell(&format!("grep 'Max core file size' /proc/{pid}/limits")).unwrap();
    assert!(limits.split_whitespace().filter(|word| *word == "0").count() == 2, "{limits}");
    let cursor = stage.cursor();
    stage.node.shell(&format!("touch /root/before-the-crash; kill -ABRT {pid}")).unwrap();
    wait_until("the daemon to be back", SOON, || {
        let now = stage.node.shell("systemctl show -P MainPID nightlatchd").unwrap();
        now.trim() != pid
            && now.trim() != "0"
            && stage.node.exec(&["nightlatch", "status"]).is_ok_and(|done| done.status.success())
    })
    .unwrap();
    let ends: Vec<String> = stage
        .records_since(&cursor)
        .iter()
        .filter_map(|record| {
            record["MESSAGE"].as_str().filter(|text| text.contains("Main process exited")).map(str::to_owned)
        })
        .collect();
    assert!(ends.iter().any(|text| text.contains("code=killed, status=6/ABRT")), "{ends:?}");
    // A core is an ELF file; what the host's own root shows by such a name meanwhile is something else.
    let cores = "find / -xdev \\( -name 'core' -o -name 'core.*' -o -name '*.core' \\) -type f -newer /root/before-the-crash \
                 -exec sh -c 'head -c 4 \"$1\" | grep -q ELF' sh {} \\; -print; \
                 find /var/lib/systemd/coredump -type f 2>/dev/null || true";
    assert_eq!(stage.node.shell(cores).unwrap().trim(), "");
    assert_eq!(everywhere(), Vec::<String>::new());
    stage.node.shell("rm -f /root/needles /dev/shm/j /root/before-the-crash").unwrap();
    assert_eq!(stage.run("shell.service", DEV, &["nightlatch", "logout"]).0, 0);
    drop(undo);
}
