//! `make demo`: the main job on a real node, told as a story; the exit status says whether it held.
//! `make playground` (`--playground`): the same world left running until it is interrupted.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a story is told to a terminal, and the demo measures what it shows"
)]

mod live;
mod own;
mod tokens;

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nightlatch_emulator::world;
use nightlatch_world::{
    Cluster, Node, NodeSpec, Person, SshOutcome, Story, WorldError, local_user, playground, prepare,
};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

/// Every step of the story.
const STEPS: usize = 14 + own::STEPS + live::STEPS + tokens::STEPS;
/// The demo's node judges sessions often, so that nobody has to watch for a minute.
const CONFIGURATION: &str = "[login]\nrejudge = \"5s\"\n\
                             [openpubkey]\nclient_ids = [\"0f0f0f0f-1111-4222-8333-444444444444\"]\n\
                             require_amr = [\"mfa\"]\n";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words {
        [] => {
            let mut story = Story::new("demo", STEPS);
            tell(&mut story);
            story.end()
        }
        ["--playground"] => play().map_or_else(
            |why| {
                eprintln!("playground: {why}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        ),
        _ => {
            eprintln!("nightlatch-demo: run it without arguments, or with --playground");
            ExitCode::from(2)
        }
    }
}

type Told = Result<((), String), WorldError>;

fn tell(story: &mut Story<std::io::Stdout>) -> Option<()> {
    story.step("node-image", || {
        let start = Instant::now();
        prepare().map(|_| ((), format!("{} ms", start.elapsed().as_millis())))
    })?;
    let cluster = story.step("node-and-tenant-start", || {
        let start = Instant::now();
        Cluster::bare_on(&NodeSpec { keyring: true, ..NodeSpec::default() }, CONFIGURATION).map(|cluster| {
            let boot = cluster.node.boot_time().as_millis();
            (cluster, format!("{} ms, of them {boot} ms to sshd", start.elapsed().as_millis()))
        })
    })?;
    let bob = story.step("local-user-before", || {
        let bob = Person::with_key(&cluster.image, "ed25519")?;
        local_user(&cluster.node, "bob", &bob)?;
        let login = cluster.node.ssh(&bob, "bob", &["id", "-un"], &[])?;
        expect_in(&login, "bob").map(|((), figure)| (bob, figure))
    })?;
    story.step("agent-installed", || {
        let start = Instant::now();
        cluster.install().map(|()| ((), format!("{} ms", start.elapsed().as_millis())))
    })?;
    story.step("user-logs-in", || {
        let alice = cluster.person(world::ALICE.upn)?;
        expect_in(&cluster.node.ssh(&alice, world::ALICE.upn, &["id", "-un"], &[])?, world::ALICE.upn)
    })?;
    story.step("not-in-passwd", || {
        let passwd = String::from_utf8_lossy(&cluster.node.read_file("/etc/passwd")?).into_owned();
        if passwd.contains('@') {
            return Err(WorldError::new("an Entra user stands in /etc/passwd"));
        }
        Ok(((), format!("{} local accounts", passwd.lines().count())))
    })?;
    story.step("admin-runs-sudo", || {
        let adele = cluster.person(world::ADELE.upn)?;
        let login = cluster.node.ssh(&adele, world::ADELE.upn, &["sudo", "-n", "id", "-un"], &[])?;
        expect_in(&login, "root")
    })?;
    story.step("service-principal-logs-in", || {
        let pipeline = Person::new(&cluster.image)?;
        cluster.tenant.sign_in_app(&pipeline, world::CI_PIPELINE_APP, world::CI_PIPELINE_SECRET)?;
        let name = world::CI_PIPELINE.oid;
        expect_in(&cluster.node.ssh(&pipeline, name, &["id", "-un"], &[])?, name)
    })?;
    for (step, upn, words) in [
        ("refused-no-role", world::NORMAN.upn, "you have no VM login role on this node"),
        ("refused-deny-assignment", world::DORA.upn, "a deny assignment blocks your login"),
        ("refused-pim-closed", world::PETRA.upn, "Privileged Identity Management, activate it"),
    ] {
        story.step(step, || {
            let person = cluster.person(upn)?;
            expect_reason(&cluster.node.ssh(&person, upn, &["id"], &[])?, words)
        })?;
    }
    let now = now();
    let expired = json!({"valid_after": now - 7_200, "valid_before": now - 3_600});
    story.step("refused-expired-certificate", || expect_explained(&cluster, expired, "cert_expired"))?;
    let foreign = json!({"ca": "foreign"});
    story.step("refused-foreign-authority", || expect_explained(&cluster, foreign, "ca_unknown"))?;
    story.step("local-user-as-before", || {
        expect_in(&cluster.node.ssh(&bob, "bob", &["id", "-un"], &[])?, "bob")
    })?;
    own::tell(story, &cluster)?;
    live::tell(story, &cluster, &bob)?;
    tokens::tell(story, &cluster)
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn expect_in(login: &SshOutcome, said: &str) -> Told {
    if login.is_in() && login.stdout.trim() == said {
        return Ok(((), format!("{} ms", login.elapsed.as_millis())));
    }
    Err(WorldError::new(format!("status {}: {} {}", login.status, login.stdout.trim(), login.stderr.trim())))
}

/// Refused, and the person read why.
fn expect_reason(login: &SshOutcome, words: &str) -> Told {
    let shown = login.stderr.lines().find(|line| line.contains(words));
    match shown {
        Some(line) if login.status == 255 => Ok(((), format!("\"{}\"", shorten(line)))),
        _ => Err(WorldError::new(format!("status {}: {}", login.status, login.stderr.trim()))),
    }
}

/// Refused by sshd itself; the reason is in `nightlatch explain`.
fn expect_explained(cluster: &Cluster, order: serde_json::Value, reason: &str) -> Told {
    let person = Person::new(&cluster.image)?;
    cluster.tenant.forge(&person, order)?;
    let login = cluster.node.ssh(&person, world::ALICE.upn, &["id"], &[])?;
    if !login.is_refused() {
        return Err(WorldError::new(format!("not refused: status {}", login.status)));
    }
    let line = explain_last(&cluster.node, world::ALICE.upn)?;
    if line.contains(reason) {
        Ok(((), format!("\"{}\"", shorten(&line))))
    } else {
        Err(WorldError::new(line))
    }
}

fn explain_last(node: &Node, name: &str) -> Result<String, WorldError> {
    let said = node.exec(&["nightlatch", "explain", name, "--last"])?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    Ok(text.lines().find(|line| line.starts_with("denial")).unwrap_or(&text).to_owned())
}

fn shorten(line: &str) -> String {
    let line = line.trim();
    if line.chars().count() <= 100 {
        line.to_owned()
    } else {
        line.chars().take(97).chain("...".chars()).collect()
    }
}

/// Starts the world, describes it in files, and keeps it until it is interrupted.
fn play() -> Result<(), WorldError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| WorldError::new(format!("a runtime: {why}")))?;
    runtime.block_on(async {
        // From here on an interrupt ends the wait below and not the process: the world is taken down.
        let wrong = |why: std::io::Error| WorldError::new(format!("signals: {why}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(wrong)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(wrong)?;
        let start = Instant::now();
        let cluster = Cluster::start("")?;
        playground::describe(&cluster)?;
        println!("playground is up after {} ms; interrupt ends it", start.elapsed().as_millis());
        println!("  . {}", playground::folder().join("env").display());
        println!("  $NIGHTLATCH_NODE_EXEC nightlatch status");
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        playground::forget();
        drop(cluster);
        println!("playground is gone");
        Ok(())
    })
}
