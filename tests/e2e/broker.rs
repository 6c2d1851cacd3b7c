//! Tokens for local programs on a real node: who gets which, who is refused and reads why, and what the
//! tenant is asked meanwhile. The programs are services of systemd, as an administrator starts them.

use std::ops::Deref;
use std::process::Output;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nightlatch_emulator::world;
use nightlatch_world::{interop, interop_drivers, wait_until};
use serde_json::{Value, json};

use crate::broker_sources;
use crate::tenant::Cluster;

pub(crate) const IMDS_SOCKET: &str = "/run/nightlatch/imds.sock";
pub(crate) const BROKER_SOCKET: &str = "/run/nightlatch/broker.sock";
pub(crate) const LOOPBACK: &str = "127.0.0.1:40399";
pub(crate) const VAULT: &str = "https://vault.azure.net";
pub(crate) const STORAGE: &str = "https://storage.azure.com";
const DATABASE: &str = "https://database.windows.net";
const BUS: &str = "https://servicebus.azure.net";
/// The server application of AKS.
pub(crate) const AKS: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
/// The users of the services.
pub(crate) const BACKUP: &str = "svc-backup";
pub(crate) const OTHER: &str = "svc-other";
const THIRD: &str = "svc-third";
/// A person's account on the node, and somebody else's.
const DEV: &str = "dev";
/// The user-assigned identity of the add-on.
pub(crate) const ADDON_ID: &str = "/subscriptions/22222222-0000-0000-0000-000000000001/resourcegroups/rg-shop/providers/Microsoft.ManagedIdentity/userAssignedIdentities/addon";

const POLICY: &str = r#"
[[rule]]
name = "never-the-database"
effect = "deny"
who = { user = ["svc-other"] }
may = { resource = ["https://database.windows.net"] }

[[rule]]
name = "backup-vault"
who = { user = ["svc-backup"], unit = ["backup.service"] }
may = { identity = ["node"], resource = ["https://vault.azure.net"] }

[[rule]]
name = "storage-for-services"
who = { user = ["svc-backup", "svc-other", "svc-third"] }
may = { identity = ["node"], resource = ["https://storage.azure.com"] }

[[rule]]
name = "sdk-clients"
who = { user = ["svc-sdk"] }
may = { identity = ["node", "addon-by-object", "addon-by-id"], resource = ["https://vault.azure.net", "https://servicebus.azure.net", "https://management.azure.com", "https://management.core.windows.net"] }

[[rule]]
name = "clusters"
who = { user = ["svc-kube"] }
may = { identity = ["node"], resource = ["6dae42f8-4368-4678-94ff-3960e28e3630"] }

[[rule]]
name = "applications"
who = { user = ["svc-app"] }
may = { identity = ["by-secret", "by-certificate", "by-chain", "by-federation", "by-proxy"], cae = true, pop = true, resource = ["https://vault.azure.net", "https://storage.azure.com", "https://servicebus.azure.net", "https://graph.microsoft.com", "6256c85f-0aad-4d50-b960-e6e9b21efe35"] }

[[rule]]
name = "the-nodes-root"
who = { uid = [0], place = "host" }
may = { identity = ["node"], resource = ["https://database.windows.net"] }

[[rule]]
name = "people"
who = { user = ["dev", "dev2"] }
may = { identity = ["person"], resource = ["https://graph.microsoft.com", "6dae42f8-4368-4678-94ff-3960e28e3630"] }
"#;

/// The configuration of the broker for these stories.
fn settings() -> String {
    format!(
        r#"
[broker]
loopback = "{LOOPBACK}"
device_code = true
[broker.sign_in]
client_id = "{}"
[[broker.identity]]
name = "node"
kind = "managed"
client_id = "{}"
[[broker.identity]]
name = "addon-by-object"
kind = "managed"
object_id = "{}"
[[broker.identity]]
name = "addon-by-id"
kind = "managed"
resource_id = "{ADDON_ID}"
"#,
        world::OWN_APP,
        world::KUBELET_CLIENT,
        world::ADDON_OID
    ) + &broker_sources::identities()
}

/// The node of these stories, for one of them at a time: they break its services.
pub(crate) struct Stage {
    cluster: &'static Cluster,
    _alone: MutexGuard<'static, ()>,
}

impl Deref for Stage {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.cluster
    }
}

/// The node, whole again: with two managed identities and the clients that others wrote.
pub(crate) fn stage() -> Stage {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    // A story that failed leaves faults behind, which are taken away here.
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = shared();
    cluster.tenant.control("DELETE", "faults", &json!({})).unwrap();
    Stage { cluster, _alone: alone }
}

