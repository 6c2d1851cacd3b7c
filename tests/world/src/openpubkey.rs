//! People whose own client signed their certificate, with a sign-in at the emulated tenant in it: the sign-in pages are
//! asked from the node's own network, by code and PKCE, as a browser and a client would.

use std::os::unix::fs::PermissionsExt;

use nightlatch_emulator::world;
use nightlatch_openpubkey::{CertificateSpec, Client, KeyType};
use serde_json::{Value, json};

use crate::image::Image;
use crate::node::Node;
use crate::person::Person;
use crate::run::WorldError;
use crate::tenant::Tenant;

/// The organisation's own public client.
pub const OPENPUBKEY_CLIENT: &str = "0f0f0f0f-1111-4222-8333-444444444444";
/// What a client of ours asks for.
pub const OPENPUBKEY_SCOPE: &str = "openid profile email offline_access";
const REDIRECT: &str = "http://localhost:3000/login-callback";
/// A PKCE verifier, and its S256 challenge (RFC 7636, appendix B).
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn client_error(why: nightlatch_openpubkey::Error) -> WorldError {
    WorldError::new(format!("the client: {why}"))
}

/// Registers the client in the tenant, with the optional claims that a node can look at.
///
/// # Errors
/// The emulator's own words.
pub fn register_openpubkey(tenant: &Tenant) -> Result<(), WorldError> {
    let app = json!({"name": "node logins", "public": true, "redirect_uris": [REDIRECT],
                     "optional_id_claims": ["upn", "acct", "amr", "acrs", "auth_time", "deviceid", "groups"]});
    tenant.control("PUT", &format!("apps/{OPENPUBKEY_CLIENT}"), &app).map(drop)
}

/// The ID token of somebody who signs in to the client in a browser.
///
/// # Errors
/// What the sign-in pages said instead.
pub fn openpubkey_sign_in(node: &Node, upn: &str, nonce: &str, scope: &str) -> Result<String, WorldError> {
    let base = format!("https://login.microsoftonline.com/{}/oauth2/v2.0", world::TENANT);
    let fields = [
        ("client_id", OPENPUBKEY_CLIENT),
        ("response_type", "code"),
        ("redirect_uri", REDIRECT),
        ("scope", scope),
        ("nonce", nonce),
        ("state", "s"),
        ("login_hint", upn),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let where_to = ["-G", "-o", "/dev/null", "-w", "%{redirect_url}"];
    let authorize = curl(node, &where_to, &fields, &format!("{base}/authorize"))?;
    let code = authorize.split("code=").nth(1).and_then(|rest| rest.split('&').next());
    let code = code.ok_or_else(|| WorldError::new(format!("no code: {authorize}")))?;
    let fields = [
        ("client_id", OPENPUBKEY_CLIENT),
        ("grant_type", "authorization_code"),
        ("redirect_uri", REDIRECT),
        ("scope", scope),
        ("code", code),
        ("code_verifier", VERIFIER),
    ];
    let answer = curl(node, &[], &fields, &format!("{base}/token"))?;
    let read: Value = serde_json::from_str(&answer).unwrap_or_default();
    let token = read.get("id_token").and_then(Value::as_str);
    token.map(str::to_owned).ok_or_else(|| WorldError::new(format!("no ID token: {answer}")))
}

fn curl(node: &Node, more: &[&str], fields: &[(&str, &str)], url: &str) -> Result<String, WorldError> {
    let mut words = vec!["curl", "-sS", "--resolve", "login.microsoftonline.com:443:127.0.0.1"];
    words.extend(more);
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    words.extend(fields.iter().flat_map(|field| ["--data-urlencode", field]));
    words.push(url);
    let done = node.exec(&words)?;
    if !done.status.success() {
        return Err(WorldError::new(format!("{url}: {}", String::from_utf8_lossy(&done.stderr))));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Somebody who signed in as `upn` with such a client of this kind of key.
///
/// # Errors
/// What the sign-in pages said instead.
pub fn openpubkey_person(
    image: &Image,
    node: &Node,
    upn: &str,
    key_type: KeyType,
) -> Result<Person, WorldError> {
    let client = Client::new(key_type).map_err(client_error)?;
    let id_token = openpubkey_sign_in(node, upn, &client.nonce(), OPENPUBKEY_SCOPE)?;
    let spec = CertificateSpec::new(client.pk_token(&id_token).map_err(client_error)?);
    openpubkey_holder(image, &client, &spec)
}

/// Somebody with this certificate and its key.
///
/// # Errors
/// When the files cannot be written.
pub fn openpubkey_holder(
    image: &Image,
    client: &Client,
    spec: &CertificateSpec,
) -> Result<Person, WorldError> {
    let person = Person::new(image)?;
    let (key, certificate) = (person.key_path(), person.certificate_path());
    let text = client.private_key_openssh().map_err(client_error)?;
    let line = client.certificate(spec).map_err(client_error)?;
    let written = std::fs::write(&key, text)
        .and_then(|()| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)))
        // ssh believes the file beside the key before the key itself, and this one is of another key.
        .and_then(|()| std::fs::remove_file(key.with_extension("pub")))
        .and_then(|()| std::fs::write(&certificate, format!("{line}\n")));
    written.map_err(|why| WorldError::io("the person's files", &why))?;
    Ok(person)
}

/// Opens the page as a browser would, and follows where it leads.
const BROWSER: &str = "#!/bin/sh\necho opened >>/run/browser.log\n\
                       exec curl -sSL -b '' --resolve login.microsoftonline.com:443:127.0.0.1 -o /dev/null \"$1\"\n";

/// A local user of the node, `traveller`, with a home and a browser: somebody's own computer.
///
/// # Errors
/// When the node refuses the user.
pub fn traveller(node: &Node) -> Result<(), WorldError> {
    traveller_of(node, "")
}

/// The same with options of useradd(8).
///
/// # Errors
/// When the node refuses the user.
pub fn traveller_of(node: &Node, options: &str) -> Result<(), WorldError> {
    node.shell(&format!("useradd --create-home --shell /bin/bash {options} traveller"))?;
    node.write_file("/usr/local/bin/xdg-open", BROWSER.as_bytes(), 0o755, "root:root")?;
    node.shell("touch /run/browser.log; chmod 666 /run/browser.log").map(drop)
}

/// Runs `nightlatch` with these words as the traveller, who signs in to the organisation's client.
///
/// # Errors
/// When it cannot be started.
pub fn as_traveller(node: &Node, words: &str) -> Result<std::process::Output, WorldError> {
    traveller_shell(node, &format!("exec nightlatch {words}"))
}

/// Runs a line of shell as the traveller. It is a child of the node's own systemd, and so under the node's own limits: what
/// enters a node from outside may make every system call.
///
/// # Errors
/// When it cannot be started.
pub fn traveller_shell(node: &Node, line: &str) -> Result<std::process::Output, WorldError> {
    let tenant = format!("AZURE_TENANT_ID={}", world::TENANT);
    let client = format!("NIGHTLATCH_CLIENT_ID={OPENPUBKEY_CLIENT}");
    let run = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--uid=traveller"];
    let environment = ["-E", "HOME=/home/traveller", "-E", "DISPLAY=:0", "-E", &tenant, "-E", &client];
    node.exec(&[&run[..], &environment, &["sh", "-c", line]].concat())
}
