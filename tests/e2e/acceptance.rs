//! What sshd, PAM and NSS promise each other, with the product between them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};

use std::sync::{Mutex, PoisonError};

use nightlatch_emulator::world;
use nightlatch_model::{UID_HIGH, UID_LOW};
use nightlatch_world::{LocalCa, Person, wait_until};
use serde_json::{Value, json};

use crate::cloud::stage;
use crate::site::{SOON, Site, counted, oid_of, site, text};
use crate::tenant::Cluster;

/// The runs of the hook for a name: (key type, monitor).
fn calls(site: &Site, name: &str) -> Vec<(String, String)> {
    let text = String::from_utf8(site.node.read_file("/run/hook-calls").unwrap()).unwrap();
    let words = text.lines().map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    words.filter(|words| words[0] == name).map(|words| (words[1].clone(), words[2].clone())).collect()
}

#[test]
fn acceptance_01_another_domain_never_reaches_the_hook() {
    let site = counted();
    for name in ["eve@fabrikam.com", "eve@contoso.com.fabrikam.com", "eve@sub.contoso.com"] {
        site.roles(&[(name, "user")]);
        let login = site.ssh(&site.person(name), name, &["id"]);
        assert!(login.is_refused(), "{login:?}");
        assert_eq!(calls(site, name), []);
        assert!(!site.node.exec(&["getent", "passwd", name]).unwrap().status.success(), "{name}");
        assert_eq!(site.explain(name).status, 3, "nothing was decided");
    }
}

#[test]
fn acceptance_01_a_name_never_seen_logs_in_at_the_first_try() {
    let site = counted();
    let name = "never.seen@contoso.com";
    site.roles(&[(name, "user")]);
    let login = site.ssh(&site.person(name), name, &["id -un; pwd; stat -c '%a %u' ."]);
    assert!(login.is_in(), "{login:?}");
    let uid = site.uid(name);
    let expected = format!("{name}\n/home/nl-{uid}\n700 {uid}\n");
    assert_eq!(login.stdout, expected);
}

/// An ssh-agent of the client machine; it ends with the handle.
struct Agent {
    child: Child,
    folder: tempfile::TempDir,
}

