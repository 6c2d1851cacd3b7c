//! People whose own client signed their certificate, with a sign-in at Entra in it (OpenPubkey): real sshd, the
//! emulated tenant's sign-in pages, and a client that was written from the specification alone.

use nightlatch_emulator::world;
use nightlatch_openpubkey::{CertificateSpec, Client, KeyType};
use nightlatch_world::{
    OPENPUBKEY_CLIENT, OPENPUBKEY_SCOPE, Person, as_traveller, openpubkey_holder, openpubkey_person,
    openpubkey_sign_in, register_openpubkey, traveller, wait_until,
};
use serde_json::{Value, json};

use crate::site::SOON;
use crate::tenant::Cluster;

/// A cluster whose nodes take such certificates.
fn start() -> Cluster {
    let cluster = Cluster::start(&format!("[openpubkey]\nclient_ids = [\"{OPENPUBKEY_CLIENT}\"]\n"));
    register_openpubkey(&cluster.tenant).unwrap();
    cluster
}

/// Somebody who signed in as `upn` with such a client of this kind of key.
pub(crate) fn person(cluster: &Cluster, upn: &str, key_type: KeyType) -> Person {
    openpubkey_person(&cluster.image, &cluster.node, upn, key_type).unwrap()
}

/// Somebody with this certificate and its key.
fn holder(cluster: &Cluster, client: &Client, spec: &CertificateSpec) -> Person {
    openpubkey_holder(&cluster.image, client, spec).unwrap()
}

/// Why the last login of this name was refused.
fn why(cluster: &Cluster, name: &str) -> String {
    cluster.node.shell(&format!("nightlatch explain {name} --last || true")).unwrap()
}

#[test]
fn a_client_that_signed_its_own_certificate_logs_in_by_the_roles_of_its_person() {
    let cluster = start();
    let name = world::ALICE.upn;
    for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
        let alice = person(&cluster, name, key_type);
        let login = cluster.ssh(&alice, name, &["id -un"]);
        assert!(login.is_in(), "{login:?}\n{}\n{}", why(&cluster, name), cluster.journal());
        assert_eq!(login.stdout.trim(), name);
        // The name is the one that Entra signed, whatever the client asks for.
        let other = cluster.ssh(&alice, world::ADELE.upn, &["id"]);
        assert!(!other.is_in(), "{other:?}");
        assert!(why(&cluster, world::ADELE.upn).contains("wrong_principal"));
    }
    let said = why(&cluster, name);
    assert!(
        said.contains("OpenPubkey: https://login.microsoftonline.com/") && said.contains(OPENPUBKEY_CLIENT),
        "{said}"
    );

    // Somebody without a role is refused by the same words as with any other certificate.
    let nobody = "nora@contoso.com";
    cluster.tenant.control("POST", "users", &json!({"upn": nobody})).unwrap();
    let nora = person(&cluster, nobody, KeyType::Ed25519);
    let refused = cluster.ssh(&nora, nobody, &["id"]);
    assert!(!refused.is_in() && refused.stderr.contains("no_vm_role"), "{refused:?}");
}

#[test]
fn keys_come_and_go_and_a_login_needs_no_sign_in_host() {
    let cluster = start();
    let name = world::ALICE.upn;
    let alice = person(&cluster, name, KeyType::EcdsaP256);
    assert!(cluster.ssh(&alice, name, &["true"]).is_in(), "{}", cluster.journal());

    // The front end forgets every key for a while, the sign-in host vanishes, the daemon starts anew: the keys that
    // were seen stay.
    let fault = json!({"kind": "status", "status": 503, "path": "keys"});
    cluster.tenant.control("PUT", "faults/entra", &fault).unwrap();
    cluster.node.shell("systemctl restart nightlatchd").unwrap();
    let login = cluster.ssh(&alice, name, &["true"]);
    assert!(login.is_in(), "{login:?}\n{}\n{}", why(&cluster, name), cluster.journal());

    // A new key: unknown at first, and fetched because somebody showed it.
    cluster.tenant.control("DELETE", "faults/entra", &json!({})).unwrap();
    let kept = "/var/lib/nightlatch/token-keys.json";
    let anew = format!("systemctl stop nightlatchd; touch -d @1 {kept}; systemctl start nightlatchd");
    cluster.node.shell(&anew).unwrap();
    let written = || cluster.node.shell(&format!("stat -c %Y {kept}")).unwrap();
    wait_until("the keys after the start", SOON, || written().trim() != "1").unwrap();
    cluster.tenant.control("POST", "token-keys/rotate", &json!({})).unwrap();
    let later = person(&cluster, name, KeyType::Ed25519);
    assert!(!cluster.ssh(&later, name, &["true"]).is_in());
    assert!(why(&cluster, name).contains("token_key_unknown"), "{}", why(&cluster, name));
    wait_until("a login with the new key", SOON, || cluster.ssh(&later, name, &["true"]).is_in())
        .unwrap_or_else(|late| panic!("{late}: {}\n{}", why(&cluster, name), cluster.journal()));
    // And the old one is still good: a document that no longer names a key takes it away in days, not at once.
    assert!(cluster.ssh(&alice, name, &["true"]).is_in(), "{}", why(&cluster, name));
}

