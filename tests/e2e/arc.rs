//! Machines outside Azure's public cloud: Arc-enabled servers, whose agent stands in for IMDS and wants
//! proof before it hands out a token, and the clouds of the US government and of China.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use nightlatch_emulator::world;
use nightlatch_world::{Binaries, Metadata, Node, NodeSpec, Tenant, attach, install, prepare, wait_until};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use crate::cloud::stage;
use crate::tenant::Cluster;

const TOKENS: &str = "/var/opt/azcmagent/tokens";

/// An Arc-enabled machine: the agent's folder and group, the tenant's id, and nothing else configured.
fn arc_machine(metadata: Metadata) -> Cluster {
    let image = prepare().unwrap();
    let node = Node::boot(&NodeSpec::default()).unwrap();
    node.shell(
        "useradd --system --user-group himds && install -d -m 0755 /var/opt/azcmagent /etc/nightlatch",
    )
    .unwrap();
    let tenant = Tenant::start(&node, metadata).unwrap();
    // As the Connected Machine agent leaves it: challenge files are for its group only.
    node.shell(&format!("install -d -m 2750 -o himds -g himds {TOKENS}")).unwrap();
    let text = format!("tenant = \"{}\"\nmode = \"enforce\"\n", world::TENANT);
    node.write_file("/etc/nightlatch/nightlatch.toml", text.as_bytes(), 0o644, "root:root").unwrap();
    let order = json!({"principal_id": world::ALICE.oid, "role_definition_id": world::ROLE_USER_LOGIN,
                       "scope": world::ARC_MACHINE});
    tenant.control("POST", "role-assignments", &order).unwrap();
    // What a package does where there is an agent.
    node.shell(
        "useradd --system --user-group --home-dir /var/lib/nightlatch --shell /usr/sbin/nologin \
                --groups himds nightlatch",
    )
    .unwrap();
    Cluster { image, tenant, node }
}

fn set_up(cluster: &Cluster) {
    install(&cluster.node, &Binaries::find().unwrap()).unwrap();
    attach(&cluster.node).unwrap();
    wait_until("the keys of himds", Duration::from_secs(10), || {
        cluster.node.exec(&["nightlatch", "status"]).is_ok_and(|done| done.status.success())
    })
    .unwrap_or_else(|why| panic!("{why}\n{}", cluster.journal()));
}

fn role_input(said: &Value) -> &str {
    let steps = said["steps"].as_array().unwrap();
    steps.iter().find(|step| step["rule"] == "role").unwrap()["input"].as_str().unwrap()
}

#[test]
fn an_arc_machine_needs_the_tenant_and_nothing_else() {
    let cluster = arc_machine(Metadata::Himds);
    set_up(&cluster);
    let (alice, adele) = (cluster.person(world::ALICE.upn), cluster.person(world::ADELE.upn));
    let login = cluster.ssh(&alice, world::ALICE.upn, &["sudo -n id -u || id -un"]);
    assert!(login.is_in(), "{login:?}\n{}", cluster.journal());
    assert_eq!(login.stdout.trim(), world::ALICE.upn);
    let login = cluster.ssh(&adele, world::ADELE.upn, &["sudo -n id -u"]);
    assert_eq!(login.stdout.trim(), "0", "{login:?}\n{}", cluster.journal());

    // Arc's own actions, at the machine's own scope.
    let (code, said) = cluster.judged(&alice, world::ALICE.upn);
    assert_eq!(code, 0, "{said}");
    let input = role_input(&said);
    assert!(input.contains("action=Microsoft.HybridCompute/machines/login/action"), "{input}");
    assert!(input.contains(&format!("scope={}", world::ARC_MACHINE)), "{input}");
    let norman = cluster.person(world::NORMAN.upn);
    let refused = cluster.ssh(&norman, world::NORMAN.upn, &["true"]);
    assert!(
        refused.stderr.contains("reason no_vm_role") && refused.stderr.contains(world::ARC_MACHINE),
        "{refused:?}"
    );

    // The token was had with proof, and the proof was used up.
    let seen = cluster.control("GET", "requests?service=himds", &json!({}));
    let statuses: Vec<i64> = seen
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["path"] == "/metadata/identity/oauth2/token")
        .map(|one| one["status"].as_i64().unwrap())
        .collect();
    assert_eq!(statuses, [401, 200]);
    assert_eq!(cluster.node.shell(&format!("ls {TOKENS}")).unwrap(), "");
    assert_eq!(cluster.calls("imds"), 0, "there is none");

    cluster.without_grace();
    // Without the group the secret stays a secret, and the person reads that it is not their fault.
    cluster.node.shell("gpasswd -d nightlatch himds").unwrap();
    cluster.restart();
    let (code, said) = cluster.judged(&alice, world::ALICE.upn);
    assert_eq!((code, &said["reason"]), (3, &json!("upstream_unknown")), "{said}");
    assert!(role_input(&said).contains("group himds"), "{said}");
}

