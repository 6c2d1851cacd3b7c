//! A certificate for a pipeline: Entra's own SSH authority signs it for an application that proves itself with a
//! federated token, as `az login --federated-token` and `az ssh cert` would, without `az` (reference/01 §1.1).

use std::path::Path;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use nightlatch_model::{Secret, Timestamp};
use nightlatch_sshcert::Certificate;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::key::armour;
use super::{Asked, keep};
use crate::entra::http::{Http, ProxyRule};
use crate::entra::oauth::{Client, Form, TokenEndpoint};
use crate::store::read_capped;

/// The largest federated token, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;
/// What a certificate of Entra's SSH authority is asked for with.
const SCOPE: &str = "https://pas.windows.net/CheckMyAccess/Linux/.default";
const CERTIFICATE_TYPE: &str = "ssh-rsa-cert-v01@openssh.com";

/// Gets a certificate, and writes the files. The principal that it names.
pub(super) fn sign_in(asked: &Asked, token_file: &Path, now: Timestamp) -> Result<String, String> {
    let token = read_capped(token_file, MAX_TOKEN_BYTES).map_err(|why| why.to_string())?;
    let token = token.ok_or_else(|| format!("{}: no such file", token_file.display()))?;
    let token = String::from_utf8(token).map_err(|_| format!("{}: not a token", token_file.display()))?;
    let token = Secret::new(token.trim().to_owned());
    let key = KeyPair::generate(KeySize::Rsa2048).map_err(|_| "no key can be made on this machine")?;
    let public = aws_lc_rs::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public_key());
    // The numbers as az writes them: with the zero byte of ssh's integers and with padding.
    let n = URL_SAFE.encode([&[0][..], &public.n].concat());
    let e = URL_SAFE.encode(&public.e);
    let key_id: String = Sha256::digest(format!("{n}{e}")).iter().map(|byte| format!("{byte:02x}")).collect();
    let cnf = format!(r#"{{"kty": "RSA", "n": "{n}", "e": "{e}", "kid": "{key_id}"}}"#);

    let client_id = asked.client.to_string();
    let client = Client::assertion(&client_id, &token);
    let form = Form::client_credentials(SCOPE)
        .client(&client)
        .with("token_type", "ssh-cert")
        .with("req_cnf", &cnf)
        .with("key_id", &key_id);
    let http = Http::internet(ProxyRule::Environment).map_err(|why| why.to_string())?;
    let endpoint = TokenEndpoint::new(http, &asked.login, &asked.tenant.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| why.to_string())?;
    let reply = runtime.block_on(endpoint.post_to("token", &form, now)).map_err(|why| why.sentence)?;
    let answer: Value = reply.json().map_err(|why| why.to_string())?;
    let is_certificate = answer.get("token_type").and_then(Value::as_str) == Some("ssh-cert");
    let text = answer.get("access_token").and_then(Value::as_str).filter(|_| is_certificate);
    let text = text.ok_or("Entra answered with something else than a certificate")?;
    let certificate = Certificate::from_openssh(CERTIFICATE_TYPE, text)
        .map_err(|why| format!("Entra's certificate cannot be read: {why}"))?;
    let [name] = certificate.principals() else {
        return Err("Entra's certificate does not name exactly one principal".into());
    };
    let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key)
        .map_err(|_| "the key cannot be written")?;
    let pem = armour("PRIVATE KEY", der.as_ref());
    let line = format!("{CERTIFICATE_TYPE} {text} {name}\n");
    keep(asked, &pem, &line, name, Vec::new(), now)?;
    Ok(name.clone())
}
