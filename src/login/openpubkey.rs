//! A certificate that its holder signed, with a proof in it that Entra signed the holder in (OpenPubkey).
//!
//! Of the certificate itself nothing is believed but that its key is the one the ID token was issued for. Whether that
//! key's holder is at the other end is sshd's to find out, with the line that is printed here. No network: the issuer's
//! keys are those that were fetched before.

use nightlatch_jwt::{
    Claims, Expected, Expiration, Groups, KeySet, PROOF_EXTENSION, PkRefusal, Proof, Refusal,
    WILDCARD_PRINCIPAL, verify_proof,
};
use nightlatch_model::{LoginName, Reason, TenantId, Timestamp};
use nightlatch_policy::{ProofKind, SignIn};
use nightlatch_sshcert::{CertError, Certificate};

use super::admit::{
    AdmitRules, Admitted, Known, Trail, check_options, clean, line_for, options_for, reason_of, told,
};
use super::trust::Handle;

/// Where a client that was told to puts an access token.
const ACCESS_TOKEN: &str = "openpubkey-act";

/// Which claim of the ID token says the login name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameClaim {
    /// `upn`: the directory's own.
    Upn,
    /// `preferred_username`: the same where a tenant lets nobody sign in by another address than the UPN.
    PreferredUsername,
}

impl NameClaim {
    fn of(self, proof: &Proof) -> Option<&str> {
        match self {
            Self::Upn => proof.claims.upn.as_deref(),
            Self::PreferredUsername => proof.claims.preferred_username.as_deref(),
        }
    }
}

/// Which proofs are taken.
#[derive(Debug, Clone)]
pub struct ProofRules {
    /// What the ID token must be.
    pub expected: Expected,
    /// How long a sign-in is good for.
    pub expiration: Expiration,
    /// Which claim says the login name.
    pub name: NameClaim,
}

/// Whether this certificate wants to be judged by a proof.
pub(super) fn is_one(certificate: &Certificate) -> bool {
    certificate.is_self_signed() && certificate.has_extension(PROOF_EXTENSION)
}

/// The rules behind "certificate kind" for a certificate with a proof.
pub(super) fn walk(
    trail: &mut Trail,
    certificate: &Certificate,
    name: LoginName,
    rules: &AdmitRules,
    known: Known<'_>,
    now: Timestamp,
) -> Result<Admitted, Reason> {
    let proven = prove(certificate, rules.openpubkey.as_ref(), known.token_keys, now);
    let said = match &proven {
        Ok(proof) => format!("{} for {}", proof.claims.issuer, proof.claims.audience),
        Err((why, _)) => why.clone(),
    };
    let proof = trail.mark(clean(&format!("OpenPubkey: {said}")), proven.map_err(|(_, reason)| reason))?;
    let ours = certificate.verify_signature(certificate.ca_key()).map_err(reason_of);
    let bound = proof.ssh_key == certificate.subject_key().blob();
    let bound = if bound { Ok(()) } else { Err(Reason::ProofMalformed) };
    let input = format!("self-signed; the ID token's key is this one: {}", bound.is_ok());
    trail.mark(input, ours.and(bound))?;
    times(trail, certificate, &proof, now)?;
    check_options(trail, certificate)?;
    let claim = rules.openpubkey.as_ref().map_or(NameClaim::Upn, |rules| rules.name);
    let principal = principal(trail, certificate, claim.of(&proof), &name)?;
    let handle = handle(certificate, &proof);
    let revoked = if known.revoked.names(&handle) { Err(Reason::CertRevoked) } else { Ok(()) };
    trail.mark(format!("key {}, key id {}", handle.fingerprint, handle.key_id), revoked)?;
    let tid = tenant(trail, &proof, rules)?;
    // The certificate may end before the sign-in does.
    let own_end = i64::try_from(certificate.valid_before()).unwrap_or(i64::MAX);
    let ends = proof.ends.min(Timestamp(own_end));
    let (oid, guest, sign_in) = (Some(proof.claims.oid), proof.claims.guest, sign_in(&proof.claims));
    let options = options_for(rules, known.access, oid, guest, &sign_in, now);
    let line = line_for(trail, certificate, principal, ends, rules, options)?;
    Ok(Admitted {
        name,
        line,
        tid,
        oid,
        identity_source: "ID token",
        begins: proof.claims.issued_at,
        ends,
        handle,
        guest,
        sign_in,
        forwarding: told(options),
    })
}

/// What the ID token says of the sign-in. Where it does not list all groups, which they are is not known.
pub(super) fn sign_in(claims: &Claims) -> SignIn {
    SignIn {
        proof: ProofKind::OpenPubkey,
        issued: claims.issued_at,
        auth_time: claims.auth_time,
        amr: claims.amr.clone(),
        acrs: claims.acrs.clone(),
        device: claims.device,
        groups: match &claims.groups {
            Groups::Listed(groups) => Some(groups.clone()),
            Groups::Unsaid | Groups::TooMany => None,
        },
        prompted: None,
    }
}

