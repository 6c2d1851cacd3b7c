//! The node that the stories share: the product installed, one tenant, roles from a file.
//!
//! The authorities here are ssh-keygen's, and one of our own for certificates that ssh-keygen will
//! not make; so these stories do not depend on the Entra emulator. Stories that break something
//! start a node of their own.

use std::io::Write as _;
use std::process::{Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nightlatch_sshcert::testing::{CertificateBuilder, TestKey};
use nightlatch_wire::{Message, Parent};
use nightlatch_world::{
    Binaries, CertificateSpec, Image, LocalCa, Node, NodeSpec, Person, SshOutcome, attach, install,
    local_user, prepare, wait_until,
};

/// The tenant of every story.
pub(crate) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// The node's ARM id.
pub(crate) const NODE_ID: &str = "/subscriptions/00000000-0000-0000-0000-00000000005b/resourceGroups/MC_demo/providers/Microsoft.Compute/virtualMachineScaleSets/pool1/virtualMachines/3";
/// Where the hook is installed.
pub(crate) const HOOK: &str = "/usr/libexec/nightlatch/authorized-keys";
/// Where the PAM helper is installed.
pub(crate) const HELPER: &str = "/usr/libexec/nightlatch/pam";
/// How long a record, a file or a restarted service may take to show.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Sends each frame (hex, one a line) on a connection of its own and prints what came back (hex).
const SENDER: &str = r"
import socket, sys
for line in sys.stdin:
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(15)
    got = b''
    try:
        s.connect(sys.argv[1])
        s.sendall(bytes.fromhex(line.strip()))
        if len(sys.argv) > 2:
            s.shutdown(socket.SHUT_WR)
        while True:
            part = s.recv(65536)
            if not part:
                break
            got += part
    except OSError as why:
        got = got or str(type(why).__name__).encode()
    print(got.hex())
";

/// A hook that counts its runs and then is the real one, in the same process.
const COUNTER: &str = "#!/bin/sh\nprintf '%s %s %s\\n' \"$1\" \"$3\" \"$PPID\" >>/run/hook-calls\n\
                       exec /usr/libexec/nightlatch/authorized-keys.real \"$@\"\n";

/// A node with the product on it.
pub(crate) struct Site {
    pub(crate) image: Image,
    pub(crate) node: Node,
    pub(crate) ca: LocalCa,
    /// An authority that the node trusts as well, and that signs anything.
    pub(crate) forge: TestKey,
    roles: Mutex<Vec<(String, String)>>,
}

/// What `nightlatch explain NAME --last` says.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) status: i32,
    pub(crate) verdict: String,
    pub(crate) reason: String,
    pub(crate) correlation: String,
    pub(crate) all: String,
}

/// The shared node; booted by the first story that needs it.
pub(crate) fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(Site::start)
}

/// A second shared node: only one domain is allowed, and each run of the hook is counted.
pub(crate) fn counted() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let site = Site::start_with("domains = [\"contoso.com\"]\n");
        site.node
            .shell(&format!(
                "mv {HOOK} {HOOK}.real && install -m 0600 -o nightlatch-hook /dev/null /run/hook-calls"
            ))
            .unwrap();
        site.node.write_file(HOOK, COUNTER.as_bytes(), 0o755, "root:root").unwrap();
        site
    })
}

/// A stable object id for a name.
pub(crate) fn oid_of(name: &str) -> String {
    let sum =
        name.bytes().fold(7_u64, |sum, b| sum.wrapping_mul(1_099_511_628_211).wrapping_add(u64::from(b)));
    format!("00000000-0000-4000-8000-{:012x}", sum & 0xffff_ffff_ffff)
}

