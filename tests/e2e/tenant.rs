//! People of an emulated tenant: certificates as `az ssh cert` gets them, roles from the policy
//! decision point, the authorities' keys from IMDS, and not one line of configuration but the mode.

use std::sync::OnceLock;
use std::time::Duration;

use nightlatch_emulator::world;
use nightlatch_world::{Image, Node, NodeSpec, Person, SshOutcome, Tenant, wait_until};
use serde_json::json;

/// An administrator who loses the role in the middle of a session.
const GUSTAV: &str = "9057a500-0000-4000-8000-0000000000ab";

/// Somebody who joins while the stories run.
const GLORIA: &str = "91041a00-0000-4000-8000-0000000000aa";

/// A node of an AKS cluster in the emulated cloud.
pub(crate) struct Cluster {
    pub(crate) image: Image,
    pub(crate) tenant: Tenant,
    pub(crate) node: Node,
}

/// The shared one.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start(""))
}

impl Cluster {
    /// Boots it; `more` goes to the end of the configuration.
    pub(crate) fn start(more: &str) -> Self {
        Self::start_on(&NodeSpec::default(), more)
    }

    /// The same on a node of this kind.
    pub(crate) fn start_on(spec: &NodeSpec, more: &str) -> Self {
        let started = nightlatch_world::Cluster::start_on(spec, more);
        let nightlatch_world::Cluster { image, tenant, node } = started.unwrap_or_else(|why| panic!("{why}"));
        Self { image, tenant, node }
    }

    /// Somebody signed in as `upn`.
    pub(crate) fn person(&self, upn: &str) -> Person {
        let person = Person::new(&self.image).unwrap();
        self.tenant.sign_in(&person, upn).unwrap();
        person
    }

    pub(crate) fn ssh(&self, person: &Person, user: &str, words: &[&str]) -> SshOutcome {
        self.node.ssh(person, user, words, &[]).unwrap()
    }

    pub(crate) fn journal(&self) -> String {
        self.node.journal(&["-u", "nightlatchd", "-n", "40"]).unwrap()
    }
}

#[test]
fn a_user_of_the_tenant_logs_in_without_configuration() {
    let cluster = cluster();
    let alice = cluster.person("alice@contoso.com");
    let login = cluster.ssh(&alice, "alice@contoso.com", &["id -un"]);
    assert!(login.is_in(), "{login:?}\n{}", cluster.journal());
    assert_eq!(login.stdout.trim(), "alice@contoso.com");
}

#[test]
fn an_admin_of_the_tenant_runs_sudo() {
    let cluster = cluster();
    let adele = cluster.person("adele@contoso.com");
    let login = cluster.ssh(&adele, "adele@contoso.com", &["sudo -n id -u"]);
    assert!(login.is_in(), "{login:?}\n{}", cluster.journal());
    assert_eq!(login.stdout.trim(), "0");
}

#[test]
fn a_service_principal_logs_in_by_its_guid() {
    let cluster = cluster();
    let pipeline = Person::new(&cluster.image).unwrap();
    cluster.tenant.sign_in_app(&pipeline, world::CI_PIPELINE_APP, world::CI_PIPELINE_SECRET).unwrap();
    let logins: Vec<SshOutcome> = [world::CI_PIPELINE_APP, world::CI_PIPELINE.oid]
        .iter()
        .map(|name| cluster.ssh(&pipeline, name, &["id -un"]))
        .collect();
    // Whether Entra names the application or the object is not public: the certificate decides.
    assert_eq!(logins.iter().filter(|login| login.is_in()).count(), 1, "{logins:?}\n{}", cluster.journal());
}

#[test]
fn a_guest_and_a_name_spelled_with_capitals_log_in() {
    let cluster = cluster();
    let bob = cluster.person(world::BOB.upn);
    let login = cluster.ssh(&bob, world::BOB_MAIL, &["id -un"]);
    assert!(login.is_in(), "{login:?}\n{}", cluster.journal());
    let mixed = cluster.person(world::MIXED_CASE.upn);
    let login = cluster.ssh(&mixed, "mixed.case@contoso.com", &["id -un"]);
    assert_eq!(login.stdout.trim(), "mixed.case@contoso.com", "{login:?}\n{}", cluster.journal());
}

#[test]
fn each_missing_right_has_its_reason_on_the_terminal() {
    let cluster = cluster();
    for (upn, words) in [
        (world::NORMAN.upn, "reason no_vm_role"),
        (world::OLGA.upn, "reason no_vm_role"),
        (world::DORA.upn, "reason deny_assignment"),
        (world::PETRA.upn, "Privileged Identity Management"),
    ] {
        let person = cluster.person(upn);
        let login = cluster.ssh(&person, upn, &["id"]);
        assert_eq!(login.status, 255, "{upn}: {login:?}");
        assert!(login.stderr.contains(words), "{upn}: {login:?}\n{}", cluster.journal());
    }
}

