//! A certificate for a pipeline: Entra's own SSH authority signs it for an application that proves itself with a
//! federated token, as `az login --federated-token` and `az ssh cert` would, without `az`.

use std::path::Path;

use nightlatch_model::{Secret, Timestamp};

use super::asked::Asked;
use super::at_entra;
use super::rsa::RsaKey;
use crate::entra::oauth::{Client, Form, TokenEndpoint};
use crate::store::read_capped;

/// The largest federated token, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

/// Gets a certificate, and writes the files. The name to log in with.
pub(super) fn sign_in(asked: &Asked, token_file: &Path, now: Timestamp) -> Result<String, String> {
    let token = read_capped(token_file, MAX_TOKEN_BYTES).map_err(|why| why.to_string())?;
    let token = token.ok_or_else(|| format!("{}: no such file", token_file.display()))?;
    let token = String::from_utf8(token).map_err(|_| format!("{}: not a token", token_file.display()))?;
    let token = Secret::new(token.trim().to_owned());
    let key = RsaKey::generate(asked.cloud.ssh_scope())?;
    let client_id = asked.client.to_string();
    let client = Client::assertion(&client_id, &token);
    let form = key.ask().on(Form::client_credentials(key.ask().scope()).client(&client));
    let endpoint =
        TokenEndpoint::new(at_entra::http()?, &asked.cloud.endpoints().login, &asked.tenant.to_string());
    let given = at_entra::run(endpoint.certificate(&form, now))?.map_err(|why| why.sentence)?;
    key.keep(asked, &given, None, None, now)
}
