//! Sign-ins that the kernel holds: hour after hour a new certificate without a page, nothing of it on the disk, and its end
//! when the person, the tenant or the machine ends it.

use std::process::Output;

use nightlatch_emulator::world;
use nightlatch_world::{
    NodeSpec, OPENPUBKEY_CLIENT, as_traveller, register_openpubkey, traveller_of, traveller_shell,
};
use serde_json::{Value, json};

use crate::own_client::{asked, opened};
use crate::tenant::Cluster;

const ANYWHERE: &str = "-O StrictHostKeyChecking=no";
const NAME: &str = world::ALICE.upn;

/// Somebody's own computer, whose kernel holds keys. What it holds goes with this.
struct Desk {
    cluster: Cluster,
}

impl Desk {
    /// `uid` is this story's own: the kernel that holds the keys is the host's.
    fn set_up(uid: u32, more: &str) -> Self {
        let node = NodeSpec { keyring: true, ..NodeSpec::default() };
        let cluster = Cluster::start_on(&node, more);
        traveller_of(&cluster.node, &format!("--uid {uid}")).unwrap();
        Self { cluster }
    }

    fn run(&self, words: &str) -> Output {
        as_traveller(&self.cluster.node, words).unwrap()
    }

    /// A login with `nightlatch ssh`; the name that it got in by.
    fn login(&self, options: &str) -> String {
        let done = self.run(&format!("ssh {options} {ANYWHERE} 127.0.0.1 -- id -un"));
        assert!(done.status.success(), "{}\n{}", said(&done), self.cluster.journal());
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    fn control(&self, method: &str, path: &str, body: serde_json::Value) {
        self.cluster.tenant.control(method, path, &body).unwrap();
    }

    fn shell(&self, line: &str) -> String {
        self.cluster.node.shell(line).unwrap()
    }

    fn opened(&self) -> usize {
        opened(&self.cluster)
    }

    /// The refreshes that Entra was asked for.
    fn refreshes(&self) -> Vec<String> {
        let forms = asked(&self.cluster, "/token");
        forms.into_iter().filter(|form| form.contains("grant_type=refresh_token")).collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = as_traveller(&self.cluster.node, "cert --forget");
    }
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// The value of this field of a form.
fn field<'a>(form: &'a str, name: &str) -> &'a str {
    let start = format!("{name}=");
    form.split('&').find_map(|pair| pair.strip_prefix(start.as_str())).unwrap_or_default()
}

