//! People whose own client signed their certificate, with a sign-in at Entra in it (OpenPubkey): real sshd, the
//! emulated tenant's sign-in pages, and a client that was written from the specification alone.

use std::os::unix::fs::PermissionsExt;

use nightlatch_emulator::world;
use nightlatch_openpubkey::{CertificateSpec, Client, KeyType};
use nightlatch_world::{Person, wait_until};
use serde_json::{Value, json};

use crate::site::SOON;
use crate::tenant::Cluster;

/// The organisation's own public client.
pub(crate) const CLIENT: &str = "0f0f0f0f-1111-4222-8333-444444444444";
const REDIRECT: &str = "http://localhost:3000/login-callback";
/// A PKCE verifier, and its S256 challenge (RFC 7636, appendix B).
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A cluster whose nodes take such certificates.
fn start() -> Cluster {
    let cluster = Cluster::start(&format!("[openpubkey]\nclient_ids = [\"{CLIENT}\"]\n"));
    register(&cluster);
    cluster
}

/// Registers the client in the tenant.
pub(crate) fn register(cluster: &Cluster) {
    let app = json!({"name": "node logins", "public": true, "redirect_uris": [REDIRECT],
                     "optional_id_claims": ["upn"]});
    cluster.tenant.control("PUT", &format!("apps/{CLIENT}"), &app).unwrap();
}

/// The ID token of a sign-in in the browser, by code and PKCE.
fn sign_in(cluster: &Cluster, upn: &str, nonce: &str, scope: &str) -> String {
    let base = format!("https://login.microsoftonline.com/{}/oauth2/v2.0", world::TENANT);
    let fields = [
        ("client_id", CLIENT),
        ("response_type", "code"),
        ("redirect_uri", REDIRECT),
        ("scope", scope),
        ("nonce", nonce),
        ("state", "s"),
        ("login_hint", upn),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let authorize = curl(
        cluster,
        &["-G", "-o", "/dev/null", "-w", "%{redirect_url}"],
        &fields,
        &format!("{base}/authorize"),
    );
    let code = authorize.split("code=").nth(1).and_then(|rest| rest.split('&').next());
    let code = code.unwrap_or_else(|| panic!("no code: {authorize}"));
    let fields = [
        ("client_id", CLIENT),
        ("grant_type", "authorization_code"),
        ("redirect_uri", REDIRECT),
        ("scope", scope),
        ("code", code),
        ("code_verifier", VERIFIER),
    ];
    let answer = curl(cluster, &[], &fields, &format!("{base}/token"));
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|why| panic!("{why}: {answer}"));
    answer["id_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn curl(cluster: &Cluster, more: &[&str], fields: &[(&str, &str)], url: &str) -> String {
    let mut words: Vec<String> =
        ["curl", "-sS", "--resolve", "login.microsoftonline.com:443:127.0.0.1"].map(str::to_owned).to_vec();
    words.extend(more.iter().map(|word| (*word).to_owned()));
    for (name, value) in fields {
        words.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
    }
    words.push(url.to_owned());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    crate::site::text(&cluster.node.exec(&words).unwrap())
}

/// Somebody who signed in as `upn` with such a client of this kind of key.
pub(crate) fn person(cluster: &Cluster, upn: &str, key_type: KeyType) -> Person {
    let client = Client::new(key_type).unwrap();
    let id_token = sign_in(cluster, upn, &client.nonce(), "openid profile email offline_access");
    let spec = CertificateSpec::new(client.pk_token(&id_token).unwrap());
    holder(cluster, &client, &spec)
}

/// Somebody with this certificate and its key.
fn holder(cluster: &Cluster, client: &Client, spec: &CertificateSpec) -> Person {
    let person = Person::new(&cluster.image).unwrap();
    std::fs::write(person.key_path(), client.private_key_openssh().unwrap()).unwrap();
    std::fs::set_permissions(person.key_path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    // ssh believes the file beside the key before the key itself, and this one is of another key.
    std::fs::remove_file(person.key_path().with_extension("pub")).unwrap();
    std::fs::write(person.certificate_path(), format!("{}\n", client.certificate(spec).unwrap())).unwrap();
    person
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
        said.contains("OpenPubkey: https://login.microsoftonline.com/") && said.contains(CLIENT),
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
    let id_token = sign_in(&cluster, name, &client.nonce(), "openid profile email");
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
    let other = json!({"name": "other", "public": true, "redirect_uris": [REDIRECT]});
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
        cluster.node.shell("rm -f /etc/nightlatch/revoked; sleep 3").unwrap();
        let alice = person(&cluster, name, KeyType::Ed25519);
        let mut shell =
            cluster.node.ssh_command(&alice, name, &[], &["sleep", "60"]).unwrap().spawn().unwrap();
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
