//! The hook's question: may this certificate be offered? And what follows once the answer has left.
//!
//! sshd waits for the hook, and so does everybody whose key comes next: nothing here waits, writes or
//! asks anybody before the answer is out.

use std::sync::Arc;

use nightlatch_model::{Reason, Timestamp};
use nightlatch_policy::Service;
use nightlatch_wire::{Message, Offer};

use super::case::{outcome_of, step_record};
use super::gate::{Gate, lock};
use crate::login::{Admission, Admitted, Call, Offered, clean};
use crate::telemetry::{Outcome, Record};

/// What an offer leaves to do once its answer has left.
pub struct AfterOffer {
    admission: Admission,
    correlation: String,
    now: Timestamp,
    first: bool,
    warm: bool,
    told: bool,
}

impl Gate {
    /// The hook's question. No network, no write, no wait. What can wait until the answer has left is
    /// handed back for [`Gate::after_offer`].
    pub fn offer(&self, offer: &Offer) -> (Message, AfterOffer) {
        let now = self.moment().wall;
        let boot = self.clock().boot();
        let key_len = usize::try_from(offer.key_len).unwrap_or(usize::MAX);
        let offered = Offered { user: &offer.user, key_type: &offer.key_type, key: &offer.key, key_len };
        let mut admission = self.admission(offered, now);
        let Some(monitor) = offer.parents.first().copied() else {
            // Without its monitor no decision could ever be joined to this call.
            admission.result = Err(Reason::Internal);
            let correlation = Self::new_correlation();
            return (
                Message::None,
                AfterOffer { admission, correlation, now, first: true, warm: false, told: false },
            );
        };
        let (correlation, first, warm, told) = {
            let mut monitors = lock(&self.monitors);
            let known = monitors.correlation(monitor).map(str::to_owned);
            let first = known.is_none();
            let warm = !monitors.has_admitted(monitor);
            // After a refused certificate clients offer the bare key, and after it all the keys of an agent:
            // none of them says more, and each would take the place of a record that does.
            let told = admission.result == Err(Reason::NotACertificate) && monitors.has_refused(monitor);
            let correlation = known.unwrap_or_else(Self::new_correlation);
            let call = Call {
                user: offer.user.clone(),
                held_uid: offer.uid,
                digest: admission.result.is_ok().then(|| digest_of(&offer.key)).flatten(),
                result: admission.result.clone(),
                steps: admission.steps.clone(),
                correlation: correlation.clone(),
            };
            if monitors.record(monitor, call, boot).is_err() {
                admission.result = Err(Reason::RateLimited);
            }
            (correlation, first, warm, told)
        };
        let answer = match &admission.result {
            Err(_) => Message::None,
            Ok(admitted) => Message::Line(admitted.line.clone()),
        };
        (answer, AfterOffer { admission, correlation, now, first, warm, told })
    }

    /// What follows an answer to the hook: the record, and for an admitted person the question about
    /// roles in the background, so that its answer is there when PAM wants it.
    pub fn after_offer(self: &Arc<Self>, offer: &Offer, after: AfterOffer) {
        if matches!(after.admission.result, Err(Reason::TokenKeyUnknown | Reason::TokenKeysUnknown)) {
            self.unknown_key.notify_one();
        }
        if let (Ok(admitted), true) = (&after.admission.result, after.warm) {
            self.warm(admitted);
        }
        if after.told {
            return;
        }
        self.record_offer(offer, &after.admission, after.correlation, after.now, after.first);
    }

    fn warm(self: &Arc<Self>, admitted: &Admitted) {
        if let (Some(oid), Some(runtime)) = (admitted.oid, &self.background) {
            let gate = Arc::clone(self);
            let tid = admitted.tid;
            runtime
                .spawn(async move { gate.outside.roles.ask(gate.role_ask((tid, oid), Service::Ssh)).await });
        }
    }

    fn record_offer(
        &self,
        offer: &Offer,
        admission: &Admission,
        correlation: String,
        now: Timestamp,
        first: bool,
    ) {
        let refused = admission.result.as_ref().err().copied();
        let worth = match refused {
            None => first,
            Some(_) => lock(&self.limits).refused.take(offer.user.clone(), self.clock().boot()),
        };
        if !worth {
            if refused.is_some() {
                self.recorder.skip();
            }
            return;
        }
        let admitted = admission.result.as_ref().ok();
        self.recorder.record(Record {
            correlation,
            at: now,
            service: "hook".into(),
            user: clean(&offer.user),
            outcome: refused.map_or(Outcome::Admit, outcome_of),
            reason: refused.map(|reason| reason.word().to_owned()),
            text: refused.map_or_else(String::new, |reason| reason.text().to_owned()),
            hint: refused.map_or_else(String::new, |reason| reason.cure().to_owned()),
            steps: admission.steps.iter().map(step_record).collect(),
            oid: admitted.and_then(|admitted| admitted.oid).map(|oid| oid.to_string()),
            certificate: admitted.map(|admitted| super::credential::note_of(admitted)),
            rhost: None,
            until: None,
            admin: false,
            degraded: false,
            access: None,
        });
    }
}

/// SHA-256 of a certificate in base64: what PAM's session phase is compared with. The text itself is not kept, since its
/// holder chooses how long it is.
pub(super) fn digest_of(key: &str) -> Option<[u8; 32]> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes()).as_ref().try_into().ok()
}