#[test]
fn entras_certificate_is_renewed_without_a_page_until_the_sign_in_ends() {
    let desk = Desk::set_up(61_001, "");
    let kind = format!("--kind entra --login-hint {NAME}");
    let seconds = |n: u32| desk.control("PUT", "time", json!({"certificate_seconds": n}));
    seconds(500);
    assert_eq!(desk.login(&kind), NAME);
    assert_eq!((desk.opened(), desk.refreshes().len()), (1, 0));
    let key = || desk.shell("cat /home/traveller/.ssh/nightlatch/id_rsa");
    let first = key();

    // The certificate is about to end: another one for the same key, and nobody is asked.
    assert_eq!(desk.login("--kind entra"), NAME);
    let forms = desk.refreshes();
    let [form] = &forms[..] else { panic!("{forms:?}") };
    assert!(form.contains("token_type=ssh-cert") && form.contains("offline_access"), "{form}");
    assert!((desk.opened(), key()) == (1, first));

    // The next is made with what came back. Neither it nor the first is anywhere on the disk.
    assert_eq!(desk.login("--kind entra"), NAME);
    let forms = desk.refreshes();
    let held: Vec<&str> = forms.iter().map(|form| field(form, "refresh_token")).collect();
    assert!(held.len() == 2 && held[0] != held[1] && held.iter().all(|token| token.len() > 20), "{held:?}");
    let found = |token: &str| {
        let places = "/home /root /tmp /run/user /var/lib";
        desk.shell(&format!("grep -rlF -e '{token}' {places} 2>/dev/null || true"))
    };
    desk.shell(&format!("echo 'x {} x' >/home/traveller/twin", held[1]));
    assert_eq!((found(held[0]).as_str(), found(held[1]).as_str()), ("", "/home/traveller/twin\n"));

    // Many at once, as Ansible does: one asks, and the others use what it got.
    seconds(3_600);
    let crowd =
        "for one in 1 2 3 4 5 6 7 8; do nightlatch cert --kind entra >/dev/null || echo failed & done; wait";
    let crowd = traveller_shell(&desk.cluster.node, crowd).unwrap();
    assert!(crowd.status.success() && crowd.stdout.is_empty(), "{}", said(&crowd));
    assert_eq!((desk.opened(), desk.refreshes().len()), (1, 3));

    // Entra is away: what is still good is used, and the person is told. What is over is no reason for a page.
    let away =
        || desk.control("PUT", "faults/entra", json!({"kind": "status", "status": 503, "path": "token"}));
    let back = || desk.control("DELETE", "faults/entra", json!({}));
    let lasting = |n: u32| {
        seconds(n);
        let again = desk.run("cert --kind entra --renew");
        assert!(again.status.success(), "{}", said(&again));
        away();
        let tried = desk.run(&format!("ssh --kind entra {ANYWHERE} 127.0.0.1 -- id -un"));
        back();
        tried
    };
    let good = lasting(500);
    assert!(good.status.success() && desk.opened() == 2, "{}", said(&good));
    assert!(said(&good).contains("cannot be renewed now"), "{}", said(&good));
    let over = lasting(30);
    assert!(over.status.code() == Some(1) && desk.opened() == 3, "{}", said(&over));
    seconds(500);

    // Asked too often is not taken back: the last one is used meanwhile, and what renews it is kept.
    let refusal = |code: u32, claims: &Value| json!({"code": code, "grant": "refresh_token", "claims": claims, "times": 1});
    assert_eq!(desk.login("--kind entra"), NAME);
    let before = desk.refreshes().len();
    desk.control("POST", "entra/scripts", refusal(50_196, &Value::Null));
    assert_eq!((desk.login("--kind entra"), desk.login("--kind entra")), (NAME.to_owned(), NAME.to_owned()));
    assert_eq!((desk.opened(), desk.refreshes().len()), (3, before + 2));

    // Entra wants more than it wanted then: a page that satisfies it, and nothing is lost.
    let claims = json!({"access_token": {"acrs": {"essential": true, "value": "c1"}}});
    desk.control("POST", "entra/scripts", refusal(50_076, &claims));
    assert_eq!((desk.login("--kind entra"), desk.opened()), (NAME.to_owned(), 4));
    let page = asked(&desk.cluster, "/authorize").pop().unwrap();
    assert!(page.contains("claims=%7B%22access_token%22"), "{page}");

    // Somebody ended the person's sign-ins: a page, and no error. So for whoever wants one.
    desk.control("POST", "entra/scripts", refusal(50_173, &Value::Null));
    assert_eq!((desk.login("--kind entra"), desk.opened()), (NAME.to_owned(), 5));
    let before = desk.refreshes().len();
    assert!(desk.run("cert --kind entra --fresh").status.success());
    assert_eq!((desk.opened(), desk.refreshes().len()), (6, before));

    // The person ends it: nothing is left, and what was held is asked for no more.
    let forgot = desk.run("cert --forget");
    assert!(forgot.status.success(), "{}", said(&forgot));
    assert_eq!(desk.shell("ls -A /home/traveller/.ssh/nightlatch"), "");
    assert_eq!(desk.login(&kind), NAME);
    assert_eq!((desk.opened(), desk.refreshes().len()), (7, before));

    // Nothing is held of who does not want it: not of this sign-in, and no more of the one before.
    seconds(3_600);
    assert_eq!(desk.login("--kind entra"), NAME);
    assert_eq!((desk.opened(), desk.refreshes().len()), (7, before + 1));
    assert!(desk.run("cert --kind entra --once").status.success());
    assert!(desk.run("cert --kind entra --once --renew").status.success());
    assert!(!asked(&desk.cluster, "/token").last().unwrap().contains("offline_access"));
    assert!(desk.run("cert --kind entra --renew").status.success());
    assert!(desk.run("cert --kind entra --once").status.success());
    seconds(500);
    let again = desk.run("cert --kind entra --renew --once");
    assert!(again.status.success() && desk.opened() == 10, "{}", said(&again));
    assert_eq!(desk.login("--kind entra"), NAME);
    assert_eq!((desk.opened(), desk.refreshes().len()), (11, before + 1));
}

