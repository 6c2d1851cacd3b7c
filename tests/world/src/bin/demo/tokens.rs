//! The second half of the story: local programs and their tokens.

use std::time::Instant;

use nightlatch_emulator::world;
use nightlatch_world::{Cluster, Story, WorldError, interop, interop_drivers, wait_until};
use serde_json::{Value, json};

use crate::{Told, shorten};

/// How many steps this half has.
pub(crate) const STEPS: usize = 4;

const VAULT: &str = "https://vault.azure.net";
/// The server application of AKS.
const AKS: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
/// Who may have what: the backup service the vault, whoever uses kubectl the cluster.
const POLICY: &str = r#"
[[rule]]
name = "backup-reads-the-vault"
who = { user = ["svc-backup"], unit = ["backup.service"] }
may = { identity = ["node"], resource = ["https://vault.azure.net"] }

[[rule]]
name = "kubectl"
who = { user = ["svc-kube"] }
may = { identity = ["node"], resource = ["6dae42f8-4368-4678-94ff-3960e28e3630"] }
"#;
const GET: [&str; 6] = ["nightlatch", "token", "get", "-o", "json", "--resource"];

/// Tells it on a node whose agent is installed.
pub(crate) fn tell(story: &mut Story<std::io::Stdout>, cluster: &Cluster) -> Option<()> {
    story.step("service-gets-its-token", || {
        lay_policy(cluster)?;
        let (token, took) = get(cluster, VAULT)?;
        let (rule, client) = (text(&token, "rule"), text(&token, "clientId"));
        if rule != "backup-reads-the-vault" || client != world::KUBELET_CLIENT {
            return Err(WorldError::new(format!("rule {rule}, client {client}")));
        }
        Ok(((), format!("{took} ms, rule {rule}, from {}", text(&token, "source"))))
    })?;
    story.step("another-uid-refused", || refused(cluster))?;
    story.step("kubectl-reaches-a-cluster", || kubectl(cluster))?;
    story.step("token-outlives-the-tenant", || outage(cluster))
}

fn text<'a>(token: &'a Value, key: &str) -> &'a str {
    token.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn lay_policy(cluster: &Cluster) -> Result<(), WorldError> {
    let node = &cluster.node;
    node.add_users(&["svc-backup", "svc-other", "svc-kube"])?;
    node.shell("install -d -m 0755 /etc/nightlatch/broker.d")?;
    node.write_file("/etc/nightlatch/broker.d/50-demo.toml", POLICY.as_bytes(), 0o644, "root:root")?;
    node.shell("systemctl reload nightlatchd")?;
    let in_force = wait_until("the policy to be in force", std::time::Duration::from_secs(15), || {
        node.exec(&["nightlatch", "status"])
            .is_ok_and(|done| String::from_utf8_lossy(&done.stdout).contains("2 rules from"))
    });
    in_force.map(drop)
}

/// The backup service asks.
fn get(cluster: &Cluster, resource: &str) -> Result<(Value, u128), WorldError> {
    let start = Instant::now();
    let done = cluster.node.service("backup.service", "svc-backup").run(&[&GET[..], &[resource]].concat())?;
    let took = start.elapsed().as_millis();
    let said = String::from_utf8_lossy(&done.stdout);
    match serde_json::from_str(said.trim()) {
        Ok(token) if done.status.success() => Ok((token, took)),
        _ => Err(WorldError::new(format!("{}: {}", done.status, String::from_utf8_lossy(&done.stderr)))),
    }
}

fn refused(cluster: &Cluster) -> Told {
    let done = cluster.node.service("other.service", "svc-other").run(&[&GET[..], &[VAULT]].concat())?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let line = said.lines().find(|line| line.contains("nightlatch token explain")).unwrap_or_default();
    if done.status.code() != Some(1) || line.is_empty() || !done.stdout.is_empty() {
        return Err(WorldError::new(format!("{}: {said}", done.status)));
    }
    Ok(((), format!("\"{}\"", shorten(line))))
}

/// kubectl as it comes, with our plugin, against an API server that is only a listener.
fn kubectl(cluster: &Cluster) -> Told {
    let node = &cluster.node;
    node.lend(&interop_drivers(), "drivers")?;
    let sdk = interop("sdk")?;
    node.open_way(&sdk.join("bin/python"))?;
    node.lend(&sdk, "sdk")?;
    let start = Instant::now();
    let done = node.service("kube.service", "svc-kube").env("PYTHONDONTWRITEBYTECODE", "1").run(&[
        "/opt/interop/sdk/bin/python",
        "/opt/interop/drivers/kubectl_exec.py",
        "--api-version",
        "v1",
        "--",
        "/usr/bin/nightlatch",
        "kubelogin",
        "get-token",
        "--login",
        "msi",
        "--server-id",
        AKS,
    ])?;
    let took = start.elapsed().as_millis();
    let said = String::from_utf8_lossy(&done.stdout);
    let seen = said.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    match seen {
        Some(seen) if done.status.success() && seen.get("aud").is_some_and(|aud| aud == AKS) => {
            Ok(((), format!("{took} ms, as {}", text(&seen, "oid"))))
        }
        _ => Err(WorldError::new(format!("{}: {}", done.status, String::from_utf8_lossy(&done.stderr)))),
    }
}

/// The whole tenant falls silent: what is kept is served, and nothing new is to be had.
fn outage(cluster: &Cluster) -> Told {
    for service in ["imds", "entra"] {
        cluster.tenant.control("PUT", &format!("faults/{service}"), &json!({"kind": "blackhole"}))?;
    }
    let (token, took) = get(cluster, VAULT)?;
    let source = text(&token, "source");
    if source != "cache" {
        return Err(WorldError::new(format!("it came from {source}, which was to be silent")));
    }
    cluster.tenant.control("DELETE", "faults", &json!({}))?;
    let left = token.get("expires_on").and_then(Value::as_i64).unwrap_or(0)
        - i64::try_from(crate::now()).unwrap_or(i64::MAX);
    Ok(((), format!("{took} ms from the cache, good for {} min more", left / 60)))
}