impl Site {
    /// A node of its own, for stories that break things.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines in `[login]`, and in whatever section they begin.
    pub(crate) fn start_with(more: &str) -> Self {
        let image = prepare().unwrap();
        let node = Node::boot(&NodeSpec::default()).unwrap();
        let ca = LocalCa::new(&image).unwrap();
        let forge = TestKey::p256();
        let site = Self { image, node, ca, forge, roles: Mutex::default() };
        site.node.shell("install -d -m 0755 /etc/nightlatch").unwrap();
        site.configure(more);
        let keys = format!("{}\n{}\n", site.ca.public_key().unwrap(), site.forge.line());
        site.node.write_file("/etc/nightlatch/ca.pub", keys.as_bytes(), 0o644, "root:root").unwrap();
        site.roles(&[]);
        install(&site.node, &Binaries::find().unwrap()).unwrap();
        attach(&site.node).unwrap();
        site
    }

    /// Writes the configuration; `more` goes to the end of it.
    pub(crate) fn configure(&self, more: &str) {
        self.configure_mode("enforce", more);
    }

    /// The same in another mode.
    pub(crate) fn configure_mode(&self, mode: &str, more: &str) {
        let text = format!(
            "tenant = \"{TENANT}\"\nmode = \"{mode}\"\n[node]\nkind = \"vm\"\nresource_id = \"{NODE_ID}\"\n\
             [trust]\nca = [\"file\"]\n[login]\nroles_from = \"file\"\n{more}"
        );
        self.node.write_file("/etc/nightlatch/nightlatch.toml", text.as_bytes(), 0o644, "root:root").unwrap();
    }

    /// Gives roles: (name, role), on top of what other stories gave; `none` takes them all back.
    pub(crate) fn roles(&self, rows: &[(&str, &str)]) {
        let rows: Vec<(String, &str)> = rows.iter().map(|(name, role)| (oid_of(name), *role)).collect();
        self.roles_of(&rows);
    }

    /// The same by object id.
    pub(crate) fn roles_of(&self, rows: &[(String, &str)]) {
        let mut all = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        for (oid, role) in rows {
            all.retain(|(known, _)| known != oid);
            if *role != "none" {
                all.push((oid.clone(), (*role).to_owned()));
            }
        }
        let text: String = all
            .iter()
            .map(|(oid, role)| format!("[[assignment]]\nprincipal = \"{oid}\"\nrole = \"{role}\"\n"))
            .collect();
        let text = if all.is_empty() { "assignment = []\n".to_owned() } else { text };
        self.node.write_file("/etc/nightlatch/roles.toml", text.as_bytes(), 0o644, "root:root").unwrap();
    }

    /// What Entra would write into a certificate for this name.
    pub(crate) fn spec(&self, name: &str) -> CertificateSpec {
        self.spec_as(name, &oid_of(name), TENANT)
    }

    /// The same for a person of this object id and tenant.
    pub(crate) fn spec_as(&self, name: &str, oid: &str, tid: &str) -> CertificateSpec {
        let mut spec = CertificateSpec::for_principal(name);
        spec.options.push(format!("extension:oid@entra.microsoft.com={oid}"));
        spec.options.push(format!("extension:tid@entra.microsoft.com={tid}"));
        spec
    }

    /// A person holding a good certificate for this name.
    pub(crate) fn person(&self, name: &str) -> Person {
        self.person_with(&self.spec(name))
    }

    /// A person holding this certificate.
    pub(crate) fn person_with(&self, spec: &CertificateSpec) -> Person {
        let person = Person::new(&self.image).unwrap();
        self.certify(&person, spec);
        person
    }

    /// Hands a person another certificate.
    pub(crate) fn certify(&self, person: &Person, spec: &CertificateSpec) {
        person.take_certificate(&self.ca.sign(person, spec).unwrap()).unwrap();
    }

    /// A good certificate for a person's key, open to every change, to be signed by the forge.
    pub(crate) fn forged(&self, person: &Person, name: &str) -> CertificateBuilder {
        let key = person.public_key().unwrap();
        let blob = STANDARD.decode(key.split_once(' ').unwrap().1).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        CertificateBuilder::for_blob(&blob)
            .principals([name])
            .valid(now - 300, now + 3600)
            .permit_all()
            .text_extension("oid@entra.microsoft.com", oid_of(name))
            .text_extension("tid@entra.microsoft.com", TENANT)
    }