#[test]
fn what_such_a_client_may_not_do_is_refused_with_its_reason() {
    let cluster = start();
    let name = world::ALICE.upn;
    let refused = |person: &Person, reason: &str| {
        let login = cluster.ssh(person, name, &["id"]);
        assert!(!login.is_in(), "{reason}: {login:?}");
        let said = why(&cluster, name);
        assert!(said.contains(reason), "{reason}: {said}");
    };
    let client = Client::new(KeyType::EcdsaP256).unwrap();
    let id_token = openpubkey_sign_in(&cluster.node, name, &client.nonce(), OPENPUBKEY_SCOPE).unwrap();
    let proof = client.pk_token(&id_token).unwrap();
    let spec = || CertificateSpec::new(proof.clone());
    // A bearer token for anybody to read.
    let with_token = CertificateSpec { access_token: Some("a.b.c".into()), ..spec() };
    refused(&holder(&cluster, &client, &with_token), "access_token_inside");
    // Clients before the sentinel: sshd 10.3 takes no such certificate, older ones would for every name.
    refused(&holder(&cluster, &client, &CertificateSpec { principals: vec![], ..spec() }), "no_principal");
    // A sign-in of somebody else's key, stolen with its certificate: the proof is of the other key.
    let thief = Client::new(KeyType::EcdsaP256).unwrap();
    let stolen = CertificateSpec::new(thief.pk_token(&id_token).unwrap());
    refused(&holder(&cluster, &thief, &stolen), "proof_malformed");
    // A sign-in to another application of the tenant.
    let other = json!({"name": "other", "public": true});
    cluster.tenant.control("PUT", "apps/0f0f0f0f-1111-4222-8333-555555555555", &other).unwrap();
    let claims = json!({"user": name, "audience": "0f0f0f0f-1111-4222-8333-555555555555", "v2": true,
                        "claims": {"nonce": client.nonce(), "scp": null, "azp": null, "azpacr": null}});
    let token = cluster.tenant.control("POST", "tokens", &claims).unwrap();
    let token = token["access_token"].as_str().or_else(|| token["token"].as_str()).unwrap().to_owned();
    let elsewhere = CertificateSpec::new(client.pk_token(&token).unwrap());
    refused(&holder(&cluster, &client, &elsewhere), "id_token_refused");
    // The whole one, in the end.
    let login = cluster.ssh(&holder(&cluster, &client, &spec()), name, &["true"]);
    assert!(login.is_in(), "{login:?}\n{}", why(&cluster, name));
}

#[test]
fn what_such_a_certificate_is_known_by_ends_its_session_and_opens_none() {
    let cluster = start();
    let name = world::ALICE.upn;
    for handle in ["key", "key-id"] {
        cluster.node.shell("rm -f /etc/nightlatch/revoked; sleep 5").unwrap();
        let alice = person(&cluster, name, KeyType::Ed25519);
        let mut shell = cluster.node.ssh_command(&alice, name, &[], &["sleep", "60"]).unwrap();
        let mut shell = shell.stderr(std::process::Stdio::null()).spawn().unwrap();
        let sessions = || cluster.node.shell("nightlatch -o json sessions list").unwrap();
        let note = || -> Option<String> {
            let rows: Value = serde_json::from_str(&sessions()).ok()?;
            Some(rows.as_array()?.first()?["certificate"].as_str()?.to_owned())
        };
        wait_until("the session", SOON, || note().is_some()).unwrap();
        // `key SHA256:... key id openpubkey ...`, as `sessions` shows it.
        let note = note().unwrap();
        let (key, id) = note.strip_prefix("key ").unwrap().split_once(" key id ").unwrap();
        let line = if handle == "key" { format!("key {key}\n") } else { format!("key-id {id}\n") };
        cluster.node.write_file("/etc/nightlatch/revoked", line.as_bytes(), 0o644, "root:root").unwrap();
        wait_until("the end of the session", SOON, || shell.try_wait().unwrap().is_some())
            .unwrap_or_else(|late| panic!("{late}: {line}\n{}\n{}", sessions(), cluster.journal()));
        let again = cluster.ssh(&alice, name, &["true"]);
        assert!(!again.is_in() && why(&cluster, name).contains("cert_revoked"), "{line}: {again:?}");
    }
}

