//! A node of AKS enabled by Azure Arc: no IMDS, no himds, no name of Azure's that it could resolve. Its only way out is an
//! HTTP proxy, its only identity a federated token that the installer left, and people come with certificates that
//! their own clients signed.

use std::collections::BTreeSet;
use std::path::Path;

use nightlatch_emulator::world;
use nightlatch_openpubkey::KeyType;
use nightlatch_world::{
    Binaries, Metadata, Node, NodeSpec, OPENPUBKEY_CLIENT, Tenant, attach, install, local_user, prepare,
    register_openpubkey, wait_until,
};
use serde_json::json;

use crate::openpubkey;
use crate::site::SOON;
use crate::tenant::Cluster;

const PROXY_LOG: &str = "/run/connect-proxy.log";
const DROP_IN: &str = "/etc/systemd/system/nightlatchd.service.d/proxy.conf";

fn boot() -> Cluster {
    let image = prepare().unwrap();
    let node = Node::boot(&NodeSpec::default()).unwrap();
    node.shell("install -d -m 0755 /etc/nightlatch /etc/systemd/system/nightlatchd.service.d").unwrap();
    let tenant = Tenant::start(&node, Metadata::None).unwrap();
    let text = format!(
        "mode = \"enforce\"\ntenant = \"{}\"\n[node]\nkind = \"aks-arc\"\nregion = \"{}\"\ncluster_id = \"{}\"\n\
         client_id = \"{}\"\ntoken_file = \"/etc/nightlatch/token\"\n[openpubkey]\nclient_ids = [\"{OPENPUBKEY_CLIENT}\"]\n",
        world::TENANT,
        world::REGION,
        world::ARC_CLUSTER,
        world::NODE_APP
    );
    node.write_file("/etc/nightlatch/nightlatch.toml", text.as_bytes(), 0o644, "root:root").unwrap();
    let cluster = Cluster { image, tenant, node };
    register(&cluster);
    // No name of Azure's resolves here any more; only the proxy knows where they are.
    cluster.node.write_file("/etc/hosts", b"127.0.0.1 localhost\n", 0o644, "root:root").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/connect_proxy.py");
    cluster.node.copy_in(&script, "/opt/connect_proxy.py", 0o644).unwrap();
    let start = format!(
        "systemd-run --quiet --unit=connect-proxy.service --collect python3 /opt/connect_proxy.py 3128 {PROXY_LOG}"
    );
    cluster.node.shell(&start).unwrap();
    let proxy = b"[Service]\nEnvironment=HTTPS_PROXY=http://127.0.0.1:3128\n";
    cluster.node.write_file(DROP_IN, proxy, 0o644, "root:root").unwrap();
    install(&cluster.node, &Binaries::find().unwrap()).unwrap();
    attach(&cluster.node).unwrap();
    cluster
}

/// What was done in the tenant: the person's role at the cluster, the node's identity and its one right.
fn register(cluster: &Cluster) {
    let control = |method: &str, path: &str, body: serde_json::Value| {
        cluster.tenant.control(method, path, &body).unwrap_or_else(|why| panic!("{path}: {why}"))
    };
    register_openpubkey(&cluster.tenant).unwrap();
    control(
        "POST",
        "role-assignments",
        json!({"principal_id": world::ALICE.oid,
        "role_definition_id": world::ROLE_USER_LOGIN, "scope": world::ARC_CLUSTER}),
    );
    control(
        "POST",
        "role-assignments",
        json!({"principal_id": world::NODE_APP_OID,
        "role_definition_id": world::ROLE_CHECK_ACCESS_READER,
        "scope": format!("/subscriptions/{}", world::SUBSCRIPTION)}),
    );
    let issuer = format!("https://login.microsoftonline.com/{}/v2.0", world::TENANT);
    control(
        "PUT",
        &format!("apps/{}", world::NODE_APP),
        json!({"federated": [{"issuer": issuer, "subject": world::KUBELET_OID}]}),
    );
    let proof = control(
        "POST",
        "tokens",
        json!({"user": world::KUBELET_OID, "audience": "api://AzureADTokenExchange", "v2": true}),
    );
    let proof = proof["access_token"].as_str().unwrap();
    cluster.node.write_file("/etc/nightlatch/token", proof.as_bytes(), 0o644, "root:root").unwrap();
}

#[test]
fn a_node_without_metadata_services_behind_a_proxy_lets_people_in() {
    let cluster = boot();
    let name = world::ALICE.upn;
    let alice = openpubkey::person(&cluster, name, KeyType::EcdsaP256);
    let status = || cluster.node.shell("nightlatch status || true").unwrap();
    let why = || cluster.node.shell(&format!("nightlatch explain {name} --last || true")).unwrap();
    wait_until("a login", SOON, || cluster.ssh(&alice, name, &["true"]).is_in())
        .unwrap_or_else(|late| panic!("{late}\n{}\n{}\n{}", why(), status(), cluster.journal()));
    assert!(cluster.node.exec(&["nightlatch", "status"]).unwrap().status.success(), "{}", status());

    // Whom Azure gives no role is told so: the answer came from there.
    let norman = openpubkey::person(&cluster, world::NORMAN.upn, KeyType::Ed25519);
    let refused = cluster.ssh(&norman, world::NORMAN.upn, &["id"]);
    assert!(refused.stderr.contains("no_vm_role"), "{refused:?}");

    // Through the proxy went the sign-in host and the policy decision point, and nothing else was asked for.
    let log = cluster.node.shell(&format!("cat {PROXY_LOG}")).unwrap();
    let hosts: BTreeSet<&str> = log.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    let pdp = format!("{}.authorization.azure.net:443", world::REGION);
    assert_eq!(hosts, BTreeSet::from(["login.microsoftonline.com:443", &*pdp]), "{log}");

    // The proxy gone: who was let in before still is, within grace; a local user never notices.
    let bob = nightlatch_world::Person::with_key(&cluster.image, "ed25519").unwrap();
    local_user(&cluster.node, "bob", &bob).unwrap();
    cluster.node.shell("systemctl stop connect-proxy; systemctl restart nightlatchd").unwrap();
    let login = cluster.ssh(&alice, name, &["true"]);
    assert!(login.is_in(), "{login:?}\n{}\n{}", why(), cluster.journal());
    assert!(why().contains("grace"), "{}", why());
    assert!(cluster.ssh(&bob, "bob", &["true"]).is_in());
}
