//! Mode `observe`: a login that somebody else let in, judged after the fact from what PAM's session phase
//! hands over. Nothing is bound, locked or remembered, and nobody waits for it.

use std::sync::Arc;

use core::net::IpAddr;
use nightlatch_model::{Answer, LoginName, Reason, Timestamp};
use nightlatch_policy::{Service, Verdict};
use nightlatch_wire::session::Observed;

use super::credential::{Credential, address};
use super::gate::{Gate, lock};
use crate::login::{Offered, clean};
use crate::telemetry::Observation;

/// The word for a login that Nightlatch would not be asked about.
const LOCAL: &str = "local";

impl Gate {
    /// Whether nightlatchd only watches.
    #[must_use]
    pub const fn is_observing(&self) -> bool {
        self.settings.observing
    }

    /// Judges an observed login in the background and keeps what came of it.
    pub fn observed(self: &Arc<Self>, seen: Observed) {
        let (gate, ring) = (Arc::clone(self), self.observations.clone());
        tokio::spawn(async move {
            let observation = gate.observe(&seen).await;
            // The disk may be slow; the threads that answer others must not wait for it.
            let _ = tokio::task::spawn_blocking(move || ring.keep(&observation)).await;
        });
    }

    async fn observe(&self, seen: &Observed) -> Observation {
        let now = self.moment().wall;
        let (proof, key) = proof_of(&seen.auth);
        let mut observation = Observation {
            at: now,
            user: clean(&seen.user),
            verdict: LOCAL.into(),
            reason: String::new(),
            hint: String::new(),
            proof: proof.into(),
            rhost: clean(&seen.rhost),
            correlation: Self::new_correlation(),
            access: None,
            oid: None,
        };
        // The names of our Match: everybody else is never asked about.
        let Ok(name) = LoginName::fold(&seen.user) else { return observation };
        match self.would_decide(&name, key, address(&seen.rhost), now, &mut observation).await {
            Ok(()) => observation.verdict = "permit".into(),
            Err((reason, hint)) => {
                let definite = reason.answer() == Answer::Denial;
                observation.verdict = if definite { "refuse" } else { "unknown" }.into();
                observation.reason = reason.word().into();
                observation.hint = hint;
            }
        }
        observation
    }

    async fn would_decide(
        &self,
        name: &LoginName,
        key: Option<(&str, &str)>,
        from: Option<IpAddr>,
        now: Timestamp,
        observation: &mut Observation,
    ) -> Result<(), (Reason, String)> {
        let refused = |reason: Reason| (reason, reason.cure().to_owned());
        let (key_type, key) = key.ok_or_else(|| refused(Reason::NotACertificate))?;
        let offered = Offered { user: name.as_str(), key_type, key, key_len: key.len() };
        let admission = self.admission(offered, now);
        let admitted = admission.result.map_err(refused)?;
        // The uid that the name would have had here; today it has another agent's.
        let held = lock(&self.accounts).uid_for(name);
        let mut credential = Credential::of_admitted(&admitted, held, admission.steps);
        credential.from = from;
        self.identify(name, &mut credential).await;
        if let Some(reason) = self.withdrawn(&credential) {
            return Err(refused(reason));
        }
        let roles = self.roles_of(&credential, Service::Ssh).await.answer;
        let ruling = self.rule(Service::Ssh, name, &credential, roles, self.moment());
        observation.access = Some(self.access_input(Service::Ssh, &credential, &ruling));
        observation.oid = credential.identity.map(|(_, oid)| oid);
        match ruling.judgement.verdict {
            Verdict::Permit(_) => Ok(()),
            Verdict::Denial(denial) => Err((denial.reason(), denial.hint().to_owned())),
        }
    }
}

/// What `SSH_AUTH_INFO_0` says: one word for the method, and the type and base64 of a key.
pub(super) fn proof_of(auth: &str) -> (&'static str, Option<(&str, &str)>) {
    let mut words = auth.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("publickey"), Some(kind), Some(key)) => {
            (if kind.contains("-cert-v01@") { "certificate" } else { "key" }, Some((kind, key)))
        }
        (Some("publickey"), ..) => ("key", None),
        (Some("password"), ..) => ("password", None),
        (Some(method), ..) if method.starts_with("keyboard-interactive") => ("keyboard-interactive", None),
        _ => ("unknown", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_told_apart() {
        let certificate = proof_of("publickey ssh-rsa-cert-v01@openssh.com AAAA");
        assert_eq!(certificate, ("certificate", Some(("ssh-rsa-cert-v01@openssh.com", "AAAA"))));
        assert_eq!(proof_of("publickey ssh-ed25519 AAAA").0, "key");
        assert_eq!(proof_of("password").0, "password");
        assert_eq!(proof_of("keyboard-interactive/pam"), ("keyboard-interactive", None));
        assert_eq!(proof_of(""), ("unknown", None));
    }
}