/// Each demand lets in whose sign-in shows it, and refuses whose does not by its claim's name.
#[test]
fn what_a_sign_in_must_show_is_looked_for_in_its_token() {
    let cluster = start();
    cluster.node.shell("install -d -m 0755 /etc/nightlatch/conf.d").unwrap();
    let name = world::ALICE.upn;
    let now = || -> i64 { cluster.node.shell("date +%s").unwrap().trim().parse().unwrap() };
    let claims = |claims: &Value| {
        cluster.tenant.control("PUT", &format!("users/{name}/claims"), claims).unwrap();
    };
    let device = "de71ce00-0000-4000-8000-000000000001";
    let bare = json!({"amr": ["pwd"], "acrs": [], "deviceid": null, "auth_time": now()});
    let with = |key: &str, value: Value| {
        let mut shown = bare.clone();
        shown[key] = value;
        shown
    };
    for (demand, shows, lacks, reason, claim) in [
        (
            "require_amr = [\"mfa\"]",
            with("amr", json!(["pwd", "mfa"])),
            bare.clone(),
            "evidence_missing",
            "`amr`",
        ),
        (
            "require_acrs = [\"c1\"]",
            with("acrs", json!(["c1", "c2"])),
            with("acrs", json!(["c2"])),
            "evidence_missing",
            "`acrs`",
        ),
        (
            "require_device = true",
            with("deviceid", json!(device)),
            bare.clone(),
            "evidence_missing",
            "`deviceid`",
        ),
        (
            "max_auth_age = \"1h\"",
            bare.clone(),
            with("auth_time", json!(now() - 7_200)),
            "sign_in_over",
            "too long ago",
        ),
    ] {
        let text = format!("[openpubkey]\n{demand}\n");
        cluster
            .node
            .write_file("/etc/nightlatch/conf.d/demand.toml", text.as_bytes(), 0o644, "root:root")
            .unwrap();
        cluster.node.shell("systemctl restart nightlatchd").unwrap();
        claims(&shows);
        let alice = person(&cluster, name, KeyType::Ed25519);
        let login = cluster.ssh(&alice, name, &["true"]);
        assert!(login.is_in(), "{demand}: {login:?}\n{}", why(&cluster, name));
        claims(&lacks);
        let alice = person(&cluster, name, KeyType::Ed25519);
        let refused = cluster.ssh(&alice, name, &["true"]);
        let said = why(&cluster, name);
        assert!(!refused.is_in() && said.contains(reason) && said.contains(claim), "{demand}: {said}");
    }
    // A demand that cannot be understood changes nothing that runs.
    let bad = "[openpubkey]\nrequire_amrs = [\"mfa\"]\n";
    cluster
        .node
        .write_file("/etc/nightlatch/conf.d/demand.toml", bad.as_bytes(), 0o644, "root:root")
        .unwrap();
    let said = cluster.node.shell("nightlatch config show 2>&1 || true").unwrap();
    assert!(said.contains("require_amrs") && said.contains("line 2"), "{said}");
}

/// From nothing to a shell in one command, and the second time without a page.
#[test]
fn nightlatch_ssh_signs_in_once_and_logs_in() {
    let cluster = start();
    let (node, name) = (&cluster.node, world::ALICE.upn);
    traveller(node).unwrap();
    let run = |words: &str| as_traveller(node, words).unwrap();
    let opened = || node.shell("wc -l </run/browser.log").unwrap().trim().to_owned();
    let anywhere = "-O StrictHostKeyChecking=no";
    let out = |done: &std::process::Output| String::from_utf8_lossy(&done.stdout).trim().to_owned();
    let first = run(&format!("ssh --login-hint {name} {anywhere} 127.0.0.1 -- id -un"));
    assert_eq!(out(&first), name, "{}\n{}", String::from_utf8_lossy(&first.stderr), why(&cluster, name));
    assert_eq!(opened(), "1");
    // The name may be given; nobody is asked again, and whose it is not does not get in.
    assert_eq!(out(&run(&format!("ssh {anywhere} {name}@127.0.0.1 -- id -un"))), name);
    assert!(!run(&format!("ssh {anywhere} {}@127.0.0.1 -- id", world::ADELE.upn)).status.success());
    assert_eq!(opened(), "1");
    // The same certificate for other programs, and a new one when it is asked for.
    assert!(out(&run("cert")).starts_with(name));
    assert!(run(&format!("cert --renew --login-hint {name}")).status.success());
    assert_eq!(opened(), "2");
    let modes = node.shell("cd /home/traveller/.ssh/nightlatch && stat -c '%a %n' . *").unwrap();
    assert_eq!(modes, "700 .\n600 id_ed25519\n600 id_ed25519-cert.pub\n600 sign-in.json\n");
    // What cannot be done is said before anything is opened.
    let lost = run("cert --cloud Azure --renew");
    let words = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(lost.status.code() == Some(2) && words.contains("AzureUSGovernment"), "{words}");
    assert_eq!(opened(), "2");
}

