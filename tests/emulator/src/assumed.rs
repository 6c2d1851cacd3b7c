//! ASSUMED: every schema of this emulator that no public document or source shows stands in this one file.
//! A capture from a real tenant replaces these functions and nothing else. Everything outside this file
//! follows public documents, public client sources or published observations.

use serde_json::{Value, json};

use crate::ids;
use crate::sshcert::Writer;

/// ASSUMED: name of the certificate extension that carries the directory object id.
pub const OID_EXTENSION: &str = "oid@entra.microsoft.com";

/// ASSUMED: name of the certificate extension that carries the tenant id.
pub const TID_EXTENSION: &str = "tid@entra.microsoft.com";

/// Path of the certificate-authority keys document on IMDS; the path is public, its body is not.
pub const CA_KEYS_PATH: &str = "/metadata/login/ca_keys";

/// The one api-version of [`CA_KEYS_PATH`] seen in public logs.
pub const CA_KEYS_VERSION: &str = "2019-03-11";

/// ASSUMED: an extension's value is one SSH string holding the GUID in lower case.
pub(crate) fn extension_value(guid: &str) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.string(guid.to_ascii_lowercase().as_bytes());
    writer.into_bytes()
}

/// ASSUMED: the extensions of an Entra certificate, in the byte order the format demands. The `permit-*`
/// names are recalled from real certificates, not confirmed by a readable source.
pub(crate) fn extensions(oid: &str, tid: &str) -> Vec<(String, Vec<u8>)> {
    let permit = |name: &str| (name.to_owned(), Vec::new());
    vec![
        (OID_EXTENSION.to_owned(), extension_value(oid)),
        permit("permit-X11-forwarding"),
        permit("permit-agent-forwarding"),
        permit("permit-port-forwarding"),
        permit("permit-pty"),
        permit("permit-user-rc"),
        (TID_EXTENSION.to_owned(), extension_value(tid)),
    ]
}

/// ASSUMED: the certificate's key id is a random GUID and its serial is zero.
pub(crate) fn key_id_and_serial() -> (String, u64) {
    (ids::guid(), 0)
}

/// ASSUMED: `ca_keys` is a JSON Web Key Set of RSA keys; IMDS and himds answer the same body.
pub(crate) fn ca_keys<'a>(keys: impl Iterator<Item = (&'a str, &'a [u8], &'a [u8])>) -> Value {
    let list: Vec<Value> = keys
        .map(|(kid, n, e)| json!({"kty": "RSA", "kid": kid, "n": ids::base64url(n), "e": ids::base64url(e)}))
        .collect();
    json!({"keys": list})
}

/// ASSUMED: how the PDP continues after 50 decisions. The member `nextLink` is public; that it is an
/// absolute address with an opaque marker, good for GET and for POST, is ours.
pub(crate) fn next_link(base: &str, marker: &str) -> String {
    format!("{base}&$skiptoken={marker}")
}

/// ASSUMED: what an unauthenticated PDP call gets: the shape of its published 403, with 401.
pub(crate) fn pdp_unauthorized(message: &str) -> Value {
    json!({"statusCode": 401, "message": message})
}

/// ASSUMED: what a throttled PDP call gets; its limit and body are unpublished.
pub(crate) fn pdp_throttled() -> Value {
    json!({"statusCode": 429, "message": "Rate limit is exceeded. Try again later."})
}