    /// One login that runs a command.
    pub(crate) fn ssh(&self, person: &Person, user: &str, words: &[&str]) -> SshOutcome {
        self.node.ssh(person, user, words, &[]).unwrap()
    }

    /// Asserts that a login works; the journal is in the failure.
    pub(crate) fn assert_in(&self, person: &Person, user: &str) -> SshOutcome {
        let login = self.ssh(person, user, &["id -un"]);
        assert!(login.is_in(), "{login:?}\n{}", self.node.journal(&["-n", "40"]).unwrap());
        assert_eq!(login.stdout.trim(), user);
        login
    }

    /// Asserts that sshd refuses the key, and that `explain` names the reason with exit status 1.
    pub(crate) fn assert_refused(&self, person: &Person, user: &str, reason: &str) {
        let login = self.ssh(person, user, &["id"]);
        assert!(login.is_refused(), "{reason}: {login:?}");
        self.assert_explained(user, reason);
    }

    /// Asserts that PAM closes the connection, with the sentence of the reason on the terminal.
    pub(crate) fn assert_closed(&self, person: &Person, user: &str, reason: &str) -> SshOutcome {
        let login = self.ssh(person, user, &["id"]);
        assert!(login.status == 255 && login.stdout.is_empty(), "{reason}: {login:?}");
        assert!(login.stderr.contains(&format!("reason {reason}, ref ")), "{reason}: {login:?}");
        login
    }

    /// Asserts that the last decision about a name has this reason.
    pub(crate) fn assert_explained(&self, user: &str, reason: &str) {
        let mut last = None;
        let found = wait_until("the record", SOON, || {
            last = Some(self.explain(user));
            last.as_ref().is_some_and(|last| last.reason == reason && last.status == 1)
        });
        assert!(found.is_ok(), "{user}: expected {reason}, found {last:?}");
    }

    /// `nightlatch explain NAME --last`.
    pub(crate) fn explain(&self, user: &str) -> Explained {
        let done = self.node.exec(&["nightlatch", "-o", "json", "explain", "--last", "--", user]).unwrap();
        let all = text(&done);
        let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
        let field = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        Explained {
            status: done.status.code().unwrap_or(-1),
            verdict: field("verdict"),
            reason: field("reason"),
            correlation: field("correlation"),
            all,
        }
    }

    /// Every decision about a name that is kept: (service, outcome, reason).
    pub(crate) fn decisions(&self, user: &str) -> Vec<(String, String, String)> {
        let text = self.node.shell("cat /var/lib/nightlatch/decisions.jsonl 2>/dev/null || true").unwrap();
        let rows = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let field = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        rows.filter(|row| row["user"] == user)
            .map(|row| (field(&row, "service"), field(&row, "outcome"), field(&row, "reason")))
            .collect()
    }

    /// A local account with a key of its own and sudo without a password.
    pub(crate) fn local(&self, name: &str) -> Person {
        let person = Person::with_key(&self.image, "ed25519").unwrap();
        local_user(&self.node, name, &person).unwrap();
        let line = format!("{name} ALL=(ALL) NOPASSWD: ALL\n");
        self.node.write_file(&format!("/etc/sudoers.d/{name}"), line.as_bytes(), 0o440, "root:root").unwrap();
        person
    }

    /// Asserts that a local account is as it was: ssh, sudo, su and the look-up of its groups.
    pub(crate) fn assert_local_unaffected(&self, person: &Person, name: &str, when: &str) {
        let login = self.ssh(person, name, &["id", "-un"]);
        assert_eq!((login.status, login.stdout.trim()), (0, name), "{when}: {login:?}");
        let sudo = self.node.exec_as(name, &["sudo", "-n", "id", "-u"]).unwrap();
        assert_eq!(sudo.stdout, b"0\n", "{when}: {}", text(&sudo));
        let su = self.node.exec(&["su", "-", name, "-c", "id -un"]).unwrap();
        assert_eq!(su.stdout, format!("{name}\n").as_bytes(), "{when}: {}", text(&su));
        let groups = self.node.exec(&["id", "-Gn", name]).unwrap();
        assert_eq!(groups.stdout, format!("{name}\n").as_bytes(), "{when}: {}", text(&groups));
    }

