//! opkssh itself, as Debian builds it: its client logs in on our nodes, and its server takes our client's certificates.
//! Neither was written by us. On a host that is not Debian there is none, and that is said.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_emulator::world;
use nightlatch_world::{
    NodeSpec, OPENPUBKEY_CLIENT, as_traveller, interop, register_openpubkey, traveller_of, traveller_shell,
    wait_until,
};

use serde_json::json;

use crate::tenant::Cluster;

const NAME: &str = world::ALICE.upn;
/// opkssh refreshes some seconds after its sign-in here.
const REFRESH_LIMIT: Duration = Duration::from_secs(60);
const SSH: &str =
    "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o IdentitiesOnly=yes -o ConnectionAttempts=10";

/// A node that takes such certificates for this long, and a person on it with opkssh. `uid` is this story's own: the kernel
/// that holds the person's keys is the host's.
struct Desk {
    cluster: Cluster,
}

impl Desk {
    #[expect(clippy::print_stderr, reason = "who reads the run must know that nothing was tried")]
    fn set_up(uid: u32, expiration: &str) -> Option<Self> {
        let programs: PathBuf = interop("opkssh").unwrap();
        if !programs.join("new").exists() {
            eprintln!("not a Debian host: there is no opkssh to try");
            return None;
        }
        let table =
            format!("[openpubkey]\nclient_ids = [\"{OPENPUBKEY_CLIENT}\"]\nexpiration = \"{expiration}\"\n");
        let node = NodeSpec { keyring: true, ..NodeSpec::default() };
        let cluster = Cluster::start_on(&node, &table);
        register_openpubkey(&cluster.tenant).unwrap();
        cluster.node.lend(&programs, "opkssh").unwrap();
        traveller_of(&cluster.node, &format!("--uid {uid}")).unwrap();
        Some(Self { cluster })
    }

    /// By how much the tenant's clock is behind, in seconds.
    fn behind(&self, seconds: i64) {
        self.cluster.tenant.control("PUT", "time", &json!({"clock_offset": -seconds})).unwrap();
    }

    /// Has the traveller sign in with one of the two programs; what it said.
    fn opkssh(&self, which: &str, options: &str) -> String {
        let provider =
            format!("https://login.microsoftonline.com/{}/v2.0,{OPENPUBKEY_CLIENT}", world::TENANT);
        let line =
            format!("rm -f .ssh/id_*; /opt/interop/opkssh/{which} login --provider={provider} {options}");
        let done = self.shell(&line);
        assert!(done.status.success(), "{}", both(&done));
        both(&done)
    }

    /// A line of shell as the traveller, at home.
    fn shell(&self, line: &str) -> std::process::Output {
        traveller_shell(&self.cluster.node, &format!("cd /home/traveller && {line}")).unwrap()
    }

    /// What `ssh` printed that logged in with this key.
    fn login(&self, key: &str) -> String {
        let done = self.shell(&format!("{SSH} -i .ssh/{key} {NAME}@127.0.0.1 id -un"));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    fn why(&self) -> String {
        self.cluster.node.shell(&format!("nightlatch explain {NAME} --last || true")).unwrap()
    }
}

/// The organisation's application, as opkssh is told of it.
fn provider() -> String {
    format!("{},{OPENPUBKEY_CLIENT}", issuer())
}

fn issuer() -> String {
    format!("https://login.microsoftonline.com/{}/v2.0", world::TENANT)
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = as_traveller(&self.cluster.node, "cert --forget");
    }
}