/// A pipeline has no browser: its federated token is proof for Entra, whose own authority signs the certificate.
#[test]
fn a_pipelines_federated_token_logs_in() {
    let cluster = start();
    let node = &cluster.node;
    traveller(node).unwrap();
    let control =
        |method: &str, path: &str, body: Value| cluster.tenant.control(method, path, &body).unwrap();
    let issuer = format!("https://login.microsoftonline.com/{}/v2.0", world::TENANT);
    let trust = json!({"federated": [{"issuer": issuer, "subject": world::KUBELET_OID}]});
    control("PUT", &format!("apps/{}", world::CI_PIPELINE_APP), trust);
    let order = json!({"user": world::KUBELET_OID, "audience": "api://AzureADTokenExchange", "v2": true});
    let proof = control("POST", "tokens", order);
    let token = "/home/traveller/token";
    node.write_file(token, proof["access_token"].as_str().unwrap().as_bytes(), 0o600, "traveller:traveller")
        .unwrap();
    let run = |words: &str| {
        let command = format!(
            "runuser -u traveller -- env HOME=/home/traveller nightlatch {words} --tenant {} --client-id {} \
             --federated-token-file {token}",
            world::TENANT,
            world::CI_PIPELINE_APP
        );
        node.exec(&["sh", "-c", &command]).unwrap()
    };
    let made = run("cert");
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(said.starts_with(world::CI_PIPELINE.oid), "{said}{}", String::from_utf8_lossy(&made.stderr));
    // Plain ssh, by the block that is printed for it: the certificate is made before ssh connects.
    node.shell("rm /home/traveller/.ssh/nightlatch/*").unwrap();
    let block = run("ssh-config --host 127.0.0.1");
    node.write_file("/home/traveller/.ssh/config", &block.stdout, 0o600, "traveller:traveller").unwrap();
    let login = format!(
        "runuser -u traveller -- env HOME=/home/traveller ssh -o StrictHostKeyChecking=no {}@127.0.0.1 id -un",
        world::CI_PIPELINE.oid
    );
    let login = node.exec(&["sh", "-c", &login]).unwrap();
    let said = String::from_utf8_lossy(&login.stdout).into_owned();
    assert_eq!(said.trim(), world::CI_PIPELINE.oid, "{}", String::from_utf8_lossy(&login.stderr));
    // A token that Entra does not trust: its words, and nothing is written.
    node.shell(&format!("echo a.b.c >{token}; rm /home/traveller/.ssh/nightlatch/*")).unwrap();
    let refused = run("cert");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("AADSTS"), "{refused:?}");
    assert_eq!(node.shell("ls /home/traveller/.ssh/nightlatch").unwrap(), "");
}

/// A member is told from a guest by the ID token at the login, and stays a member while the session is judged again.
#[test]
fn with_guests_off_a_member_gets_in_and_stays() {
    let more = format!(
        "[login]\nguests = false\nrejudge = \"5s\"\n[openpubkey]\nclient_ids = [\"{OPENPUBKEY_CLIENT}\"]\n"
    );
    let cluster = Cluster::start(&more);
    register_openpubkey(&cluster.tenant).unwrap();
    let name = world::ADELE.upn;
    let adele = person(&cluster, name, KeyType::Ed25519);
    let stayed = cluster.ssh(&adele, name, &["sleep 12; sudo -n id -un"]);
    assert_eq!(stayed.stdout.trim(), "root", "{stayed:?}\n{}\n{}", why(&cluster, name), cluster.journal());
    // Without the claim nobody can tell, and who cannot be told is not let in.
    let app = json!({"name": "node logins", "public": true, "redirect_uris": ["http://localhost:3000/login-callback"],
                     "optional_id_claims": ["upn"]});
    cluster.tenant.control("PUT", &format!("apps/{OPENPUBKEY_CLIENT}"), &app).unwrap();
    let untold = person(&cluster, name, KeyType::Ed25519);
    let refused = cluster.ssh(&untold, name, &["true"]);
    assert!(!refused.is_in() && refused.stderr.contains("identity_unknown"), "{refused:?}");
}
