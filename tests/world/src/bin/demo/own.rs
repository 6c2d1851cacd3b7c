//! People whose own client signed their certificate: a sign-in in it instead of an authority above it.

use std::time::Duration;

use nightlatch_emulator::world;
use nightlatch_openpubkey::{CertificateSpec, Client, KeyType};
use nightlatch_world::{
    AtThePrompt, Cluster, OPENPUBKEY_SCOPE, Story, WorldError, as_traveller, openpubkey_holder,
    openpubkey_person, openpubkey_sign_in, register_openpubkey, traveller_of, wait_until,
};
use serde_json::json;

use super::{expect_in, explain_last, shorten};

/// How long rules may take to be in force.
const RULES_LIMIT: Duration = Duration::from_secs(10);
/// Every step told here.
pub(super) const STEPS: usize = 8;
/// The traveller's uid: the kernel that holds their keys is the host's, where nobody else has it.
const UID: u32 = 61_000;

pub(super) fn tell(story: &mut Story<std::io::Stdout>, cluster: &Cluster) -> Option<()> {
    let name = world::ALICE.upn;
    story.step("own-certificate-logs-in", || {
        register_openpubkey(&cluster.tenant)?;
        claims(cluster, &json!({"amr": ["pwd", "mfa"]}))?;
        let alice = openpubkey_person(&cluster.image, &cluster.node, name, KeyType::EcdsaP256)?;
        expect_in(&cluster.node.ssh(&alice, name, &["id", "-un"], &[])?, name)
    })?;
    story.step("own-certificate-without-mfa-refused", || {
        claims(cluster, &json!({"amr": ["pwd"]}))?;
        let alice = openpubkey_person(&cluster.image, &cluster.node, name, KeyType::Ed25519)?;
        refused(cluster, &cluster.node.ssh(&alice, name, &["id"], &[])?, "evidence_missing")
    })?;
    story.step("stolen-sign-in-refused", || {
        claims(cluster, &json!({"amr": ["pwd", "mfa"]}))?;
        let make = || Client::new(KeyType::Ed25519).map_err(|why| WorldError::new(why.to_string()));
        let (alice, thief) = (make()?, make()?);
        let token = openpubkey_sign_in(&cluster.node, name, &alice.nonce(), OPENPUBKEY_SCOPE)?;
        let proof = thief.pk_token(&token).map_err(|why| WorldError::new(why.to_string()))?;
        let thief = openpubkey_holder(&cluster.image, &thief, &CertificateSpec::new(proof))?;
        refused(cluster, &cluster.node.ssh(&thief, name, &["id"], &[])?, "proof_malformed")
    })?;
    step_up(story, cluster)
}

/// The rules of the demo: Alice must show an authentication context, nobody else anything.
const RULES: &str = "[[rule]]\nname = \"sensitive\"\neffect = \"step-up\"\nwho = { users = [\"ALICE\"] }\n\
                     require = { acrs = [\"c1\"] }\n[[rule]]\nname = \"rest\"\neffect = \"permit\"\n\
                     who = { anyone = true }\n";
const RULES_FILE: &str = "/etc/nightlatch/policy.d/demo.toml";

/// A rule asks for more than the sign-in shows; the refusal says by which command it is got, and that is true.
fn step_up(story: &mut Story<std::io::Stdout>, cluster: &Cluster) -> Option<()> {
    let (node, name) = (&cluster.node, world::ALICE.upn);
    story.step("rules-rehearsed", || {
        node.shell("install -d -m 0755 /etc/nightlatch/policy.d")?;
        let rules = RULES.replace("ALICE", world::ALICE.oid);
        node.write_file("/root/demo.toml", rules.as_bytes(), 0o644, "root:root")?;
        let table = text(&node.exec(&["nightlatch", "policy", "replay", "/root/demo.toml"])?.stdout);
        let last = table.lines().last().unwrap_or_default().to_owned();
        if !table.contains("step_up") {
            return Err(WorldError::new(table));
        }
        node.shell(&format!("cp /root/demo.toml {RULES_FILE}"))?;
        wait_until("the rules", RULES_LIMIT, || {
            node.shell("nightlatch status").is_ok_and(|status| status.contains("2 rules from"))
        })?;
        Ok(((), last))
    })?;
    let command = story.step("step-up-refused-with-its-command", || {
        let alice = openpubkey_person(&cluster.image, node, name, KeyType::Ed25519)?;
        let said = node.ssh(&alice, name, &["id"], &[])?.stderr;
        let command = said.split('`').find(|part| part.starts_with("nightlatch cert --acrs"));
        let command = command.ok_or_else(|| WorldError::new(said.clone()))?.to_owned();
        let shown = format!("\"run `{command}`\"");
        Ok::<_, WorldError>((command, shown))
    })?;
    story.step("step-up-at-the-prompt-logs-in", || at_the_prompt(cluster))?;
    story.step("step-up-shown-logs-in", || {
        traveller_of(node, &format!("--uid {UID}"))?;
        let words = command.trim_start_matches("nightlatch ");
        let made = as_traveller(node, &format!("{words} --login-hint {name}"))?;
        let login = as_traveller(node, "ssh -O StrictHostKeyChecking=no 127.0.0.1 -- id -un")?;
        let who = text(&login.stdout).trim().to_owned();
        node.shell(&format!("rm {RULES_FILE}"))?;
        wait_until("the rules to be gone", RULES_LIMIT, || {
            node.shell("nightlatch status").is_ok_and(|status| status.contains("the role alone decides"))
        })?;
        if who != name {
            return Err(WorldError::new(format!("{}{}", text(&made.stderr), text(&login.stderr))));
        }
        Ok(((), who))
    })?;
    story.step("renewed-without-a-page", || renewed(cluster))
}

