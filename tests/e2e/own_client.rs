//! People without `az`: `nightlatch ssh --kind entra` gets a certificate of Entra's own authority, by a browser or a code on
//! another device, and logs in with it.

use std::process::Output;

use nightlatch_emulator::world;
use nightlatch_world::{as_traveller, traveller, wait_until};
use serde_json::{Value, json};

use crate::site::SOON;
use crate::tenant::Cluster;

const ANYWHERE: &str = "-O StrictHostKeyChecking=no";
const NAME: &str = world::ALICE.upn;

fn out(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// How often a page was opened.
pub(crate) fn opened(cluster: &Cluster) -> usize {
    cluster.node.shell("cat /run/browser.log").unwrap().lines().count()
}

/// What Entra's endpoint of this name was asked, queries and bodies, in order.
pub(crate) fn asked(cluster: &Cluster, leaf: &str) -> Vec<String> {
    let seen = cluster.tenant.control("GET", "requests?service=entra", &json!({})).unwrap();
    let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
    let of_leaf = seen.as_array().unwrap().iter().filter(|one| text(one, "path").ends_with(leaf));
    of_leaf.map(|one| format!("{}{}", text(one, "query"), text(one, "body"))).collect()
}

/// From nothing to a shell in one command, through the public client of Azure CLI; then without a page.
#[test]
fn a_person_without_az_signs_in_once_and_logs_in_with_entras_certificate() {
    let cluster = Cluster::start("");
    let node = &cluster.node;
    traveller(node).unwrap();
    let run = |words: &str| as_traveller(node, words).unwrap();
    let first = run(&format!("ssh --kind entra --login-hint {NAME} {ANYWHERE} 127.0.0.1 -- id -un"));
    assert_eq!(out(&first), NAME, "{}\n{}", said(&first), cluster.journal());
    assert_eq!(opened(&cluster), 1);
    let tokens = asked(&cluster, "/token");
    let ours = tokens.iter().find(|form| form.contains("grant_type=authorization_code")).unwrap();
    assert!(ours.contains(world::AZURE_CLI) && ours.contains("token_type=ssh-cert"), "{ours}");
    // The kernel's keyrings are closed here, as in most containers: nothing is asked for that could not be held.
    assert!(tokens.iter().all(|form| !form.contains("offline_access")));
    assert!(said(&first).contains("will need the sign-in page again"), "{}", said(&first));
    // The name may be given; nobody is asked again, and somebody else's does not get in.
    assert_eq!(out(&run(&format!("ssh --kind entra {ANYWHERE} {NAME}@127.0.0.1 -- id -un"))), NAME);
    let other = format!("ssh --kind entra {ANYWHERE} {}@127.0.0.1 -- id", world::ADELE.upn);
    assert!(!run(&other).status.success());
    assert_eq!(opened(&cluster), 1);
    let files = node.shell("cd /home/traveller/.ssh/nightlatch && stat -c '%a %n' . *").unwrap();
    assert_eq!(files, "700 .\n600 entra.json\n600 id_rsa\n600 id_rsa-cert.pub\n");
    // What cannot be done is said before anything is opened.
    for (words, why) in
        [("cert --device-code", "nonce"), ("ssh-config --kind entra --device-code --host a", "terminal")]
    {
        let lost = run(words);
        assert!(lost.status.code() == Some(2) && said(&lost).contains(why), "{words}: {}", said(&lost));
    }
    assert_eq!(opened(&cluster), 1);
}

/// Entra wants more of the sign-in: once more, with exactly that.
#[test]
fn a_claims_challenge_opens_the_browser_once_more_and_no_further_time() {
    let cluster = Cluster::start("");
    let node = &cluster.node;
    traveller(node).unwrap();
    let run = |words: &str| as_traveller(node, words).unwrap();
    let claims = json!({"access_token": {"acrs": {"essential": true, "value": "c1"}}});
    let script = |times: u64| {
        let order = json!({"code": 50076, "grant": "authorization_code", "claims": claims, "times": times});
        cluster.tenant.control("POST", "entra/scripts", &order).unwrap();
    };
    script(1);
    let login = run(&format!("ssh --kind entra --login-hint {NAME} {ANYWHERE} 127.0.0.1 -- id -un"));
    assert_eq!(out(&login), NAME, "{}\n{}", said(&login), cluster.journal());
    assert_eq!(opened(&cluster), 2);
    let pages = asked(&cluster, "/authorize");
    let with_claims: Vec<bool> =
        pages.iter().map(|page| page.contains("claims=%7B%22access_token%22")).collect();
    assert_eq!(with_claims, [false, true], "{pages:?}");
    script(2);
    let refused = run(&format!("cert --kind entra --renew --login-hint {NAME}"));
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("did not satisfy it"), "{}", said(&refused));
    assert!(said(&refused).contains("AADSTS50076"), "{}", said(&refused));
    assert_eq!(opened(&cluster), 4);
}

/// A code that is approved elsewhere, and one that the tenant blocks.
#[test]
fn a_device_code_logs_in_once_it_is_approved_and_says_when_it_is_blocked() {
    let cluster = Cluster::start("");
    let node = &cluster.node;
    traveller(node).unwrap();
    let control =
        |method: &str, path: &str, body: Value| cluster.tenant.control(method, path, &body).unwrap();
    control("PUT", "entra", json!({"device_approve_after": null, "device_interval": 1}));
    let shown = "/home/traveller/said";
    let words = format!("ssh --kind entra --device-code {ANYWHERE} 127.0.0.1 -- id -un 2>{shown}");
    let login = std::thread::scope(|scope| {
        let login = scope.spawn(|| as_traveller(node, &words).unwrap());
        let code = || {
            let text = node.shell(&format!("cat {shown} 2>/dev/null || true")).unwrap();
            let (_, rest) = text.split_once("enter the code ")?;
            Some(rest.split_once(' ')?.0.to_owned())
        };
        wait_until("the code", SOON, || code().is_some()).unwrap();
        assert!(!login.is_finished());
        control("POST", &format!("device/{}", code().unwrap()), json!({"user": NAME}));
        login.join().unwrap()
    });
    let text = node.shell(&format!("cat {shown}")).unwrap();
    assert_eq!(out(&login), NAME, "{text}\n{}", cluster.journal());
    assert!(text.contains("https://") && opened(&cluster) == 0, "{text}");

    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    control("PUT", "entra", json!({"device_approve_after": 0}));
    control("POST", "entra/scripts", json!({"code": 53003, "grant": grant}));
    let blocked = as_traveller(node, "cert --kind entra --device-code --renew").unwrap();
    assert_eq!(blocked.status.code(), Some(1), "{}", said(&blocked));
    for words in ["device code is blocked here", "use the browser", "AADSTS53003"] {
        assert!(said(&blocked).contains(words), "{}", said(&blocked));
    }
}
