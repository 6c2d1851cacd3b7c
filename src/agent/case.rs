//! One question on its way to an answer for the helper and a record for everybody else. The two
//! are made together, so that the word on the terminal is the word in the journal.

use std::sync::Arc;

use nightlatch_model::{Answer, ObjectId, Reason, Timestamp};
use nightlatch_policy::{Judgement, Outcome as RuleOutcome, Permit, Step, Verdict};
use nightlatch_wire::{Account, Message};

use crate::login::clean;
use crate::telemetry::{AccessInput, Outcome, Record, StepRecord};

/// A finished decision: what to answer and what to keep.
pub struct Decided {
    /// The frame for the helper.
    pub answer: Message,
    /// What is kept.
    pub record: Record,
}

impl Decided {
    /// Notes what the access rules were asked with.
    pub(super) fn made_from(mut self, access: AccessInput) -> Self {
        self.record.access = Some(access);
        self
    }
}

/// One question on its way to an answer and a record.
pub(super) struct Case {
    correlation: String,
    at: Timestamp,
    service: String,
    user: String,
    rhost: Option<String>,
    /// What came before the decision, in a sentence without an end; said before a refusal.
    note: Option<String>,
}

impl Case {
    pub(super) fn new(account: &Account, correlation: String, at: Timestamp) -> Self {
        Self {
            correlation,
            at,
            service: clean(&account.service),
            user: clean(&account.user),
            rhost: (!account.rhost.is_empty()).then(|| clean(&account.rhost)),
            note: None,
        }
    }

    /// What is to be said before a refusal.
    pub(super) fn noting(self, note: Option<String>) -> Self {
        Self { note, ..self }
    }

    fn record(self, steps: Arc<[Step]>, judged: &[Step], oid: Option<ObjectId>) -> Record {
        Record {
            correlation: self.correlation,
            at: self.at,
            service: self.service,
            user: self.user,
            outcome: Outcome::Unknown,
            reason: None,
            text: String::new(),
            hint: String::new(),
            steps: steps.iter().chain(judged).map(step_record).collect(),
            oid: oid.map(|oid| oid.to_string()),
            certificate: None,
            rhost: self.rhost,
            until: None,
            admin: false,
            degraded: false,
            access: None,
        }
    }

    pub(super) fn refuse(self, reason: Reason, steps: Arc<[Step]>) -> Decided {
        self.refused(reason, reason.text().to_owned(), reason.cure().to_owned(), steps, &[], None)
    }

    pub(super) fn deny(self, steps: Arc<[Step]>, judgement: &Judgement, oid: Option<ObjectId>) -> Decided {
        let (reason, text, hint) = match &judgement.verdict {
            Verdict::Denial(denial) => (denial.reason(), denial.text().to_owned(), denial.hint().to_owned()),
            Verdict::Permit(_) => {
                (Reason::Internal, Reason::Internal.text().to_owned(), Reason::Internal.cure().to_owned())
            }
        };
        self.refused(reason, text, hint, steps, &judgement.steps, oid)
    }

    fn refused(
        self,
        reason: Reason,
        text: String,
        hint: String,
        steps: Arc<[Step]>,
        judged: &[Step],
        oid: Option<ObjectId>,
    ) -> Decided {
        let text = self.note.as_ref().map_or_else(|| text.clone(), |note| format!("{note}; {text}"));
        let shown = format!("{text}\n{hint}\nreason {reason}, ref {}", self.correlation);
        let mut record = self.record(steps, judged, oid);
        record.outcome = outcome_of(reason);
        record.reason = Some(reason.word().to_owned());
        (record.text, record.hint) = (text, hint);
        Decided { answer: Message::Deny { code: reason.word().to_owned(), text: shown }, record }
    }

    pub(super) fn permit(
        self,
        steps: Arc<[Step]>,
        judgement: &Judgement,
        oid: ObjectId,
        permit: &Permit,
    ) -> Decided {
        let mut record = self.record(steps, &judgement.steps, Some(oid));
        record.outcome = Outcome::Permit;
        (record.until, record.admin) = (Some(permit.until()), permit.admin());
        record.degraded = permit.degraded();
        Decided { answer: Message::Permit { until: permit.until().0, admin: permit.admin() }, record }
    }
}

pub(super) const fn outcome_of(reason: Reason) -> Outcome {
    match reason.answer() {
        Answer::Denial => Outcome::Denial,
        Answer::Unknown => Outcome::Unknown,
    }
}

pub(super) fn step_record(step: &Step) -> StepRecord {
    let (outcome, reason) = match step.outcome {
        RuleOutcome::Pass => ("pass", None),
        RuleOutcome::Fail(reason) => ("fail", Some(reason.word().to_owned())),
        RuleOutcome::Skip => ("skip", None),
    };
    StepRecord { rule: step.rule.to_owned(), input: step.input.clone(), outcome: outcome.to_owned(), reason }
}
