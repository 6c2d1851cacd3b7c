//! What happens to those who are in: the role goes and the shell with it, Azure goes and grace begins, and
//! with all of Nightlatch stopped the local user still gets in.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nightlatch_emulator::world;
use nightlatch_world::{Cluster, Person, Story, WorldError, local_user, wait_until};
use serde_json::json;

use super::{Told, expect_in, expect_reason};

/// Every step told here.
pub(super) const STEPS: usize = 5;
/// Somebody whose role goes while they work.
const LEAVER: (&str, &str) = ("1ea7e400-0000-4000-8000-0000000000dd", "leaver@contoso.com");
/// How long a session may take to be listed, and a shell to end: the demo's timer is 5 s, an end takes 5 s.
const SOON: Duration = Duration::from_secs(20);
/// The services of ours on the node.
const UNITS: &str = "nightlatchd.service nightlatchd-hook.socket nightlatchd-account.socket \
                     nightlatch-userdbd.service nightlatch-sessiond.service nightlatch-sessiond-session.socket \
                     nightlatch-sessiond-control.socket";

/// A shell that somebody has open.
struct Shell(Child);

impl Shell {
    fn open(cluster: &Cluster, person: &Person, user: &str) -> Result<Self, WorldError> {
        let mut command = cluster.node.ssh_command(person, user, &["-tt"], &[])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().map(Self).map_err(|why| WorldError::new(format!("ssh: {why}")))
    }

    fn said(&mut self) -> String {
        let mut bytes = Vec::new();
        if let Some(pipe) = &mut self.0.stdout {
            drop(pipe.read_to_end(&mut bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(super) fn tell(story: &mut Story<std::io::Stdout>, cluster: &Cluster, bob: &Person) -> Option<()> {
    story.step("role-removed-shell-ends", || role_removed(cluster))?;
    let down = json!({"kind": "status", "status": 503});
    let trouble = |method: &str| {
        ["pdp", "arm", "entra"].iter().try_for_each(|service| {
            cluster.tenant.control(method, &format!("faults/{service}"), &down).map(drop)
        })
    };
    let adele = story.step("azure-down-user-by-grace", || {
        // Both have their certificates, and a fresh yes from before.
        let (alice, adele) = (cluster.person(world::ALICE.upn)?, cluster.person(world::ADELE.upn)?);
        trouble("PUT")?;
        // An answer of a minute ago is still kept; a new start knows nothing but who was let in.
        cluster.node.shell("systemctl restart nightlatchd")?;
        let login = cluster.node.ssh(&alice, world::ALICE.upn, &["id", "-un"], &[])?;
        let (_, took) = expect_in(&login, world::ALICE.upn)?;
        let listed = cluster
            .node
            .shell("journalctl --sync; sleep 0.3; journalctl -q -n 1 -o cat NIGHTLATCH_DEGRADED=true")?;
        if !listed.contains("degraded") {
            return Err(WorldError::new(format!("not marked: {listed}")));
        }
        Ok::<_, WorldError>((adele, format!("{took}, marked \"{}\"", super::shorten(&listed))))
    })?;
    story.step("azure-down-admin-refused", || {
        let login = cluster.node.ssh(&adele, world::ADELE.upn, &["id"], &[])?;
        expect_reason(&login, "administrators get no grace on this node")
    })?;
    story.step("all-stopped-local-user-gets-in", || {
        trouble("DELETE")?;
        cluster.node.shell(&format!("systemctl stop {UNITS}"))?;
        let login = cluster.node.ssh(bob, "bob", &["id", "-un"], &[])?;
        let told = expect_in(&login, "bob");
        cluster.node.shell(&format!("systemctl start {UNITS}"))?;
        told
    })?;
    story.step("break-glass-would-work", || {
        let rescue = Person::with_key(&cluster.image, "ed25519")?;
        local_user(&cluster.node, "rescue", &rescue)?;
        let sudo = b"rescue ALL=(ALL) NOPASSWD: ALL\n";
        cluster.node.write_file("/etc/sudoers.d/rescue", sudo, 0o440, "root:root")?;
        cluster.node.write_file("/etc/nightlatch/break-glass", b"rescue\n", 0o644, "root:root")?;
        let done = cluster.node.exec(&["nightlatch", "doctor", "--break-glass"])?;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        if done.status.success() {
            Ok(((), format!("{} findings, all good", said.lines().count())))
        } else {
            Err(WorldError::new(said))
        }
    })
}

/// The role goes in Azure; nobody tells the node, its timer finds out.
fn role_removed(cluster: &Cluster) -> Told {
    let (oid, upn) = LEAVER;
    let control =
        |method: &str, path: &str, body: &serde_json::Value| cluster.tenant.control(method, path, body);
    control("POST", "users", &json!({"oid": oid, "upn": upn}))?;
    let order =
        json!({"principal_id": oid, "role_definition_id": world::ROLE_USER_LOGIN, "scope": world::NODE});
    let made = control("POST", "role-assignments", &order)?;
    let id = made.get("id").and_then(|id| id.as_str()).unwrap_or_default();
    let person = cluster.person(upn)?;
    let mut shell = Shell::open(cluster, &person, upn)?;
    wait_until("the session to be listed", SOON, || {
        let done = cluster.node.exec(&["nightlatch", "sessions", "list"]);
        done.is_ok_and(|done| String::from_utf8_lossy(&done.stdout).contains(upn))
    })?;
    control("DELETE", &format!("role-assignments/{id}"), &json!({}))?;
    let removed = Instant::now();
    wait_until("the shell to end", SOON, || shell.0.try_wait().is_ok_and(|end| end.is_some()))?;
    let took = removed.elapsed().as_secs_f64();
    let said = shell.said();
    match said.lines().find(|line| line.contains("your session ends")) {
        Some(line) => Ok(((), format!("after {took:.1} s, \"{}\"", super::shorten(line)))),
        None => Err(WorldError::new(format!("it ended after {took:.1} s without a word: {said}"))),
    }
}