impl Agent {
    fn start(site: &Site, keys: &[&Person]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent");
        let command = |name: &str| {
            let words = site.image.tool(name).unwrap();
            let mut command = std::process::Command::new(&words[0]);
            command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let child = command("ssh-agent").args(["-D", "-a"]).arg(&socket).spawn().unwrap();
        wait_until("the agent", SOON, || socket.exists()).unwrap();
        for key in keys {
            let mut add = command("ssh-add");
            assert!(add.env("SSH_AUTH_SOCK", &socket).arg(key.key_path()).status().unwrap().success());
        }
        Self { child, folder }
    }

    fn option(&self) -> String {
        format!("IdentityAgent={}", self.folder.path().join("agent").display())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn acceptance_02_the_hook_runs_twice_or_more_and_one_decision_is_made() {
    let site = counted();
    let name = "twice@contoso.com";
    site.roles(&[(name, "user")]);
    let person = site.person(name);
    site.assert_in(&person, name);
    let runs = calls(site, name);
    assert_eq!(runs.len(), 2, "once for the probe, once for the signature: {runs:?}");
    assert_eq!(runs[0].1, runs[1].1, "one connection is one monitor");
    let made = |name| site.decisions(name).iter().filter(|(service, ..)| service == "sshd").count();
    wait_until("the record", SOON, || made(name) > 0).unwrap();
    assert_eq!(made(name), 1, "{:?}", site.decisions(name));

    // Three certificates of somebody else's are offered first: the client takes them in this order.
    let name = "decoys@contoso.com";
    site.roles(&[(name, "user")]);
    let person = site.person(name);
    let stranger = LocalCa::new(&site.image).unwrap();
    let decoys: Vec<Person> = (0..3)
        .map(|_| {
            let decoy = Person::new(&site.image).unwrap();
            decoy.take_certificate(&stranger.sign(&decoy, &site.spec(name)).unwrap()).unwrap();
            decoy
        })
        .collect();
    let options: Vec<String> = decoys
        .iter()
        .flat_map(|decoy| {
            let certificate = format!("CertificateFile={}", decoy.certificate_path().display());
            ["-o".to_owned(), certificate, "-i".to_owned(), decoy.key_path().display().to_string()]
        })
        .collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let login = site.node.ssh(&person, name, &["id", "-un"], &options).unwrap();
    assert!(login.is_in(), "{login:?}");
    assert_eq!(calls(site, name).len(), 5, "three decoys, the probe, the signature");
    wait_until("the record", SOON, || made(name) > 0).unwrap();
    assert_eq!(made(name), 1, "{:?}", site.decisions(name));

    // Three keys of an agent before the person's own, which lies in the agent as well.
    let name = "agent@contoso.com";
    site.roles(&[(name, "user")]);
    let person = site.person(name);
    let beside = person.key_path().with_file_name("id_rsa-cert.pub");
    std::fs::copy(person.certificate_path(), beside).unwrap();
    let agent = Agent::start(site, &[&decoys[0], &decoys[1], &decoys[2], &person]);
    let options = ["-o", "IdentitiesOnly=no", "-o", &agent.option()];
    let empty_handed = Person::with_key(&site.image, "ed25519").unwrap();
    let login = site.node.ssh(&empty_handed, name, &["id", "-un"], &options).unwrap();
    assert!(login.is_in(), "{login:?}");
    let runs = calls(site, name);
    let plain = runs.iter().filter(|(kind, _)| kind == "ssh-rsa").count();
    assert!(plain >= 3 && runs.len() == plain + 2, "{runs:?}");
    wait_until("the record", SOON, || made(name) > 0).unwrap();
    assert_eq!(made(name), 1, "{:?}", site.decisions(name));
}

/// A certificate is public: it lies in `/proc` while the hook runs. Without its private key it opens
/// nothing, binds nothing and unlocks nothing.
#[test]
fn acceptance_03_12_a_captured_certificate_binds_nothing_and_opens_nothing() {
    let site = counted();
    let name = "captured@contoso.com";
    site.roles(&[(name, "admin")]);
    let owner = site.person(name);
    let certificate = std::fs::read_to_string(owner.certificate_path()).unwrap();
    let thief = Person::new(&site.image).unwrap();
    thief.take_certificate(&certificate).unwrap();
    let login = site.ssh(&thief, name, &["id"]);
    assert!(login.is_refused(), "{login:?}");
    let runs = calls(site, name);
    assert!(runs.iter().any(|(kind, _)| kind.contains("-cert-v01@")), "it was offered: {runs:?}");

    wait_until("the probe's record", SOON, || !site.decisions(name).is_empty()).unwrap();
    let probed = site.decisions(name);
    assert!(probed.iter().any(|(service, outcome, _)| service == "hook" && outcome == "admit"), "{probed:?}");
    assert!(probed.iter().all(|(service, ..)| service == "hook"), "no decision was made: {probed:?}");
    assert!(site.node.journal(&["-u", "nightlatchd"]).unwrap().contains(&format!("Admit {name} for hook")));
    let book = site.node.shell("cat /var/lib/nightlatch/accounts.json 2>/dev/null || true").unwrap();
    assert!(!book.contains(&oid_of(name)) && !book.contains(name), "{book}");
    assert!(is_locked(site, name));

    site.assert_in(&owner, name);
    assert!(!is_locked(site, name));
    let book = String::from_utf8(site.node.read_file("/var/lib/nightlatch/accounts.json").unwrap()).unwrap();
    assert!(book.contains(&oid_of(name)));
}

/// Reads what the kernel shows of all processes, again and again until standard input ends; prints what
/// was not seen before (kind, hex).
const WATCHER: &str = r"
import os, sys, threading
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
seen = set()
while not over.is_set():
    for pid in os.listdir('/proc'):
        if not pid.isdigit():
            continue
        for kind in ('cmdline', 'environ'):
            try:
                with open(f'/proc/{pid}/{kind}', 'rb') as file:
                    text = file.read()
            except OSError:
                continue
            if text and (kind, text) not in seen:
                seen.add((kind, text))
                print(kind, text.hex(), flush=True)
";
/// Rounds of logins after which the watcher must have met everybody's certificate.
const ROUNDS: usize = 40;

/// Whatever is a secret of these people, of the daemon or of the tenant, as text.
fn secrets(cluster: &Cluster, people: &[Person]) -> Vec<String> {
    let tenant = &cluster.tenant;
    let users: Value = serde_json::from_slice(&std::fs::read(tenant.file("users.json")).unwrap()).unwrap();
    let refresh = users.as_array().unwrap().iter().filter_map(|user| user["refresh_token"].as_str());
    let mut all: Vec<String> = refresh.map(str::to_owned).collect();
    assert!(!all.is_empty(), "{users}");
    all.extend([world::CI_PIPELINE_SECRET, world::NODE_APP_SECRET].map(str::to_owned));
    for person in people {
        // The primes stand at the end; the public half, which stands before, is in the certificate.
        let key = std::fs::read_to_string(person.key_path()).unwrap();
        let lines: Vec<&str> = key.lines().filter(|line| line.len() == 70).collect();
        all.extend(lines.iter().rev().take(6).map(|line| (*line).to_owned()));
    }
    // The tokens that the daemon really sent.
    let asked = tenant.control("GET", "requests?service=pdp", &json!({})).unwrap();
    let sent: Vec<&str> = asked
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|request| request["headers"]["authorization"].as_str()?.strip_prefix("Bearer "))
        .collect();
    assert!(!sent.is_empty(), "{asked}");
    all.extend(sent.into_iter().map(str::to_owned));
    all
}

/// A service user who watches every command line and environment while people log in collects their
/// certificates at most, which are public; and with those nobody logs in.
#[test]
fn acceptance_12_who_watches_all_processes_learns_nothing_to_use() {
    let cluster = stage();
    let names = [world::ALICE.upn, world::ADELE.upn, world::CI_PIPELINE.oid];
    let people = [cluster.person(names[0]), cluster.person(names[1]), Person::new(&cluster.image).unwrap()];
    cluster.tenant.sign_in_app(&people[2], world::CI_PIPELINE_APP, world::CI_PIPELINE_SECRET).unwrap();
    let certificates = people.each_ref().map(|person| {
        let line = std::fs::read_to_string(person.certificate_path()).unwrap();
        line.split_once(' ').unwrap().1.to_owned()
    });

    let words = ["runuser", "-u", "nobody", "--", "python3", "-c", WATCHER];
    let mut watcher =
        cluster.node.command(&words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let seen: Mutex<Vec<(String, String)>> = Mutex::default();
    let seen = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        // Ends the watcher, also when a login below fails.
        let lifeline = watcher.stdin.take();
        scope.spawn(|| {
            for line in lines.map_while(Result::ok) {
                let (kind, hex) = line.split_once(' ').unwrap();
                let bytes: Vec<u8> = (0..hex.len() / 2)
                    .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
                    .collect();
                seen().push((kind.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
            }
        });
        wait_until("the watcher's first words", SOON, || !seen().is_empty()).unwrap();
        for round in 0..ROUNDS {
            for (person, name) in people.iter().zip(names) {
                let login = cluster.ssh(person, name, &["sudo -n id -u; env"]);
                assert!(login.stdout.contains(name), "{login:?}\n{}", cluster.journal());
            }
            let met = |certificate: &String| seen().iter().any(|(_, text)| text.contains(certificate));
            if round > 3 && certificates.iter().all(met) {
                break;
            }
        }
        drop(lifeline);
    });
    watcher.wait().unwrap();

    let seen = seen();
    let met = |part: &str| seen.iter().filter(|(_, text)| text.contains(part)).count();
    assert!(certificates.iter().all(|certificate| met(certificate) > 0), "one was never met: {seen:?}");
    assert!(met("sshd") > 0 && met("sudo") > 0, "{seen:?}");
    assert!(seen.iter().any(|(kind, text)| kind == "environ" && text.contains("PATH=")), "{seen:?}");
    for secret in secrets(&cluster, &people) {
        assert!(secret.len() > 8 && met(&secret) == 0, "{secret}");
    }
    for (kind, text) in seen.iter() {
        // A token of any kind that we do not know: certificates are base64 and may hold any letters.
        let rest = certificates.iter().fold(text.clone(), |text, known| text.replace(known, ""));
        for sign in ["eyJ", "PRIVATE KEY", "Bearer", "refresh_token", "client_secret", "password="] {
            assert!(!rest.contains(sign), "{sign} in a {kind}: {rest}");
        }
        // And no other certificate or key than those of the people.
        assert!(!rest.contains("AAAAB3NzaC1yc2E") && !rest.contains("-cert-v01@openssh.com AAAA"), "{rest}");
    }
    drop(seen);

    // Whoever holds the certificate but not the key stays outside, under each of the names.
    for (name, certificate) in names.iter().zip(&certificates) {
        let thief = Person::new(&cluster.image).unwrap();
        thief.take_certificate(&format!("ssh-rsa-cert-v01@openssh.com {certificate}")).unwrap();
        for name in names.iter().filter(|other| *other == name).chain(&["root"]) {
            let login = cluster.ssh(&thief, name, &["id"]);
            assert!(login.is_refused() && login.stdout.is_empty(), "{login:?}");
        }
    }
}

/// What pam_unix would say of the account.
fn is_locked(site: &Site, name: &str) -> bool {
    let shadow = site.node.shell(&format!("getent shadow '{name}'")).unwrap();
    let fields: Vec<&str> = shadow.trim().split(':').collect();
    assert!(fields.len() >= 8, "{shadow}");
    fields[7] == "1"
}

/// The record is locked until the yes, and again at a no: PAM's own door behind ours.
#[test]
fn review_03_a_record_is_locked_until_the_yes_and_after_a_no() {
    let site = site();
    let name = "locked.until@contoso.com";
    site.roles(&[(name, "user")]);
    let person = site.person(name);
    assert!(is_locked(site, name), "a name never seen");
    let line = std::fs::read_to_string(person.certificate_path()).unwrap();
    let admitted = site.hook(name, &line);
    assert!(String::from_utf8(admitted.stdout).unwrap().starts_with("restrict,pty"));
    assert!(is_locked(site, name), "the hook's line is no yes");
    site.assert_in(&person, name);
    assert!(!is_locked(site, name));
    site.roles(&[(name, "none")]);
    site.assert_closed(&person, name, "no_vm_role");
    assert!(is_locked(site, name));
    // Nothing else lets somebody in whose account is locked.
    let su = site.node.exec(&["su", "-", name, "-c", "id"]).unwrap();
    let cron = site.node.exec(&["runuser", "-u", name, "--", "sudo", "-n", "id"]).unwrap();
    assert!(!cron.status.success(), "{}", text(&cron));
    assert!(su.stdout.is_empty() || !su.status.success() || text(&su).contains("expired"), "{}", text(&su));
}

/// A session that stays open and obeys line by line.
struct Session {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Session {
    fn open(site: &Site, person: &Person, user: &str) -> Self {
        // Each line is run with its output on one line, then the exit status.
        let remote =
            "while read -r line; do out=$(eval \"$line\" 2>&1); echo \"$? $out\" | tr '\\n' ' '; echo; done";
        let mut command = site.node.ssh_command(person, user, &[], &[remote]).unwrap();
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// (exit status, output)
    fn run(&mut self, line: &str) -> (i32, String) {
        let pipe = self.child.stdin.as_mut().unwrap();
        writeln!(pipe, "{line}").unwrap();
        let answer = self.lines.next().expect("the session is open").unwrap();
        let (status, said) = answer.split_once(' ').unwrap();
        (status.parse().unwrap(), said.trim().to_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn acceptance_09_review_05_sudo_ends_with_the_role_in_the_same_session() {
    let site = site();
    let name = "sudoer@contoso.com";
    site.roles(&[(name, "admin")]);
    let person = site.person(name);
    let mut session = Session::open(site, &person, name);
    assert_eq!(session.run("sudo -n id -u"), (0, "0".into()));
    assert_eq!(session.run("sudo -n id -u"), (0, "0".into()));

    site.roles(&[(name, "user")]);
    let (status, said) = session.run("sudo -n id -u");
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("reason no_admin_role"), "{said}");
    // The kernel's list of groups still has the admins; that must not matter.
    assert!(session.run("id -Gn").1.contains("nightlatch-admins"));
    assert_eq!(session.run("id -un"), (0, name.into()), "the session lives on");
    site.assert_explained(name, "no_admin_role");

    // With the role back, the same session is an administrator's again.
    site.roles(&[(name, "admin")]);
    site.assert_in(&person, name);
    assert_eq!(session.run("sudo -n id -u"), (0, "0".into()));

    // Without any role there is no session either.
    site.roles(&[(name, "none")]);
    let over = wait_until("the session to end", SOON, || session.child.try_wait().unwrap().is_some());
    assert!(over.is_ok(), "{}", site.node.journal(&["-n", "40"]).unwrap());
}

const GOOD_NAMES: [&str; 4] =
    ["o.brien+x_y-z@contoso.com", "1c0163c0-47e6-4577-8991-ea5c82e286e4", "12345@contoso.com", "a@x.y-z.co"];

const BAD_NAMES: [&str; 24] = [
    "a#EXT#@contoso.com",
    "a_b.com#ext#@contoso.com",
    "Alice@contoso.com",
    "1C0163C0-47E6-4577-8991-EA5C82E286E4",
    "-x@contoso.com",
    ".hidden@contoso.com",
    "a..b@contoso.com",
    "a/../b@contoso.com",
    "../../bin/cp@contoso.com",
    "a@b@contoso.com",
    "a@contoso.com.",
    "a@.contoso.com",
    "a@contoso",
    "a%40contoso.com",
    "a@contoso.com:x",
    "a@contoso.com,root",
    "a b@contoso.com",
    "o'brien@contoso.com",
    "a\\b@contoso.com",
    "\u{212a}im@contoso.com",
    "\u{ff41}lice@contoso.com",
    "a\u{202e}@contoso.com",
    "alice@xn--contoso-rta.com",
    "root@contoso.com",
];

#[test]
fn acceptance_13_names_of_a_good_form_have_records_that_do_not_change() {
    let site = site();
    for name in GOOD_NAMES {
        let record = site.node.shell(&format!("getent passwd '{name}'")).unwrap();
        let fields: Vec<&str> = record.trim().split(':').collect();
        let uid: u32 = fields[2].parse().unwrap();
        assert!((UID_LOW..UID_HIGH).contains(&uid), "{record}");
        assert_eq!(fields[3], fields[2], "the gid is the uid, and never 0");
        assert_eq!((fields[0], fields[5]), (name, format!("/home/nl-{uid}").as_str()));
        site.roles(&[(name, "user")]);
        site.assert_in(&site.person(name), name);
        let after = site.node.shell(&format!("getent passwd '{name}'")).unwrap();
        assert_eq!(record, after, "past bug row 33: before and after the first login");
    }
}

/// Past bug rows 13, 28, 29, 30, 31, 42: names that are not ours, at each door of the node.
#[test]
fn acceptance_13_past_bug_rows_13_28_29_30_31_42_hostile_names_are_nobody() {
    let site = counted();
    let person = site.person("a@contoso.com");
    let long = format!("{}@contoso.com", "a".repeat(300));
    for name in BAD_NAMES.iter().copied().chain([long.as_str()]) {
        let found = site.node.exec(&["getent", "passwd", "--", name]).unwrap();
        assert!(!found.status.success(), "{name}: {}", text(&found));
        let login = site.ssh(&person, name, &["id"]);
        assert!(login.status == 255 && login.stdout.is_empty(), "{name}: {login:?}");
        assert_eq!(calls(site, name), [], "{name}");
    }
    for name in ["alice", "contoso.com", "@contoso.com", "1c0163c047e645778991ea5c82e286e4"] {
        let found = site.node.exec(&["getent", "passwd", "--", name]).unwrap();
        assert!(!found.status.success(), "{name}: {}", text(&found));
    }
    // No file is named by a person.
    let files =
        site.node.shell("find /var/lib/nightlatch /run/nightlatch -mindepth 1 -printf '%f\\n'").unwrap();
    assert!(files.contains("decisions.jsonl\n"), "{files}");
    for file in files.lines() {
        let plain = file.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'-'));
        assert!(plain && !file.contains("contoso"), "{file}");
    }
}
