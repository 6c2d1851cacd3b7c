//! The sign-ins that were asked for, by connection: whose, beside which certificate, and how far they are.
//!
//! Bounded; one that nobody asks about any more makes way. A sign-in is never found under another connection or another
//! certificate than it was asked for.

use std::collections::HashMap;
use std::sync::Arc;

use nightlatch_model::ObjectId;
use nightlatch_wire::Parent;
use tokio::sync::watch;

use crate::login::Prompted;

/// The most sign-ins that may wait at once.
const MAX_WAITING: usize = 64;
/// The most of one person.
const MAX_WAITING_OF_ONE: usize = 3;
/// The most that are kept, with those that are over.
const MAX_KEPT: usize = 1_024;

/// How far a sign-in is.
#[derive(Clone, Debug)]
pub(in crate::agent) enum State {
    /// The person is not done.
    Waits,
    /// They signed in.
    Shown(Arc<Prompted>),
    /// Nothing comes of it.
    Ended(Ended),
}

/// Why nothing came of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Ended {
    /// Nobody signed in in time.
    Late,
    /// Another person did.
    SomebodyElse,
    /// Entra said no, or nothing. The words are for administrators.
    Failed(String),
    /// It came to an end that is not taken. The words are for administrators.
    NotTaken(String),
}

impl Ended {
    /// For the person.
    pub(super) const fn sentence(&self) -> &'static str {
        match self {
            Self::Late => "nobody signed in with the code in time",
            Self::SomebodyElse => "another person than the holder of the certificate signed in with the code",
            Self::Failed(_) => "the sign-in with the code did not come to an end",
            Self::NotTaken(_) => "the sign-in with the code was not accepted",
        }
    }

    /// For whoever reads the decision.
    pub(super) fn for_administrators(&self) -> String {
        match self {
            Self::Failed(why) | Self::NotTaken(why) => crate::login::clean(why),
            Self::Late | Self::SomebodyElse => self.sentence().to_owned(),
        }
    }
}

struct Asked {
    digest: [u8; 32],
    oid: ObjectId,
    told: watch::Receiver<State>,
    number: u64,
}

impl Asked {
    fn waits(&self) -> bool {
        matches!(*self.told.borrow(), State::Waits) && self.told.has_changed().is_ok()
    }
}

/// The sign-ins of all connections that are between certificate and decision.
#[derive(Default)]
pub(in crate::agent) struct Prompts {
    asked: HashMap<Parent, Asked>,
    next: u64,
}

impl Prompts {
    /// Whether one more may be asked for.
    pub(super) fn has_room(&self) -> bool {
        self.asked.values().filter(|one| one.waits()).count() < MAX_WAITING
    }

    /// Notes a sign-in, in place of an earlier one of this connection; false where too many wait. A person's oldest makes way
    /// for their newest: whoever hung up does not keep themselves out.
    pub(super) fn insert(
        &mut self,
        monitor: Parent,
        digest: [u8; 32],
        oid: ObjectId,
        told: watch::Receiver<State>,
    ) -> bool {
        self.asked.remove(&monitor);
        let own = self.asked.iter().filter(|(_, one)| one.oid == oid && one.waits());
        let oldest = own.clone().min_by_key(|(_, one)| one.number).map(|(key, _)| *key);
        if let (true, Some(oldest)) = (own.count() >= MAX_WAITING_OF_ONE, oldest) {
            self.asked.remove(&oldest);
        }
        if !self.has_room() {
            return false;
        }
        if self.asked.len() >= MAX_KEPT {
            let over = self.asked.iter().filter(|(_, one)| !one.waits());
            let oldest = over.min_by_key(|(_, one)| one.number).map(|(key, _)| *key);
            oldest.and_then(|key| self.asked.remove(&key));
        }
        self.next += 1;
        self.asked.insert(monitor, Asked { digest, oid, told, number: self.next });
        true
    }

    /// The sign-in of this connection beside this certificate.
    pub(super) fn of(&self, monitor: Parent, digest: &[u8; 32]) -> Option<watch::Receiver<State>> {
        let asked = self.asked.get(&monitor).filter(|asked| asked.digest == *digest)?;
        Some(asked.told.clone())
    }
}
