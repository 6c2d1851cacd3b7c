//! A session that lives, judged again: may its person stay?
//!
//! The same decision as at the login, on what sessiond's table says of the session. Here it is also done
//! what a no means for the account and for grace; ending the session is the caller's, through sessiond.

use std::sync::Arc;

use nightlatch_model::{LoginName, ObjectId, Reason, Timestamp};
use nightlatch_policy::{Service, SignIn, Step, Verdict};
use nightlatch_wire::session::{Origin, Row};
use nightlatch_wire::{Account, NO_LOGINUID};

use super::case::Case;
use super::credential::{Credential, address, read_note};
use super::gate::{Gate, Known, lock};
use crate::telemetry::Record;

/// What became of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// It may stay until then.
    Until {
        /// The first second in which it may not.
        until: Timestamp,
        /// Whether that rests on an old yes.
        degraded: bool,
    },
    /// It ends.
    End(Leave),
}

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leave {
    /// The reason's word.
    pub(super) reason: Reason,
    /// The lines for the terminal.
    pub(super) text: String,
    /// Whether all of the person ends, and not this session alone.
    pub(super) person: bool,
}

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: LoginName,
    pub(super) oid: ObjectId,
}

impl Gate {
    /// Whose session this is: as it was told at the login, or who holds the uid of adopted processes.
    pub(super) fn owner(&self, row: &Row) -> Option<Owner> {
        if let (Origin::Login, Ok(name), Ok(oid)) = (row.origin, LoginName::parse(&row.user), row.oid.parse())
        {
            return Some(Owner { name, oid });
        }
        lock(&self.accounts)
            .by_uid(row.uid)
            .map(|person| Owner { name: person.name.clone(), oid: person.oid })
    }

    /// The right of a session's owner, asked anew.
    pub(super) async fn live_roles(&self, owner: &Owner) -> Known {
        let tenant = lock(&self.accounts).tenant();
        self.outside.roles.ask(self.role_ask((tenant, owner.oid), Service::Live)).await
    }

    /// Why a session ends whatever Azure says, and without asking it.
    pub(super) fn lost_here(&self, row: &Row, owner: Option<&Owner>) -> Option<Leave> {
        self.rests_on(row, owner).err()
    }