fn shared() -> &'static Cluster {
    static STAGE: OnceLock<Cluster> = OnceLock::new();
    STAGE.get_or_init(|| {
        let made = nightlatch_world::Cluster::bare(&settings()).unwrap_or_else(|why| panic!("{why}"));
        made.node.add_users(&[BACKUP, OTHER, THIRD, "svc-sdk", "svc-kube", "svc-app", DEV, "dev2"]).unwrap();
        made.node.shell("install -d -m 0755 /etc/nightlatch/broker.d").unwrap();
        let path = "/etc/nightlatch/broker.d/50-stories.toml";
        made.node.write_file(path, POLICY.as_bytes(), 0o644, "root:root").unwrap();
        made.node
            .shell(
                "useradd --system --user-group --home-dir /var/lib/nightlatch --shell /usr/sbin/nologin nightlatch",
            )
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in broker_sources::lay(folder.path()) {
            made.node.write_file(path, &content, 0o640, "root:nightlatch").unwrap();
        }
        made.node.copy_in(&made.tenant.file("tls-ca.pem"), "/etc/nightlatch/proxy-ca.pem", 0o644).unwrap();
        let mut node = made.tenant.control("GET", "node", &json!({})).unwrap();
        let addon =
            json!({"client_id": world::ADDON_CLIENT, "object_id": world::ADDON_OID, "resource_id": ADDON_ID});
        node["identities"].as_array_mut().unwrap().push(addon);
        made.tenant.control("PUT", "node", &node).unwrap();
        made.install().unwrap_or_else(|why| panic!("{why}"));
        let sockets = wait_until("the broker's sockets", Duration::from_secs(15), || {
            made.node
                .exec(&["test", "-S", IMDS_SOCKET, "-a", "-S", BROKER_SOCKET])
                .is_ok_and(|done| done.status.success())
        });
        let nightlatch_world::Cluster { image, tenant, node } = made;
        let cluster = Cluster { image, tenant, node };
        sockets.unwrap_or_else(|why| panic!("{why}\n{}", cluster.journal()));
        cluster.node.lend(&interop_drivers(), "drivers").unwrap();
        let sdk = interop("sdk").unwrap();
        cluster.node.open_way(&sdk.join("bin/python")).unwrap();
        cluster.node.lend(&sdk, "sdk").unwrap();
        cluster.node.lend(&interop("stubs").unwrap(), "stubs").unwrap();
        cluster
    })
}

/// What a driver printed: its line of JSON, and its exit status.
pub(crate) fn line_of(done: &Output, cluster: &Cluster) -> (i32, Value) {
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let line = out.lines().rev().find(|line| line.starts_with('{'));
    let said = line.and_then(|line| serde_json::from_str(line).ok());
    let said = said.unwrap_or_else(|| panic!("{}\n{out}{err}\n{}", done.status, cluster.journal()));
    (done.status.code().unwrap(), said)
}

impl Cluster {
    /// A driver of tests/interop in a service; it must succeed.
    pub(crate) fn driver(&self, unit: &str, user: &str, words: &[&str]) -> Value {
        let done = self.python(unit, user, words);
        let (code, said) = line_of(&done, self);
        assert_eq!(code, 0, "{said}{}\n{}", String::from_utf8_lossy(&done.stderr), self.journal());
        said
    }

    fn python(&self, unit: &str, user: &str, words: &[&str]) -> Output {
        let driver = format!("/opt/interop/drivers/{}", words[0]);
        let words = [&["/opt/interop/sdk/bin/python", &driver], &words[1..]].concat();
        self.node.service(unit, user).env("PYTHONDONTWRITEBYTECODE", "1").run(&words).unwrap()
    }

    /// One call of the gRPC contract by Google's library: status of the program, and what it saw.
    pub(crate) fn grpc(&self, unit: &str, user: &str, method: &str, request: &Value) -> (i32, Value) {
        let request = request.to_string();
        let words = ["grpc_client.py", BROKER_SOCKET, method, &request, "--stubs", "/opt/interop/stubs"];
        line_of(&self.python(unit, user, &words), self)
    }

    /// How often IMDS was asked for a token of this resource.
    pub(crate) fn imds_asked(&self, resource: &str) -> usize {
        let seen = self.tenant.control("GET", "requests?service=imds", &json!({})).unwrap();
        let mark = format!("resource={}", resource.replace(':', "%3A").replace('/', "%2F"));
        let about = |one: &&Value| {
            let query = one["query"].as_str().unwrap();
            query.contains(&mark) || query.contains(&format!("resource={resource}"))
        };
        seen.as_array().unwrap().iter().filter(about).count()
    }
}