    /// The uid that the node gives to a name.
    pub(crate) fn uid(&self, name: &str) -> u32 {
        self.node.shell(&format!("id -u '{name}'")).unwrap().trim().parse().unwrap()
    }

    /// Runs the hook as sshd would, with a key or certificate as `type base64`.
    pub(crate) fn hook(&self, user: &str, line: &str) -> Output {
        let (key_type, key) = line.split_once(' ').unwrap();
        let uid = self.uid(user).to_string();
        self.node.exec_as("nightlatch-hook", &[HOOK, user, &uid, key_type, key]).unwrap()
    }

    /// Sends raw bytes to a socket as a user of the node: one connection each, the raw answers.
    pub(crate) fn send_raw(&self, user: &str, socket: &str, frames: &[Vec<u8>], half: bool) -> Vec<Vec<u8>> {
        let path = format!("/run/nightlatch/{socket}.sock");
        let mut words = vec!["runuser", "-u", user, "--", "python3", "-c", SENDER, &path];
        if half {
            words.push("half");
        }
        let mut command = self.node.command(&words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines: String = frames.iter().map(|frame| format!("{}\n", hex(frame))).collect();
        let mut pipe = child.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || pipe.write_all(lines.as_bytes()));
        let done = child.wait_with_output().unwrap();
        feeder.join().unwrap().unwrap();
        let answers: Vec<Vec<u8>> = String::from_utf8(done.stdout).unwrap().lines().map(unhex).collect();
        assert_eq!(answers.len(), frames.len());
        answers
    }

    /// Sends one message and decodes the answer.
    pub(crate) fn ask(&self, user: &str, socket: &str, question: &Message) -> Message {
        let answers = self.send_raw(user, socket, &[question.encode().unwrap()], false);
        Message::decode(answers[0].get(4..).unwrap_or_default())
            .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&answers[0])))
    }

    /// A process that passes for sshd's monitor of a connection: root's, called `sshd`, alive. A yes for a
    /// monitor that does not live would be one for nobody. It ends when the node does.
    pub(crate) fn monitor(&self) -> Parent {
        let script = "install -D /bin/sleep /run/stand-in/sshd; setsid /run/stand-in/sshd 1000 >/dev/null 2>&1 & \
                      sleep 0.2; cat /proc/$!/stat";
        let stat = self.node.shell(script).unwrap();
        let (head, tail) = stat.rsplit_once(')').unwrap();
        let pid = head.split(' ').next().unwrap().parse().unwrap();
        Parent { pid, start: tail.split_whitespace().nth(19).unwrap().parse().unwrap() }
    }

    /// The main process of a unit; 0 when it does not run.
    pub(crate) fn main_pid(&self, unit: &str) -> u32 {
        self.node.shell(&format!("systemctl show -P MainPID {unit}")).unwrap().trim().parse().unwrap()
    }

    /// True while a unit is active.
    pub(crate) fn is_active(&self, unit: &str) -> bool {
        self.node.exec(&["systemctl", "is-active", "--quiet", unit]).unwrap().status.success()
    }

    /// Asserts that the daemon runs, is the process it was, and never panicked.
    pub(crate) fn assert_sound(&self, pid: u32) {
        assert!(pid != 0 && self.main_pid("nightlatchd") == pid, "the daemon was restarted");
        let journal = self.node.journal(&["-u", "nightlatchd"]).unwrap();
        assert!(!journal.contains("panicked"), "{journal}");
    }

    /// The journal's records of the daemon as JSON.
    pub(crate) fn records(&self) -> Vec<serde_json::Value> {
        self.node.exec(&["journalctl", "--sync"]).unwrap();
        let words = ["journalctl", "-q", "--no-pager", "--all", "-o", "json", "-u", "nightlatchd"];
        let text = self.node.exec(&words).unwrap().stdout;
        String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Both streams of a finished command.
pub(crate) fn text(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(line: &str) -> Vec<u8> {
    let digits = line.trim().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