/// By what it is known when it is taken back: nothing that its holder could write anew.
fn handle(certificate: &Certificate, proof: &Proof) -> Handle {
    let token = proof.claims.token_id.as_deref().unwrap_or_default();
    let fingerprint = certificate.subject_key().fingerprint();
    Handle { serial: None, fingerprint, key_id: clean(format!("openpubkey {token}").trim_end()) }
}

/// The proof, or what is wrong with it and the reason that stands for it.
fn prove(
    certificate: &Certificate,
    rules: Option<&ProofRules>,
    keys: &KeySet,
    now: Timestamp,
) -> Result<Proof, (String, Reason)> {
    let Some(rules) = rules else {
        return Err(("openpubkey.client_ids is not set".into(), Reason::OpenpubkeyOff));
    };
    if certificate.has_extension(ACCESS_TOKEN) {
        return Err(("there is an access token in it".into(), Reason::AccessTokenInside));
    }
    if keys.is_empty() {
        return Err(("no key of the issuer is known".into(), Reason::TokenKeysUnknown));
    }
    let text = certificate
        .extension_text(PROOF_EXTENSION)
        .map_err(|cause: CertError| (cause.to_string(), reason_of(cause)))?;
    let proven = verify_proof(text.unwrap_or_default(), &rules.expected, rules.expiration, keys, now);
    proven.map_err(|refusal| (format!("{refusal} ({})", refusal.word()), reason_for(refusal)))
}

/// The reason of the closed list that stands for a refusal.
fn reason_for(refusal: PkRefusal) -> Reason {
    match refusal {
        PkRefusal::Expired => Reason::SignInOver,
        PkRefusal::Token(refusal) | PkRefusal::Refreshed(refusal) => match refusal {
            Refusal::UnknownKey => Reason::TokenKeyUnknown,
            Refusal::Missing("oid") => Reason::IdTokenNoOid,
            Refusal::Tenant | Refusal::ConsumerTenant => Reason::TenantMismatch,
            Refusal::NotYetValid | Refusal::IssuedInFuture => Reason::CertNotYetValid,
            Refusal::Guest => Reason::NameNotAllowed,
            Refusal::Evidence(_) | Refusal::ForbiddenMethod => Reason::EvidenceMissing,
            Refusal::AuthAge => Reason::SignInOver,
            _ => Reason::IdTokenRefused,
        },
        _ => Reason::ProofMalformed,
    }
}

fn times(trail: &mut Trail, certificate: &Certificate, proof: &Proof, now: Timestamp) -> Result<(), Reason> {
    let at = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let verdict = if now.0 < at(certificate.valid_after()) {
        Err(Reason::CertNotYetValid)
    } else if now.0 >= at(certificate.valid_before()) {
        Err(Reason::CertExpired)
    } else {
        Ok(())
    };
    let issued = proof.claims.issued_at;
    trail.mark(format!("signed in at {issued}, good until {}, now {now}", proof.ends), verdict)?;
    // The end is ours, not the certificate's, which has none.
    let refreshed = if proof.refreshed { ", refreshed" } else { "" };
    trail.mark(format!("{} s{refreshed}", proof.ends.since(issued)), Ok(()))
}

/// The principal that the line must name. The certificate's own list is its holder's choice and grants nothing; who may
/// have the name is what the ID token says, which Entra signed.
fn principal<'a>(
    trail: &mut Trail,
    certificate: &'a Certificate,
    said: Option<&str>,
    name: &LoginName,
) -> Result<&'a str, Reason> {
    let unsaid = said.is_none();
    let said = said.unwrap_or_default();
    let is_theirs = LoginName::fold(said).is_ok_and(|folded| folded == *name);
    let verdict = match certificate.principals() {
        [] => Err(Reason::NoPrincipal),
        [_, _, ..] => Err(Reason::ManyPrincipals),
        [_] if unsaid => Err(Reason::IdTokenNoName),
        [_] if !is_theirs => Err(Reason::WrongPrincipal),
        [one] if one == WILDCARD_PRINCIPAL => Ok(one.as_str()),
        [one] => match LoginName::fold(one) {
            Ok(folded) if folded == *name => Ok(one.as_str()),
            Ok(_) => Err(Reason::WrongPrincipal),
            Err(_) => Err(Reason::PrincipalAlphabet),
        },
    };
    let listed: Vec<String> = certificate.principals().iter().take(4).map(|text| clean(text)).collect();
    trail.mark(format!("{} in the certificate, {} in the ID token", listed.join(" | "), clean(said)), verdict)
}

fn tenant(trail: &mut Trail, proof: &Proof, rules: &AdmitRules) -> Result<TenantId, Reason> {
    let tid = proof.claims.tenant;
    let verdict = if tid == rules.tenant { Ok(tid) } else { Err(Reason::TenantMismatch) };
    trail.mark(tid.to_string(), verdict)
}