#[test]
fn a_service_that_the_policy_names_gets_its_token() {
    let cluster = stage();
    let said = cluster.driver(
        "backup.service",
        BACKUP,
        &["curl_imds.py", IMDS_SOCKET, "--resource", VAULT, "--granted"],
    );
    for (spelling, token) in said["granted"].as_object().unwrap() {
        assert_eq!(token["client_id"], world::KUBELET_CLIENT, "{spelling}");
        assert_eq!(token["oid"], world::KUBELET_OID, "{spelling}");
    }
}

#[test]
fn the_others_are_refused_and_read_which_rule() {
    let cluster = stage();
    for (unit, user, resource, rule) in [
        // The right user in another unit; another user in a unit of that name; nobody's resource.
        ("elsewhere.service", BACKUP, VAULT, "default"),
        ("backup.service", OTHER, VAULT, "default"),
        ("backup.service", BACKUP, "https://management.azure.com", "default"),
        ("any.service", OTHER, DATABASE, "never-the-database"),
    ] {
        let said = cluster.driver(
            unit,
            user,
            &["curl_imds.py", IMDS_SOCKET, "--resource", resource, "--denied", rule],
        );
        assert!(said["denied"]["message"].is_string(), "{said}");
        let (code, said) = cluster.grpc(unit, user, "GetToken", &json!({"resource": resource}));
        assert_eq!((code, &said["status"]), (3, &json!("PERMISSION_DENIED")), "{said}");
        assert_eq!(said["metadata"]["rule"], rule, "{said}");
        assert!(said["metadata"]["caller"].as_str().is_some_and(|caller| !caller.is_empty()), "{said}");
    }
    assert_eq!(cluster.imds_asked("https://management.azure.com"), 0, "a refusal costs no question");
}