/// Entra's own certificate is about to end all the time; the person signs in once. Then the person ends it.
fn renewed(cluster: &Cluster) -> super::Told {
    let (node, name) = (&cluster.node, world::ALICE.upn);
    let seconds = |n: u32| cluster.tenant.control("PUT", "time", &json!({"certificate_seconds": n}));
    let pages = || node.shell("wc -l </run/browser.log").map(|text| text.trim().parse().unwrap_or(0));
    let before: u32 = pages()?;
    seconds(500)?;
    let words =
        format!("ssh --kind entra --login-hint {name} -O StrictHostKeyChecking=no 127.0.0.1 -- id -un");
    let logins = (0..3).map(|_| as_traveller(node, &words)).collect::<Result<Vec<_>, _>>();
    let forgot = as_traveller(node, "cert --forget")?;
    seconds(3_600)?;
    let (logins, pages) = (logins?, pages()? - before);
    let whole = logins.iter().all(|login| text(&login.stdout).trim() == name) && forgot.status.success();
    if !whole || pages != 1 {
        let said: String = logins.iter().chain([&forgot]).map(|one| text(&one.stderr)).collect();
        return Err(WorldError::new(format!("{pages} pages: {said}")));
    }
    Ok(((), format!("{} certificates, {pages} page; {}", logins.len(), text(&forgot.stdout).trim())))
}

/// Where it is turned on, the same is shown with a code on another device while sshd waits: with a certificate of Entra's own.
fn at_the_prompt(cluster: &Cluster) -> super::Told {
    const SWITCH: &str = "/etc/nightlatch/conf.d/prompt.toml";
    let (node, name) = (&cluster.node, world::ALICE.upn);
    node.shell("install -d -m 0755 /etc/nightlatch/conf.d")?;
    node.write_file(SWITCH, b"[login]\nstep_up_prompt = true\n", 0o644, "root:root")?;
    node.shell("systemctl restart nightlatchd && nightlatch attach")?;
    let codes = json!({"device_approve_after": null, "device_interval": 1});
    cluster.tenant.control("PUT", "entra", &codes)?;
    let (alice, prompt) = (cluster.person(name)?, AtThePrompt::new()?);
    let approve = |code: Option<&str>| {
        let path = format!("device/{}", code.unwrap_or_default());
        // Without it the login is refused, and the story ends there.
        let _ = cluster.tenant.control("POST", &path, &json!({"user": name}));
    };
    let options = ["-o", "ConnectionAttempts=10"];
    let login = prompt.login(node, &alice, name, &["id", "-un"], &options, approve)?;
    let said = prompt.said().unwrap_or_default();
    let shown = said.lines().find(|line| line.contains("enter the code")).unwrap_or_default();
    let shown = format!("\"{}\"", shorten(shown));
    node.shell(&format!("rm {SWITCH} && systemctl restart nightlatchd && nightlatch attach"))?;
    expect_in(&login, name).map(|((), _)| ((), shown))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn claims(cluster: &Cluster, claims: &serde_json::Value) -> Result<(), WorldError> {
    cluster.tenant.control("PUT", &format!("users/{}/claims", world::ALICE.upn), claims).map(drop)
}

/// Refused by sshd itself; the reason is in `nightlatch explain`.
fn refused(cluster: &Cluster, login: &nightlatch_world::SshOutcome, reason: &str) -> super::Told {
    let line = explain_last(&cluster.node, world::ALICE.upn)?;
    if login.is_refused() && line.contains(reason) {
        return Ok(((), format!("\"{}\"", shorten(&line))));
    }
    Err(WorldError::new(format!("status {}: {line}", login.status)))
}
