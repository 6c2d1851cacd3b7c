//! The `token_type=ssh-cert` branch of the token endpoint: read the key the way Azure CLI's ssh extension
//! writes it, certify it, answer standard base64 of the bare blob (azure-cli-extensions `src/ssh`).

use serde_json::Value;

use super::refusal::Refusal;
use super::resource::Wanted;
use crate::assumed;
use crate::directory::{Kind, Principal};
use crate::form::Fields;
use crate::ids;
use crate::rsakey::Digest;
use crate::sshcert::{self, Contents, MAX_RSA_BITS, MIN_RSA_BITS, SubjectKey};
use crate::state::World;

/// Does the form ask for a certificate?
pub(crate) fn is_wanted(form: &Fields) -> bool {
    form.text("token_type") == "ssh-cert"
}

fn malformed(why: &str) -> Refusal {
    Refusal::new(9_002_313).about(why)
}

/// Check `req_cnf` and `key_id` and take the key out.
///
/// `n` and `e` may carry the sign byte of an SSH mpint and base64url padding, as the extension sends them,
/// or neither. The key id covers the two texts exactly as sent.
pub(crate) fn subject(form: &Fields) -> Result<SubjectKey, Refusal> {
    let text = form.get("req_cnf").ok_or_else(|| Refusal::new(90014).about("req_cnf"))?;
    let cnf: Value = serde_json::from_str(text).map_err(|_| malformed("'req_cnf' is not a JSON object."))?;
    let member = |name: &str| cnf.get(name).and_then(Value::as_str).unwrap_or("");
    if member("kty") != "RSA" {
        return Err(malformed("'req_cnf' must be an RSA key."));
    }
    let (n_text, e_text) = (member("n"), member("e"));
    let number = |text: &str| ids::unbase64url(text).filter(|bytes| bytes.iter().any(|byte| *byte != 0));
    let (Some(n), Some(e)) = (number(n_text), number(e_text)) else {
        return Err(malformed("'n' and 'e' of 'req_cnf' must be base64url numbers."));
    };
    let id = ids::hex(
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{n_text}{e_text}").as_bytes())
            .as_ref(),
    );
    if form.text("key_id") != id || member("kid") != id {
        return Err(malformed("'key_id' and 'kid' must be the SHA-256 of 'n' and 'e' in hexadecimal."));
    }
    let bits = bit_length(&n);
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(malformed("The RSA key of 'req_cnf' has an unsupported size."));
    }
    Ok(SubjectKey::rsa(&n, &e))
}

fn bit_length(number: &[u8]) -> usize {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let digits = number.get(start..).unwrap_or(&[]);
    let lead = digits.first().map_or(0, |byte| byte.leading_zeros());
    (digits.len() * 8).saturating_sub(usize::try_from(lead).unwrap_or(0))
}

/// The certificate principals of somebody: the UPN as the directory spells it, a guest's e-mail address, a
/// service principal's GUID.
pub(crate) fn principals(world: &World, who: &Principal) -> Vec<String> {
    if let Some(principals) = &who.principals {
        return principals.clone();
    }
    let one = match who.kind {
        Kind::Member => &who.upn,
        Kind::Guest => who.mail.as_ref().unwrap_or(&who.upn),
        _ if world.entra.sp_principal == "app_id" => who.app_id.as_ref().unwrap_or(&who.oid),
        _ => &who.oid,
    };
    vec![one.clone()]
}

/// What a certificate for somebody says, valid from now.
pub(crate) fn contents(world: &World, who: &Principal) -> Contents {
    let (key_id, serial) = assumed::key_id_and_serial();
    let begins = world.now() + world.time.certificate_offset;
    let second = |unix: i64| u64::try_from(unix).unwrap_or(0);
    Contents {
        serial,
        kind: 1,
        key_id,
        principals: principals(world, who),
        valid_after: second(begins),
        valid_before: second(begins + world.time.certificate_seconds),
        critical: Vec::new(),
        extensions: assumed::extensions(&who.oid, &world.tenant),
    }
}

/// The `access_token` of a certificate answer.
pub(crate) fn certify(
    world: &World,
    wanted: &Wanted,
    form: &Fields,
    who: &Principal,
) -> Result<String, Refusal> {
    if !wanted.is_ssh() {
        return Err(Refusal::new(70011).about(&wanted.scope));
    }
    if who.kind == Kind::ManagedIdentity {
        return Err(malformed("SSH certificates are not issued to managed identities."));
    }
    let subject = subject(form)?;
    let ca = world.ssh_ca().ok_or_else(|| Refusal::new(90033))?;
    Ok(ids::base64(&sshcert::issue(&subject, &contents(world, who), &ca, Digest::Sha256)))
}

#[cfg(test)]
#[path = "ssh_tests.rs"]
mod tests;