#[test]
fn the_contract_holds_for_a_client_in_another_language() {
    let cluster = stage();
    let ask =
        |user: &str, method: &str, request: Value| cluster.grpc("backup.service", user, method, &request);
    let (code, token) = ask(BACKUP, "GetToken", json!({"resource": VAULT, "identity": {"name": "node"}}));
    assert_eq!(
        (code, &token["identity"], &token["rule"]),
        (0, &json!("node"), &json!("backup-vault")),
        "{token}"
    );
    assert_eq!((&token["token_type"], &token["resource"]), (&json!("Bearer"), &json!(VAULT)), "{token}");
    let (code, watched) = ask(BACKUP, "WatchToken", json!({"resource": VAULT}));
    assert_eq!((code, &watched["token"]["uti"]), (0, &token["token"]["uti"]), "{watched}");

    let (_, me) = ask(BACKUP, "WhoAmI", json!({}));
    assert_eq!((&me["unit"], &me["place"]), (&json!("backup.service"), &json!("host")), "{me}");
    let rules = me["rules"].as_array().unwrap();
    assert!(rules.contains(&json!("backup-vault")) && !rules.contains(&json!("the-nodes-root")), "{me}");
    let (_, mine) = ask(BACKUP, "ListIdentities", json!({}));
    let names: Vec<_> = mine["identities"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    // One's own sign-in needs no rule; of the node's identities there is the one that the rules give.
    assert_eq!(names, [&json!("node"), &json!("person")], "{mine}");

    let (_, why) = ask(OTHER, "Explain", json!({"resource": VAULT}));
    assert_eq!(why.get("allowed"), None, "{why}");
    assert_eq!(why["rule"], "default", "{why}");
    assert!(why["trace"].as_array().is_some_and(|trace| trace.len() >= 2), "{why}");
    let kept = |user: &str| {
        let (code, kept) = cluster.grpc("list.service", user, "ListTokens", &json!({}));
        assert_eq!(code, 0, "{kept}");
        let kept = kept["tokens"].as_array().cloned().unwrap_or_default();
        kept.iter().filter(|one| one["resource"] == VAULT).count()
    };
    assert_eq!((kept("root"), kept(OTHER)), (1, 0), "root sees what is kept for all, others their own");

    let (code, wrong) = ask(BACKUP, "GetToken", json!({"resource": "https://vault.azure.net\\x"}));
    assert_eq!(
        (code, &wrong["status"], &wrong["reason"]),
        (3, &json!("INVALID_ARGUMENT"), &json!("bad_request"))
    );
}

/// Three users, sixty programs, all at once and none before: one question to IMDS.
#[test]
fn many_cold_callers_cost_one_question() {
    let cluster = stage();
    let slow = json!({"kind": "slow", "ms": 1_500, "path": "storage"});
    cluster.tenant.control("PUT", "faults/imds", &slow).unwrap();
    let target =
        format!("http://localhost/metadata/identity/oauth2/token?api-version=2018-02-01&resource={STORAGE}");
    let crowd = format!(
        "seq 20 | xargs -P 20 -I@ curl --silent --max-time 30 --output /dev/null --write-out '%{{http_code}}\\n' \
         --header 'Metadata: true' --unix-socket {IMDS_SOCKET} '{target}' | sort | uniq -c"
    );
    let before = cluster.imds_asked(STORAGE);
    std::thread::scope(|scope| {
        let services = [("one.service", BACKUP), ("two.service", OTHER), ("three.service", THIRD)];
        let running = services.map(|(unit, user)| {
            let (crowd, node) = (crowd.as_str(), &cluster.node);
            scope.spawn(move || node.service(unit, user).run(&["sh", "-c", crowd]).unwrap())
        });
        for done in running {
            let done = done.join().unwrap();
            assert_eq!(
                String::from_utf8_lossy(&done.stdout).trim(),
                "20 200",
                "{done:?}\n{}",
                cluster.journal()
            );
        }
    });
    cluster.tenant.control("DELETE", "faults/imds", &json!({})).unwrap();
    assert_eq!(cluster.imds_asked(STORAGE) - before, 1);
}

#[test]
fn a_kept_token_outlives_its_source() {
    let cluster = stage();
    let curl = ["curl_imds.py", IMDS_SOCKET, "--resource", VAULT, "--granted"];
    let before = cluster.driver("backup.service", BACKUP, &curl);
    let gone = json!({"kind": "status", "status": 503, "path": "identity"});
    cluster.tenant.control("PUT", "faults/imds", &gone).unwrap();
    let after = cluster.driver("backup.service", BACKUP, &curl);
    let new = cluster.grpc("sdk.service", "svc-sdk", "GetToken", &json!({"resource": BUS}));
    cluster.tenant.control("DELETE", "faults/imds", &json!({})).unwrap();
    assert_eq!(before["granted"]["plain"]["uti"], after["granted"]["plain"]["uti"]);
    assert_eq!((new.0, &new.1["status"]), (3, &json!("UNAVAILABLE")), "{}", new.1);
    assert_eq!(new.1["reason"], "source_unavailable", "{}", new.1);
    assert!(new.1["retry"].is_number(), "{}", new.1);
}

/// A container's root has uid 0, and the socket may be mounted there.
#[test]
fn past_bug_row_46_root_of_a_container_is_not_the_nodes_root() {
    let cluster = stage();
    let ask = |prefix: &[&str], method: &str, request: &str| {
        let words = [
            "/opt/interop/sdk/bin/python",
            "/opt/interop/drivers/grpc_client.py",
            BROKER_SOCKET,
            method,
            request,
            "--stubs",
            "/opt/interop/stubs",
        ];
        let done = cluster.node.service("container.service", "root").run(&[prefix, &words].concat()).unwrap();
        line_of(&done, &cluster)
    };
    let wish = json!({"resource": DATABASE}).to_string();
    let (code, token) = ask(&["env"], "GetToken", &wish);
    assert_eq!((code, &token["rule"]), (0, &json!("the-nodes-root")), "{token}");
    for inside in [
        &["unshare", "--pid", "--fork", "--mount-proc"][..],
        &["unshare", "--user", "--map-root-user"],
        &["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"],
    ] {
        let (_, me) = ask(inside, "WhoAmI", "{}");
        assert_eq!(me["place"], "container", "{inside:?}: {me}");
        let (code, said) = ask(inside, "GetToken", &wish);
        assert_eq!((code, &said["status"]), (3, &json!("PERMISSION_DENIED")), "{inside:?}: {said}");
        let (_, kept) = ask(inside, "ListTokens", "{}");
        let kept = kept["tokens"].as_array().cloned().unwrap_or_default();
        assert!(kept.iter().all(|one| one["resource"] != VAULT), "{inside:?}: {kept:?}");
    }
}

#[test]
fn a_bad_policy_keeps_the_one_before() {
    let cluster = stage();
    let path = "/etc/nightlatch/broker.d/60-more.toml";
    let granted = || cluster.grpc("backup.service", BACKUP, "GetToken", &json!({"resource": VAULT})).0;
    assert_eq!(granted(), 0);
    let bad = "[[rule]]\nname = \"typo\"\neffect = \"deny\"\nwho = { unitt = [\"backup.service\"] }\n";
    cluster.node.write_file(path, bad.as_bytes(), 0o644, "root:root").unwrap();
    // Whether the reload itself reports the mistake is the reload's business; the journal must name it.
    drop(cluster.node.exec(&["systemctl", "reload", "nightlatchd"]).unwrap());
    let named = wait_until("the mistake in the journal", Duration::from_secs(10), || {
        cluster.journal().contains("60-more.toml")
    });
    cluster.node.shell(&format!("rm {path}")).unwrap();
    named.unwrap_or_else(|why| panic!("{why}\n{}", cluster.journal()));
    assert_eq!(granted(), 0, "{}", cluster.journal());
    drop(cluster.node.exec(&["systemctl", "reload", "nightlatchd"]).unwrap());
}

/// A person signs in under their uid; nobody else has that sign-in, whatever they ask for.
#[test]
fn past_bug_row_22_a_sign_in_is_for_its_uid_alone() {
    let cluster = stage();
    cluster.tenant.control("PUT", "entra", &json!({"interactive_user": world::ALICE.upn})).unwrap();
    let as_person = |user: &str, words: &[&str]| {
        let done = cluster.node.service("shell.service", user).run(words).unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        (done.status.code().unwrap(), text)
    };
    let graph = [
        "nightlatch",
        "token",
        "get",
        "--identity",
        "person",
        "--resource",
        "https://graph.microsoft.com",
        "-o",
        "json",
    ];
    let (code, text) = as_person(DEV, &graph);
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("nightlatch login"), "{text}");
    let (code, text) = as_person(DEV, &["nightlatch", "login", "--device-code"]);
    assert_eq!(code, 0, "{text}\n{}", cluster.journal());
    assert!(text.contains(world::ALICE.upn), "{text}");
    let (code, text) = as_person(DEV, &graph);
    assert_eq!(code, 0, "{text}\n{}", cluster.journal());
    for (user, words) in [
        ("dev2", &graph[..]),
        (BACKUP, &graph),
        ("root", &graph),
        ("dev2", &["nightlatch", "token", "get", "--resource", "https://graph.microsoft.com", "-o", "json"]),
        (
            "dev2",
            &[
                "nightlatch",
                "token",
                "get",
                "--identity",
                world::ALICE.upn,
                "--resource",
                "https://graph.microsoft.com",
            ],
        ),
        (
            "dev2",
            &[
                "nightlatch",
                "token",
                "get",
                "--object-id",
                world::ALICE.oid,
                "--resource",
                "https://graph.microsoft.com",
            ],
        ),
    ] {
        let (code, text) = as_person(user, words);
        assert!(code != 0 && !text.contains("accessToken"), "{user} {words:?}: {text}");
    }
    let (code, text) = as_person("dev2", &["nightlatch", "whoami"]);
    assert!(!text.contains(world::ALICE.upn), "{code} {text}");
    assert_eq!(as_person(DEV, &["nightlatch", "logout"]).0, 0);
    assert_ne!(as_person(DEV, &graph).0, 0);
}

/// After everything that went through it, the node holds no token outside the daemon's memory.
#[test]
fn past_bug_row_54_no_token_is_written_down() {
    let cluster = stage();
    let words = ["nightlatch", "token", "get", "--resource", DATABASE, "-o", "token"];
    let done = cluster.node.service("root.service", "root").run(&words).unwrap();
    let token = String::from_utf8(done.stdout).unwrap();
    let parts: Vec<&str> = token.trim().split('.').collect();
    assert_eq!(parts.len(), 3, "{}\n{}", String::from_utf8_lossy(&done.stderr), cluster.journal());
    let journal = cluster.node.shell("journalctl --sync; journalctl -o export").unwrap();
    let pid = cluster.node.shell("systemctl show -P MainPID nightlatchd").unwrap();
    let pid = pid.trim();
    for part in &parts[1..] {
        assert!(!journal.contains(part), "the journal holds a token");
        let search = format!(
            "grep -rlF -e '{part}' /var/lib/nightlatch /run/nightlatch /var/lib/private /var/log /tmp /proc/{pid}/cmdline \
             /proc/{pid}/environ 2>/dev/null || true"
        );
        assert_eq!(cluster.node.shell(&search).unwrap(), "");
    }
}