    /// Whose a session is and what it rests on.
    ///
    /// # Errors
    /// It ends whatever Azure says.
    fn rests_on<'a>(&self, row: &Row, owner: Option<&'a Owner>) -> Result<(&'a Owner, Credential), Leave> {
        // Processes of a uid that nobody was ever let in under.
        let owner = owner.ok_or_else(|| self.leave_for(row, Reason::NoAdmit, Arc::default(), true))?;
        let credential = self.live_credential(row, owner);
        if let Some(reason) = self.withdrawn(&credential) {
            self.close_account(owner.oid, &owner.name, reason);
            return Err(self.leave_for(row, reason, credential.steps, true));
        }
        let reason = match (self.is_taken_back(row), self.is_over(row)) {
            (true, _) => Reason::CertRevoked,
            (false, true) => Reason::SessionOver,
            (false, false) => return Ok((owner, credential)),
        };
        Err(self.leave_for(row, reason, credential.steps, false))
    }

    /// Judges one session with this answer about its owner's right.
    pub(super) fn judge_live(&self, row: &Row, owner: Option<&Owner>, known: &Known) -> Stay {
        let (owner, credential) = match self.rests_on(row, owner) {
            Ok(rests_on) => rests_on,
            Err(leave) => return Stay::End(leave),
        };
        let ruling = self.rule(Service::Live, &owner.name, &credential, known.answer.clone(), self.moment());
        self.settle_grace(owner.oid, ruling.effect, known.age);
        match &ruling.judgement.verdict {
            Verdict::Permit(permit) => {
                if !permit.degraded() && !permit.admin() {
                    self.close_account(owner.oid, &owner.name, Reason::NoAdminRole);
                }
                Stay::Until { until: permit.until(), degraded: permit.degraded() }
            }
            Verdict::Denial(denial) => {
                let reason = denial.reason();
                // A certificate that has ended, or an access rule, says nothing about the person's other sessions.
                let own = reason == Reason::CertExpired || ruling.without_rules.is_none();
                let person = !own || row.origin == Origin::Adopted;
                if person {
                    self.lock_out(owner, reason);
                }
                let case = self.live_case(row);
                let record = case.deny(credential.steps.clone(), &ruling.judgement, Some(owner.oid)).record;
                Stay::End(self.leave(record, reason, person))
            }
        }
    }

    /// Whether the certificate of a session stands in `trust.revoked_file` by now.
    fn is_taken_back(&self, row: &Row) -> bool {
        read_note(&row.certificate).is_some_and(|handle| self.facts().revoked.names(&handle))
    }

    /// The same sign-in, younger by the time that a session may take to open: its ages are counted from the session's
    /// beginning, and were judged before.
    fn as_of_the_decision(&self, sign_in: SignIn) -> SignIn {
        let wait = i64::try_from(self.settings.login_grace.as_secs()).unwrap_or(0);
        let auth_time = sign_in.auth_time.map(|at| at.plus(wait));
        SignIn { issued: sign_in.issued.plus(wait), auth_time, ..sign_in }
    }

    /// Whether a session has reached the end that an access rule gave it at the login, and not its certificate.
    fn is_over(&self, row: &Row) -> bool {
        let now = self.moment().wall;
        let good = lock(&self.sign_ins)
            .of_session(&row.correlation, &row.certificate)
            .is_some_and(|kept| now < kept.until);
        row.until != 0 && Timestamp(row.until) <= now && good
    }

    fn live_case(&self, row: &Row) -> Case {
        let correlation =
            if row.correlation.is_empty() { Self::new_correlation() } else { row.correlation.clone() };
        let account = Account {
            user: row.user.clone(),
            service: "session".into(),
            rhost: row.rhost.clone(),
            tty: String::new(),
            loginuid: NO_LOGINUID,
            audit_session: NO_LOGINUID,
            parents: vec![],
        };
        Case::new(&account, correlation, self.moment().wall)
    }

    /// What a session rests on: its own certificate, or the last one of whoever holds the uid.
    fn live_credential(&self, row: &Row, owner: &Owner) -> Credential {
        let accounts = lock(&self.accounts);
        if row.origin == Origin::Login {
            let kept = lock(&self.sign_ins)
                .of_session(&row.correlation, &row.certificate)
                .filter(|kept| kept.oid == owner.oid)
                .cloned();
            let last_guest = || accounts.by_oid(owner.oid).and_then(|person| person.guest);
            return Credential {
                admitted: true,
                tenant: Some(accounts.tenant()),
                identity: Some((accounts.tenant(), owner.oid)),
                // The certificate began before the session did; what was withdrawn since covers both.
                begins: Some(Timestamp(row.started)),
                ends: (row.until != 0).then_some(Timestamp(row.until)),
                // As at this session's login, or at the person's last one: nobody becomes a guest by staying.
                guest: kept.as_ref().map_or_else(last_guest, |kept| kept.guest),
                held: Some(row.uid),
                sign_in: kept.map(|kept| self.as_of_the_decision(kept.sign_in)),
                from: address(&row.rhost),
                told: None,
                began: Some(Timestamp(row.started)),
                steps: Arc::default(),
            };
        }
        let sign_ins = lock(&self.sign_ins);
        let person = accounts.by_oid(owner.oid);
        let account = person.map(|person| Credential::of_account(person, sign_ins.last(owner.oid)));
        Credential { held: Some(row.uid), began: Some(Timestamp(row.started)), ..account.unwrap_or_default() }
    }

    /// While a person's sessions end, the account is locked whatever the reason: what is left of them must
    /// not start anew. The next yes opens it.
    fn lock_out(&self, owner: &Owner, reason: Reason) {
        self.close_account(owner.oid, &owner.name, reason);
        if let Err(cause) = lock(&self.accounts).lock(owner.oid) {
            tracing::error!("the account of {} could not be locked: {cause}", owner.name);
        }
    }

    fn leave_for(&self, row: &Row, reason: Reason, steps: Arc<[Step]>, person: bool) -> Leave {
        self.leave(self.live_case(row).refuse(reason, steps).record, reason, person)
    }

    fn leave(&self, record: Record, reason: Reason, person: bool) -> Leave {
        let text = format!(
            "your session ends: {}\n{}\nreason {reason}, ref {}",
            record.text, record.hint, record.correlation
        );
        self.recorder.record(record);
        Leave { reason, text, person }
    }
}