#[test]
fn an_openpubkey_certificate_carries_the_refreshed_sign_in_to_nodes_that_take_it() {
    let table =
        format!("[openpubkey]\nclient_ids = [\"{OPENPUBKEY_CLIENT}\"]\nexpiration = \"oidc-refreshed\"\n");
    let desk = Desk::set_up(61_002, &table);
    register_openpubkey(&desk.cluster.tenant).unwrap();
    // More than an hour ago.
    desk.control("PUT", "time", json!({"clock_offset": -3_700}));
    let first = desk.run(&format!("cert --expiration oidc-refreshed --login-hint {NAME}"));
    assert!(first.status.success() && desk.opened() == 1, "{}", said(&first));
    desk.control("PUT", "time", json!({"clock_offset": 0}));
    desk.shell("cp -a /home/traveller/.ssh/nightlatch /home/traveller/first");

    // The sign-in is over, and its certificate with it.
    let plain = |folder: &str| {
        let options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o IdentitiesOnly=yes";
        let line = format!(
            "runuser -u traveller -- ssh {options} -i {folder}/id_ed25519 \
             -o CertificateFile={folder}/id_ed25519-cert.pub {NAME}@127.0.0.1 id -un 2>/dev/null || true"
        );
        desk.shell(&line)
    };
    assert!(!plain("/home/traveller/first").contains(NAME));
    let why = || desk.shell(&format!("nightlatch explain {NAME} --last || true"));
    assert!(why().contains("sign_in_over"), "{}", why());

    // What the kernel holds renews it: the same key, the same first sign-in, and a newer token beside it.
    assert_eq!(desk.login("--expiration oidc-refreshed"), NAME);
    assert_eq!((desk.opened(), desk.refreshes().len()), (1, 1));
    assert!(why().contains("refreshed"), "{}", why());
    let same = desk.shell(
        "cmp /home/traveller/first/id_ed25519 /home/traveller/.ssh/nightlatch/id_ed25519 && echo same || true",
    );
    assert_eq!(same.trim(), "same");
    // And is used again, by plain ssh as well. What nodes take is this machine's own setting where it is not given.
    assert_eq!(desk.login(""), NAME);
    assert!(plain("/home/traveller/.ssh/nightlatch").contains(NAME));
    assert_eq!((desk.opened(), desk.refreshes().len()), (1, 1));

    // Where nodes count from the first sign-in, nothing is held that nobody could use.
    assert!(desk.run("cert --forget").status.success());
    assert_eq!(desk.login(&format!("--expiration 4h --login-hint {NAME}")), NAME);
    assert!(!asked(&desk.cluster, "/token").last().unwrap().contains("offline_access"));
    assert_eq!((desk.opened(), desk.refreshes().len()), (2, 1));

    // Entra wants more than the page showed: once more, with that and with what was asked for.
    let claims = json!({"access_token": {"acrs": {"essential": true, "value": "c9"}}});
    let order = json!({"code": 50_076, "grant": "authorization_code", "claims": claims, "times": 1});
    desk.control("POST", "entra/scripts", order);
    let again = desk.run("cert --renew");
    assert!(again.status.success() && desk.opened() == 4, "{}", said(&again));
    let pages = asked(&desk.cluster, "/authorize");
    let has_claims: Vec<bool> =
        pages.iter().map(|page| page.contains("claims=%7B%22access_token%22")).collect();
    assert_eq!(has_claims, [false, false, false, true], "{pages:?}");
}
