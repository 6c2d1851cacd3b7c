//! People whose own client signed their certificate: a sign-in in it instead of an authority above it.

use nightlatch_emulator::world;
use nightlatch_openpubkey::{CertificateSpec, Client, KeyType};
use nightlatch_world::{
    Cluster, OPENPUBKEY_SCOPE, Story, WorldError, openpubkey_holder, openpubkey_person, openpubkey_sign_in,
    register_openpubkey,
};
use serde_json::json;

use super::{expect_in, explain_last, shorten};

/// Every step told here.
pub(super) const STEPS: usize = 3;

pub(super) fn tell(story: &mut Story<std::io::Stdout>, cluster: &Cluster) -> Option<()> {
    let name = world::ALICE.upn;
    story.step("own-certificate-logs-in", || {
        register_openpubkey(&cluster.tenant)?;
        claims(cluster, &json!({"amr": ["pwd", "mfa"]}))?;
        let alice = openpubkey_person(&cluster.image, &cluster.node, name, KeyType::EcdsaP256)?;
        expect_in(&cluster.node.ssh(&alice, name, &["id", "-un"], &[])?, name)
    })?;
    story.step("own-certificate-without-mfa-refused", || {
        claims(cluster, &json!({"amr": ["pwd"]}))?;
        let alice = openpubkey_person(&cluster.image, &cluster.node, name, KeyType::Ed25519)?;
        refused(cluster, &cluster.node.ssh(&alice, name, &["id"], &[])?, "evidence_missing")
    })?;
    story.step("stolen-sign-in-refused", || {
        claims(cluster, &json!({"amr": ["pwd", "mfa"]}))?;
        let make = || Client::new(KeyType::Ed25519).map_err(|why| WorldError::new(why.to_string()));
        let (alice, thief) = (make()?, make()?);
        let token = openpubkey_sign_in(&cluster.node, name, &alice.nonce(), OPENPUBKEY_SCOPE)?;
        let proof = thief.pk_token(&token).map_err(|why| WorldError::new(why.to_string()))?;
        let thief = openpubkey_holder(&cluster.image, &thief, &CertificateSpec::new(proof))?;
        refused(cluster, &cluster.node.ssh(&thief, name, &["id"], &[])?, "proof_malformed")
    })
}

fn claims(cluster: &Cluster, claims: &serde_json::Value) -> Result<(), WorldError> {
    cluster.tenant.control("PUT", &format!("users/{}/claims", world::ALICE.upn), claims).map(drop)
}

/// Refused by sshd itself; the reason is in `nightlatch explain`.
fn refused(cluster: &Cluster, login: &nightlatch_world::SshOutcome, reason: &str) -> super::Told {
    let line = explain_last(&cluster.node, world::ALICE.upn)?;
    if login.is_refused() && line.contains(reason) {
        return Ok(((), format!("\"{}\"", shorten(&line))));
    }
    Err(WorldError::new(format!("status {}: {line}", login.status)))
}