/// Somebody who listens on himds' port: answers as himds does, names any file as proof, and keeps what
/// is sent to it.
struct Impostor {
    realm: Mutex<String>,
    proofs: Mutex<Vec<String>>,
    keys: Vec<Value>,
    token: String,
}

impl Impostor {
    fn listen(self: &Arc<Self>, node: &Node) {
        let network = File::open(format!("/proc/{}/ns/net", node.leader_pid())).unwrap();
        let (ready, listening) = mpsc::channel();
        let impostor = Arc::clone(self);
        std::thread::spawn(move || {
            setns(network.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind("127.0.0.1:40342").unwrap();
            ready.send(()).unwrap();
            for stream in listener.incoming() {
                // A caller that goes away is the caller's business.
                let _ = impostor.answer(&mut stream.unwrap());
            }
        });
        listening.recv().unwrap();
    }

    fn answer(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let proof = head.lines().find_map(|line| line.strip_prefix("authorization: Basic "));
        let (status, body) = if head.starts_with("GET /metadata/instance") {
            let compute = json!({"resourceId": world::ARC_MACHINE, "location": world::REGION,
                                 "azEnvironment": "AzurePublicCloud"});
            ("200 OK".to_owned(), json!({"compute": compute}))
        } else if head.starts_with("GET /metadata/login/ca_keys") {
            ("200 OK".to_owned(), json!(self.keys))
        } else if let Some(proof) = proof {
            self.proofs.lock().unwrap().push(proof.to_owned());
            (
                "200 OK".to_owned(),
                json!({"access_token": self.token, "expires_in": "3600", "token_type": "Bearer"}),
            )
        } else {
            let realm = self.realm.lock().unwrap();
            (format!("401 Unauthorized\r\nwww-authenticate: Basic realm={realm}"), json!({}))
        };
        let body = body.to_string();
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// CVE-2024-35255: the library was made to read any file and to send it.
#[test]
fn past_bug_row_48_a_challenge_reads_no_other_file() {
    let cluster = arc_machine(Metadata::None);
    let order = json!({"user": world::ARC_OID, "audience": "https://authorization.azure.net"});
    let token = cluster.control("POST", "tokens", &order)["access_token"].as_str().unwrap().to_owned();
    let listed = cluster.control("GET", "ssh-ca", &json!({}));
    let keys = listed.as_array().unwrap().iter().map(|key| key["public_key"].clone()).collect();
    let impostor = Arc::new(Impostor { realm: Mutex::default(), proofs: Mutex::default(), keys, token });
    impostor.listen(&cluster.node);
    set_up(&cluster);
    let alice = cluster.person(world::ALICE.upn);

    // Every file here could be read by the daemon.
    cluster
        .node
        .shell(&format!(
            "cd {TOKENS} && umask 022 && echo secret >/etc/nightlatch/secret.key && ln -s /etc/nightlatch/secret.key link.key &&
             head -c 5000 /dev/zero | tr '\\0' x >big.key && mkfifo -m 644 pipe.key && mkdir folder.key &&
             echo secret >plain.txt && echo secret >theirs.key && chown nobody theirs.key && printf proof >good.key &&
             chgrp -R himds ."
        ))
        .unwrap();
    for (realm, words) in [
        ("/etc/nightlatch/secret.key".to_owned(), "not a .key file of its folder"),
        (format!("{TOKENS}/../../../../etc/nightlatch/secret.key"), "not a .key file of its folder"),
        (format!("{TOKENS}//good.key"), "not a .key file of its folder"),
        (format!("{TOKENS}/plain.txt"), "not a .key file of its folder"),
        (format!("{TOKENS}/link.key"), "a symbolic link"),
        (format!("{TOKENS}/big.key"), "larger than 4096 bytes"),
        (format!("{TOKENS}/pipe.key"), "not a regular file"),
        (format!("{TOKENS}/folder.key"), "not a regular file"),
        (format!("{TOKENS}/theirs.key"), "not owned by the agent"),
        (String::new(), "himds"),
    ] {
        impostor.realm.lock().unwrap().clone_from(&realm);
        cluster.restart();
        let (code, said) = cluster.judged(&alice, world::ALICE.upn);
        assert_eq!((code, &said["reason"]), (3, &json!("upstream_unknown")), "{realm}: {said}");
        assert!(role_input(&said).contains(words), "{realm}: {said}");
        assert_eq!(*impostor.proofs.lock().unwrap(), Vec::<String>::new(), "{realm}");
    }
    // The same questions with the right file: this test can see a proof.
    *impostor.realm.lock().unwrap() = format!("{TOKENS}/good.key");
    cluster.restart();
    let login = cluster.ssh(&alice, world::ALICE.upn, &["true"]);
    assert!(login.is_in(), "{login:?}\n{}", cluster.journal());
    assert_eq!(*impostor.proofs.lock().unwrap(), ["proof"]);
}

#[test]
fn the_other_clouds_are_asked_at_their_own_hosts() {
    let cluster = stage();
    let alice = cluster.person(world::ALICE.upn);
    let clouds = [
        ("AzureUSGovernment", "usgovvirginia", "authorization.azure.us", "management.usgovcloudapi.net"),
        ("AzureChinaCloud", "chinanorth3", "authorization.azure.cn", "management.chinacloudapi.cn"),
    ];
    let only_hosts = |service: &str| -> Vec<String> {
        let seen = cluster.control("GET", &format!("requests?service={service}"), &json!({}));
        let hosts = seen.as_array().unwrap().iter().map(|one| one["host"].as_str().unwrap().to_owned());
        let mut hosts: Vec<String> = hosts.collect();
        hosts.dedup();
        hosts
    };
    for (name, region, pdp, arm) in clouds {
        let host = format!("{region}.{pdp}");
        let names = cluster.node.read_file("/etc/hosts").unwrap();
        let names = format!("{}127.0.0.1 {host}\n", String::from_utf8(names).unwrap());
        cluster.node.write_file("/etc/hosts", names.as_bytes(), 0o644, "root:root").unwrap();
        for (back_end, service, asked) in [("pdp", "pdp", &*host), ("checkaccess", "arm", arm)] {
            cluster.control("DELETE", "counters", &json!({}));
            cluster.configure(&format!(
                "cloud = \"{name}\"\n[node]\nregion = \"{region}\"\n[login]\nroles_from = \"{back_end}\"\n"
            ));
            let login = cluster.ssh(&alice, world::ALICE.upn, &["true"]);
            assert!(login.is_in(), "{name}: {login:?}\n{}", cluster.journal());
            assert_eq!(only_hosts(service), [asked], "{name} {back_end}");
            let tokens = cluster.control("GET", "requests?service=imds", &json!({}));
            let tokens: Vec<&str> =
                tokens.as_array().unwrap().iter().filter_map(|one| one["query"].as_str()).collect();
            let audience = if service == "pdp" { pdp } else { arm };
            let wanted = format!("resource=https%3A%2F%2F{audience}");
            let resources: Vec<_> = tokens.iter().filter(|query| query.contains("resource=")).collect();
            assert!(
                !resources.is_empty() && resources.iter().all(|query| query.contains(&wanted)),
                "{resources:?}"
            );
        }
    }
    // Not configured: the machine itself says where it is.
    let azure = cluster.node.read_file("/etc/kubernetes/azure.json").unwrap();
    let mut said: Value = serde_json::from_slice(&azure).unwrap();
    said["cloud"] = json!("AzureUSGovernmentCloud");
    said["location"] = json!("usgovvirginia");
    cluster.control(
        "PUT",
        "node",
        &json!({"location": "usgovvirginia", "environment": "AzureUSGovernmentCloud"}),
    );
    let write = |bytes: &[u8]| {
        cluster.node.write_file("/etc/kubernetes/azure.json", bytes, 0o600, "root:root").unwrap();
    };
    write(said.to_string().as_bytes());
    cluster.control("DELETE", "counters", &json!({}));
    cluster.configure("");
    let login = cluster.ssh(&alice, world::ALICE.upn, &["true"]);
    write(&azure);
    assert!(login.is_in(), "{login:?}\n{}", cluster.journal());
    assert_eq!(only_hosts("pdp"), ["usgovvirginia.authorization.azure.us"]);
}