/// The grant of the login is still kept when sudo is asked: sudo must not take it.
#[test]
fn sudo_ends_with_the_role_in_the_same_session() {
    let cluster = cluster();
    let order = json!({"oid": GUSTAV, "upn": "gustav@contoso.com"});
    cluster.tenant.control("POST", "users", &order).unwrap();
    let order =
        json!({"principal_id": GUSTAV, "role_definition_id": world::ROLE_ADMIN_LOGIN, "scope": world::NODE});
    let made = cluster.tenant.control("POST", "role-assignments", &order).unwrap();
    let id = made.get("id").and_then(|id| id.as_str()).unwrap().to_owned();
    // Without any role left the whole session would end.
    let order =
        json!({"principal_id": GUSTAV, "role_definition_id": world::ROLE_USER_LOGIN, "scope": world::NODE});
    cluster.tenant.control("POST", "role-assignments", &order).unwrap();
    let gustav = cluster.person("gustav@contoso.com");
    let script = "sudo -n id -u; touch /tmp/first-sudo; until test -e /tmp/role-taken; do sleep 0.1; done; sudo -n id -u || echo refused; id -un";
    let session = std::thread::scope(|scope| {
        let session = scope.spawn(|| cluster.ssh(&gustav, "gustav@contoso.com", &[script]));
        let first = wait_until("gustav's first sudo", Duration::from_secs(20), || {
            cluster.node.exec(&["test", "-e", "/tmp/first-sudo"]).is_ok_and(|done| done.status.success())
        });
        assert!(first.is_ok(), "{}", cluster.journal());
        cluster.tenant.control("DELETE", &format!("role-assignments/{id}"), &json!({})).unwrap();
        cluster.node.shell("touch /tmp/role-taken").unwrap();
        session.join().unwrap()
    });
    let lines: Vec<&str> = session.stdout.lines().filter(|line| !line.starts_with("nightlatch:")).collect();
    assert_eq!(lines.first(), Some(&"0"), "{session:?}\n{}", cluster.journal());
    assert!(session.stdout.contains("refused\ngustav@contoso.com"), "{session:?}\n{}", cluster.journal());
}

#[test]
fn journalctl_explains_a_refusal() {
    let cluster = cluster();
    let person = cluster.person(world::DORA.upn);
    let login = cluster.ssh(&person, world::DORA.upn, &["id"]);
    let id = login.stderr.split("ref ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let field = format!("NIGHTLATCH_CORRELATION={id}");
    let mut said = String::new();
    wait_until("the record in the journal", Duration::from_secs(5), || {
        let done = cluster.node.exec(&[
            "journalctl",
            "-x",
            "--no-pager",
            "NIGHTLATCH_REASON=deny_assignment",
            &field,
        ]);
        said = done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
        said.contains(&format!("nightlatch explain {id}"))
    })
    .unwrap_or_else(|why| panic!("{why}: {said}"));
}

#[test]
fn what_sshd_refuses_has_its_reason_in_explain() {
    let cluster = cluster();
    let now =
        i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
    let now = now.unwrap();
    for (name, order, reason) in [
        (
            "erin@contoso.com",
            json!({"valid_after": now - 7_200, "valid_before": now - 3_600, "principals": ["erin@contoso.com"]}),
            "cert_expired",
        ),
        ("fritz@contoso.com", json!({"ca": "foreign", "principals": ["fritz@contoso.com"]}), "ca_unknown"),
    ] {
        let person = Person::new(&cluster.image).unwrap();
        cluster.tenant.forge(&person, order).unwrap();
        let login = cluster.ssh(&person, name, &["id"]);
        assert!(login.is_refused(), "{login:?}");
        let said = cluster.node.exec(&["nightlatch", "explain", name, "--last", "-o", "json"]).unwrap();
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert_eq!(said.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("\"reason\":\"{reason}\"")), "{text}\n{}", cluster.journal());
    }
}

#[test]
fn a_role_given_and_taken_shows_at_the_next_login() {
    let cluster = cluster();
    let order = json!({"oid": GLORIA, "upn": "gloria@contoso.com"});
    cluster.tenant.control("POST", "users", &order).unwrap();

    let person = cluster.person("gloria@contoso.com");
    let refused = cluster.ssh(&person, "gloria@contoso.com", &["id"]);
    assert!(refused.stderr.contains("reason no_vm_role"), "{refused:?}");
    let order =
        json!({"principal_id": GLORIA, "role_definition_id": world::ROLE_USER_LOGIN, "scope": world::NODE});
    cluster.tenant.control("POST", "role-assignments", &order).unwrap();
    wait_until("the refusal to be forgotten", Duration::from_secs(45), || {
        cluster.ssh(&person, "gloria@contoso.com", &["true"]).is_in()
    })
    .unwrap();
}
