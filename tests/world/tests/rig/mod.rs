//! One node whose sshd asks a scripted hook, shared by all rows of `sshd_facts`.
//!
//! The hook logs each call and prints what the row wrote for its user, so rows run side by side: each
//! has a user of its own. The node goes with the process (its keeper sees the pipe end).

use std::sync::{Mutex, OnceLock};

use nightlatch_world::{CertificateSpec, LocalCa, Node, NodeSpec, Person, SshOutcome};

const HOOK_PATH: &str = "/usr/libexec/facts/hook";
const HOOK: &str = r#"#!/bin/sh
# Arguments: %u %U %t %k. The row's wishes lie in a folder named after its user.
folder=/run/facts/$1
printf '%s %s %s %s %s\n' "$1" "$2" "$3" "$PPID" "$4" >>/run/facts/calls
[ -d "$folder" ] || exit 0
[ -f "$folder/delay" ] && sleep "$(cat "$folder/delay")"
[ -f "$folder/environment" ] && { env >"$folder/environment"; readlink /proc/self/fd/0 /proc/self/fd/2 >>"$folder/environment"; }
cat "$folder/output"
exit "$(cat "$folder/exit")"
"#;
const MATCH_BLOCK: &str = "\
Match User percent-c@*
    AuthorizedKeysFile none
    AuthorizedKeysCommand /usr/libexec/facts/hook %u %U %t %k %C
    AuthorizedKeysCommandUser facts-hook
Match User *@*,????????-????-????-????-????????????
    AuthenticationMethods publickey
    AuthorizedKeysFile none
    AuthorizedKeysCommand /usr/libexec/facts/hook %u %U %t %k
    AuthorizedKeysCommandUser facts-hook
";

/// The node, an authority whose key the hook may print, and one that it never prints.
pub struct Rig {
    pub node: Node,
    pub ca: LocalCa,
    pub stranger: LocalCa,
    /// useradd takes one lock for the whole file and gives up soon.
    accounts: Mutex<()>,
}

/// One row of the matrix: a user in the node and the person who logs in as that user.
pub struct Row {
    pub rig: &'static Rig,
    pub user: String,
    pub person: Person,
}

/// One run of the hook.
#[derive(Debug)]
pub struct Call {
    pub uid: String,
    pub key_type: String,
    pub monitor: String,
    pub key: String,
}

pub fn rig() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| {
        let node = Node::boot(&NodeSpec::default()).unwrap();
        node.shell(
            "useradd --system --shell /usr/sbin/nologin facts-hook
             install -d -m 0755 /usr/libexec/facts
             install -d -m 0755 -o facts-hook /run/facts
             install -m 0600 -o facts-hook /dev/null /run/facts/calls",
        )
        .unwrap();
        node.write_file(HOOK_PATH, HOOK.as_bytes(), 0o755, "root:root").unwrap();
        node.write_file("/etc/ssh/sshd_config.d/50-facts.conf", MATCH_BLOCK.as_bytes(), 0o644, "root:root")
            .unwrap();
        node.shell("sshd -t && systemctl reload ssh").unwrap();
        let ca = LocalCa::new(node.image()).unwrap();
        let stranger = LocalCa::new(node.image()).unwrap();
        Rig { node, ca, stranger, accounts: Mutex::new(()) }
    })
}

impl Rig {
    /// The version of the node's OpenSSH, such as (9, 2).
    pub fn openssh(&self) -> (u32, u32) {
        let text = self.node.shell("ssh -V 2>&1").unwrap();
        let version = text.strip_prefix("OpenSSH_").unwrap();
        let numbers: Vec<u32> = version
            .split(|letter: char| !letter.is_ascii_digit())
            .take(2)
            .map(|digits| digits.parse().unwrap())
            .collect();
        (numbers[0], numbers[1])
    }
}

impl Row {
    /// A row with a local account `<name>@contoso.com`, a key, and a hook that prints nothing.
    pub fn new(name: &str) -> Self {
        let row = Self::without_account(name);
        let line = format!("useradd --badname --no-create-home --shell /bin/sh --password '*' {}", row.user);
        let one_at_a_time = row.rig.accounts.lock().unwrap();
        row.rig.node.shell(&line).unwrap();
        drop(one_at_a_time);
        row
    }

    /// A row whose login name no NSS source knows.
    pub fn without_account(name: &str) -> Self {
        let rig = rig();
        let row =
            Self { rig, user: format!("{name}@contoso.com"), person: Person::new(rig.node.image()).unwrap() };
        rig.node.shell(&format!("install -d -m 0755 -o facts-hook /run/facts/{}", row.user)).unwrap();
        row.set("output", "");
        row.set("exit", "0");
        row
    }

    /// Writes one of the row's wishes for the hook.
    pub fn set(&self, name: &str, text: &str) {
        let path = format!("/run/facts/{}/{name}", self.user);
        self.rig.node.write_file(&path, text.as_bytes(), 0o644, "facts-hook:root").unwrap();
    }

    pub fn hook_prints(&self, text: &str) {
        self.set("output", text);
    }

    /// The authority's key as `type base64`.
    pub fn ca_key(&self) -> String {
        self.rig.ca.public_key().unwrap()
    }

    /// A specification of a certificate for this row's user.
    pub fn spec(&self) -> CertificateSpec {
        CertificateSpec::for_principal(&self.user)
    }

    /// Signs and hands over a certificate.
    pub fn take(&self, spec: &CertificateSpec) {
        self.person.take_certificate(&self.rig.ca.sign(&self.person, spec).unwrap()).unwrap();
    }

    pub fn login(&self) -> SshOutcome {
        self.login_with(&[])
    }

    pub fn login_with(&self, options: &[&str]) -> SshOutcome {
        self.rig.node.ssh(&self.person, &self.user, &["id", "-un"], options).unwrap()
    }

    pub fn assert_in(&self) -> SshOutcome {
        let outcome = self.login();
        assert!(outcome.is_in(), "{outcome:?}");
        assert_eq!(outcome.stdout.trim(), self.user);
        outcome
    }

    /// Asserts a refusal, and then that the rig is sound: the same user gets in with the certificate
    /// and the line that differ from the refused ones by nothing but the row's subject.
    pub fn assert_refused(&self) -> Vec<Call> {
        let before = self.calls().len();
        let outcome = self.login();
        assert!(outcome.is_refused(), "{outcome:?}");
        let calls = self.calls().split_off(before);
        self.take(&self.spec());
        self.hook_prints(&format!("cert-authority,principals=\"{}\" {}\n", self.user, self.ca_key()));
        self.set("exit", "0");
        self.assert_in();
        calls
    }

    /// The hook's runs for this row so far.
    pub fn calls(&self) -> Vec<Call> {
        let text = String::from_utf8(self.rig.node.read_file("/run/facts/calls").unwrap()).unwrap();
        let words = text.lines().map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        words
            .filter(|words| words[0] == self.user)
            .map(|words| Call {
                uid: words[1].clone(),
                key_type: words[2].clone(),
                monitor: words[3].clone(),
                key: words[4].clone(),
            })
            .collect()
    }

    /// What sshd logged about this row's user.
    pub fn sshd_journal(&self) -> String {
        self.rig.node.journal(&["-t", "sshd"]).unwrap()
    }
}

/// The key type by which sshd names an RSA certificate.
pub const RSA_CERTIFICATE: &str = "ssh-rsa-cert-v01@openssh.com";

/// True for a call that was made for a certificate.
pub fn is_for_certificate(call: &Call) -> bool {
    call.key_type == RSA_CERTIFICATE
}