fn both(done: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

#[test]
fn the_client_of_opkssh_logs_in_with_every_key_that_it_makes() {
    let Some(desk) = Desk::set_up(61_003, "24h") else { return };
    for (options, key) in [("", "id_ecdsa"), ("--key-type ed25519", "id_ed25519")] {
        let said = desk.opkssh("new", options);
        assert_eq!(desk.login(key), NAME, "{said}\n{}\n{}", desk.why(), desk.cluster.journal());
        assert!(desk.why().contains("OpenPubkey: https://login.microsoftonline.com/"), "{}", desk.why());
    }
    // A bearer token in a certificate that every server sees.
    desk.opkssh("new", "--send-access-token");
    assert_ne!(desk.login("id_ecdsa"), NAME);
    assert!(desk.why().contains("access_token_inside"), "{}", desk.why());
    // Before 0.14 its certificates named nobody.
    desk.opkssh("old", "");
    assert_ne!(desk.login("id_ecdsa"), NAME);
    assert!(desk.why().contains("no_principal"), "{}", desk.why());
}

#[test]
fn the_server_of_opkssh_takes_the_certificates_of_our_client() {
    let Some(desk) = Desk::set_up(61_004, "oidc-refreshed") else { return };
    let issuer = issuer();
    // A sign-in of more than an hour ago, which our client has the kernel hold.
    desk.behind(3_700);
    let cert = || {
        let made = as_traveller(&desk.cluster.node, &format!("cert --login-hint {NAME}")).unwrap();
        assert!(made.status.success(), "{}", both(&made));
    };
    cert();
    desk.behind(0);
    let node = &desk.cluster.node;
    node.shell("groupadd -f opksshuser; useradd -M -g opksshuser opksshuser; install -d -m 0750 -g opksshuser /etc/opk")
        .unwrap();
    let file = |name: &str, text: &str| {
        node.write_file(&format!("/etc/opk/{name}"), text.as_bytes(), 0o640, "root:opksshuser").unwrap();
    };
    file("providers", &format!("{issuer} {OPENPUBKEY_CLIENT} 24h\n"));
    let verify = |user: &str| {
        let certificate = "/home/traveller/.ssh/nightlatch/id_ed25519-cert.pub";
        let line = format!(
            "set -- $(cat {certificate}); /opt/interop/opkssh/new verify {user} \"$2\" \"$1\" 2>&1 || true"
        );
        node.shell(&line).unwrap()
    };
    // Whom the tenant calls the traveller.
    let sub = URL_SAFE_NO_PAD.encode(world::ALICE.oid);
    file("auth_id", &format!("alice {sub} {issuer}\n"));
    let taken = verify("alice");
    assert!(is_taken(&taken), "{taken}");
    // It is their policy that says so, and our certificate that it looks at.
    assert!(!is_taken(&verify("bob")));
    file("auth_id", &format!("alice somebody-else {issuer}\n"));
    assert!(!is_taken(&verify("alice")));
    // Where it goes by the newest ID token, this one is over; and then our client has put a newer one beside it.
    file("auth_id", &format!("alice {sub} {issuer}\n"));
    file("providers", &format!("{issuer} {OPENPUBKEY_CLIENT} oidc_refreshed\n"));
    let over = verify("alice");
    assert!(!is_taken(&over) && over.contains("expired"), "{over}");
    cert();
    let taken = verify("alice");
    assert!(is_taken(&taken), "{taken}");
}

/// Whether `opkssh verify` printed a line for sshd.
fn is_taken(said: &str) -> bool {
    said.lines().any(|line| line.starts_with("cert-authority") && line.contains(" ssh-ed25519 "))
}

/// opkssh refreshes by itself, a minute before its ID token ends; our node counts from the newest.
#[test]
fn a_sign_in_that_opkssh_refreshed_counts_as_refreshed() {
    let Some(desk) = Desk::set_up(61_005, "oidc-refreshed") else { return };
    desk.behind(3_600 - 66);
    let provider = format!("'{},,openid profile offline_access'", provider());
    let run = "systemd-run --quiet --unit=refreshing --uid=traveller -E HOME=/home/traveller -E DISPLAY=:0 -p WorkingDirectory=/home/traveller";
    desk.cluster
        .node
        .shell(&format!("{run} /opt/interop/opkssh/new login --auto-refresh --provider={provider}"))
        .unwrap();
    let certificate = "/home/traveller/.ssh/id_ecdsa-cert.pub";
    let wait = |what: &str, line: &str| {
        let there =
            || desk.cluster.node.shell(&format!("{line} && echo yes || true")).unwrap().contains("yes");
        wait_until(what, REFRESH_LIMIT, there).unwrap_or_else(|late| {
            panic!("{late}: {}", desk.cluster.node.journal(&["-u", "refreshing"]).unwrap())
        });
    };
    wait("the certificate", &format!("test -s {certificate}"));
    desk.behind(0);
    desk.cluster.node.shell(&format!("cp {certificate} /root/first")).unwrap();
    wait("another one", &format!("! cmp -s {certificate} /root/first"));
    assert_eq!(desk.login("id_ecdsa"), NAME, "{}\n{}", desk.why(), desk.cluster.journal());
    assert!(desk.why().contains(", refreshed"), "{}", desk.why());
}
