//! PAM's account question: may this person enter? It is the decision.
//!
//! What a decision changes is done before its answer leaves: a yes is bound and unlocked on disk and known
//! to sessiond as pending; a no has erased the grace that could have contradicted it.

use std::sync::Arc;
use std::time::Duration;

use nightlatch_model::{LoginName, ObjectId, Reason, Timestamp};
use nightlatch_policy::{Effect, Permit, Ruling, Service, Verdict};
use nightlatch_wire::session::{NO_DIGEST, Pending, Row};
use nightlatch_wire::{Account, Auth, Message, NO_LOGINUID, Parent};
use tracing::error;

use super::case::{Case, Decided};
use super::credential::{Credential, address, note_of};
use super::gate::{Gate, lock};
use crate::accounts::{Bound, KeptSignIn, Opening};
use crate::login::{Admitted, LastCall, clean};
use crate::telemetry::AccessInput;

/// How much longer than LoginGraceTime a session may take to open, in seconds: sshd has given up by then.
const OPEN_SLACK_S: u64 = 5;

impl Gate {
    /// The account question: the decision. Records it.
    pub async fn account(&self, account: &Account) -> Message {
        let decided = self.decide(account).await;
        self.recorder.record(decided.record);
        decided.answer
    }

    async fn decide(&self, account: &Account) -> Decided {
        let boot = self.clock().boot();
        let service = Service::from_pam(&account.service);
        let found = lock(&self.monitors).find(&account.parents, boot).map(|(key, row)| (key, row.clone()));
        let (monitor, row) = found.unzip();
        let correlation = row.as_ref().map_or_else(Self::new_correlation, |row| row.correlation.clone());
        let case = Case::new(account, correlation.clone(), self.moment().wall);
        let Ok(name) = LoginName::parse(&account.user) else {
            return case.refuse(Reason::NameNotAllowed, Arc::default());
        };
        if !lock(&self.limits).source.take(account.rhost.clone(), boot) {
            return case.refuse(Reason::RateLimited, Arc::default());
        }
        let mut credential = match service {
            Service::Sudo => {
                let session = self.session_of(account.audit_session).await;
                self.sudo_credential(&name, account.loginuid, session.as_ref())
            }
            Service::Ssh | Service::Other | Service::Live => {
                let from = address(&account.rhost);
                Credential { from, ..Credential::of_login(row.as_ref(), &name) }
            }
        };
        self.identify(&name, &mut credential).await;
        let at_the_prompt = match (service, monitor, row.as_ref()) {
            (Service::Ssh, Some(monitor), Some(row)) => self.add_prompted(monitor, row, &mut credential),
            _ => None,
        };
        let case = case.noting(at_the_prompt);
        if let (Some((_, oid)), Some(reason)) = (credential.identity, self.withdrawn(&credential)) {
            self.take_back(oid, &name, reason);
            return case.refuse(reason, credential.steps);
        }
        let known = self.roles_of(&credential, service).await;
        if let (Some(monitor), true, Service::Ssh) = (monitor, credential.admitted, service) {
            // What was judged makes room for others.
            lock(&self.monitors).settle(monitor);
        }
        let ruling = self.rule(service, &name, &credential, known.answer, self.moment());
        let access = self.access_input(service, &credential, &ruling);
        let (judgement, steps) = (ruling.judgement, credential.steps.clone());
        match &judgement.verdict {
            Verdict::Permit(permit) => {
                let Some((_, oid)) = credential.identity else { return case.refuse(Reason::Internal, steps) };
                self.settle_grace(oid, ruling.effect, known.age);
                if let Err(reason) = self.let_in(service, oid, &name, &credential, permit) {
                    return case.refuse(reason, steps);
                }
                let admitted = row.as_ref().and_then(|row| row.admitted.as_ref());
                if let (Service::Ssh, Some(admitted)) = (service, admitted) {
                    self.keep_sign_in(oid, admitted, &credential, &correlation);
                }
                let pending = match (service, monitor, row.as_ref()) {
                    (Service::Ssh, Some(monitor), Some(row)) => {
                        Some(self.pending_of(monitor, row, oid, account, permit, credential.ends))
                    }
                    _ => None,
                };
                if let Some(pending) = pending
                    && let Err(cause) = self.outside.sessions.pending(pending).await
                {
                    error!("{name} refused although permitted: {cause}");
                    return case.refuse(Reason::SessionsDown, steps);
                }
                case.permit(steps, &judgement, oid, permit).made_from(access)
            }
            Verdict::Denial(denial) => {
                if let Some((_, oid)) = credential.identity {
                    self.settle_grace(oid, ruling.effect, known.age);
                    self.take_back(oid, &name, denial.reason());
                }
                case.deny(steps, &judgement, credential.identity.map(|(_, oid)| oid)).made_from(access)
            }
        }
    }

    /// What the access rules were asked with, for the record.
    pub(super) fn access_input(
        &self,
        service: Service,
        credential: &Credential,
        ruling: &Ruling,
    ) -> AccessInput {
        let others = ruling.without_rules.map(|reason| reason.word().to_owned());
        let degraded = matches!(&ruling.judgement.verdict, Verdict::Permit(permit) if permit.degraded());
        let now = self.moment().wall;
        let age = credential.identity.filter(|_| degraded).and_then(|(_, oid)| {
            let given = lock(&self.grace).last(oid).map(|yes| yes.at.wall)?;
            u64::try_from(now.since(given)).ok()
        });
        AccessInput {
            sudo: service == Service::Sudo,
            role: ruling.role,
            guest: credential.guest,
            from: credential.from,
            sign_in: credential.sign_in.clone(),
            grace_age_s: age,
            others,
        }
    }

    /// Binds and unlocks the account, on disk before this returns. For sudo the account is open already; only
    /// the group may change.
    fn let_in(
        &self,
        service: Service,
        oid: ObjectId,
        name: &LoginName,
        credential: &Credential,
        permit: &Permit,
    ) -> Result<(), Reason> {
        let begins = credential.begins.unwrap_or(Timestamp(i64::MIN));
        let mut accounts = lock(&self.accounts);
        // A yes by grace, for sudo, or by a rule with a limit is about less than the account: it must not cut what another
        // gave to a session that lives. Nor does the end of a rule's time, behind which another rule may go on.
        let less = permit.degraded() || permit.session_end().is_some() || service == Service::Sudo;
        let open = accounts.by_oid(oid).filter(|_| less).and_then(Bound::open_until);
        let until = open.into_iter().fold(permit.beyond_window(), Timestamp::max);
        let opening = Opening { admin: permit.admin(), until, begins, guest: credential.guest };
        let unlocked = accounts.unlock(oid, name, opening);
        unlocked.map_err(|cause| {
            error!("{name} refused although permitted: {cause}: {:?}", std::error::Error::source(&cause));
            Reason::Internal
        })
    }

    fn pending_of(
        &self,
        monitor: Parent,
        row: &LastCall,
        oid: ObjectId,
        account: &Account,
        permit: &Permit,
        ends: Option<Timestamp>,
    ) -> Pending {
        let certificate = row.admitted.as_ref().map(note_of);
        let open_within = self.settings.login_grace.as_secs() + OPEN_SLACK_S;
        Pending {
            monitor,
            user: account.user.clone(),
            uid: row.held_uid,
            oid: oid.to_string(),
            correlation: row.correlation.clone(),
            certificate: certificate.unwrap_or_default(),
            digest: row.digest.unwrap_or(NO_DIGEST),
            rhost: clean(&account.rhost),
            // The certificate's own end, and the longest session: those of a role, of grace or of a rule's time may be put
            // off while the session lives.
            until: permit
                .session_end()
                .into_iter()
                .fold(ends.unwrap_or_else(|| permit.until()), Timestamp::min)
                .0,
            admin: permit.admin(),
            degraded: permit.degraded(),
            open_within_s: u16::try_from(open_within).unwrap_or(u16::MAX),
        }
    }

    /// Who runs sudo: somebody who was let in, on the credential of that time. A person who was locked
    /// out meanwhile is judged anew, so that the reason is the real one. What counts of the sign-in is what the certificate
    /// said with which this session began: another session of the person may have shown more.
    fn sudo_credential(&self, name: &LoginName, loginuid: u32, session: Option<&Row>) -> Credential {
        let accounts = lock(&self.accounts);
        let Some(person) = accounts.by_name(name) else { return Credential::default() };
        // The audit uid tells from whose login this process descends, when it tells anything.
        let held = if loginuid == NO_LOGINUID || !nightlatch_model::is_our_uid(loginuid) {
            person.uid
        } else {
            loginuid
        };
        let sign_ins = lock(&self.sign_ins);
        let session = session.filter(|row| row.uid == person.uid);
        let kept = session
            .and_then(|row| sign_ins.of_session(&row.correlation, &row.certificate))
            .filter(|kept| kept.oid == person.oid);
        let from = session.and_then(|row| address(&row.rhost));
        Credential { held: Some(held), from, ..Credential::of_account(person, kept) }
    }

    /// The session that runs sudo; only looked for where access rules want to know what it rests on.
    async fn session_of(&self, audit_session: u32) -> Option<Row> {
        if audit_session == NO_LOGINUID || self.access_rules().is_empty() {
            return None;
        }
        self.outside.sessions.live(audit_session).await
    }

    /// What the certificate of a login said, for the time when it is no longer at hand.
    /// What a sign-in at the prompt showed beside it is this login's own, and no other's with the same certificate.
    fn keep_sign_in(&self, oid: ObjectId, admitted: &Admitted, credential: &Credential, correlation: &str) {
        let now = self.moment().wall;
        let shown = credential.sign_in.as_ref().filter(|sign_in| sign_in.prompted.is_some());
        let (key, sign_in, guest) = match shown {
            Some(sign_in) => (correlation.to_owned(), sign_in, credential.guest),
            None => (note_of(admitted), &admitted.sign_in, admitted.guest),
        };
        let said = KeptSignIn::new(oid, sign_in.clone(), guest, credential.from, admitted.ends);
        lock(&self.sign_ins).remember(key, said, now);
    }

    /// What a definite no changes at once; what could not be found out changes nothing. Sessions of a person
    /// who lost the right are judged at once as well.
    fn take_back(&self, oid: ObjectId, name: &LoginName, reason: Reason) {
        let lost = matches!(
            reason,
            Reason::NoVmRole
                | Reason::DenyAssignment
                | Reason::PimNotActive
                | Reason::ConditionalRole
                | Reason::Revoked
                | Reason::SignInWithdrawn
        );
        if lost {
            self.wake.person(oid);
        }
        self.close_account(oid, name, reason);
    }

    /// The account's part of a definite no.
    pub(super) fn close_account(&self, oid: ObjectId, name: &LoginName, reason: Reason) {
        let mut accounts = lock(&self.accounts);
        let changed = match reason {
            Reason::Renamed => accounts.rename(oid, name).map(|()| true),
            Reason::NoVmRole
            | Reason::DenyAssignment
            | Reason::PimNotActive
            | Reason::ConditionalRole
            | Reason::Revoked
            | Reason::SignInWithdrawn => accounts.lock(oid),
            Reason::NoAdminRole => accounts.demote(oid),
            _ => Ok(false),
        };
        drop(accounts);
        if let Err(cause) = changed {
            error!(
                "the account of {name} could not be locked: {cause}: {:?}",
                std::error::Error::source(&cause)
            );
        }
        if matches!(reason, Reason::Revoked | Reason::SignInWithdrawn) {
            self.settle_grace(oid, Effect::Erase, Duration::ZERO);
        }
    }

    /// What the keyboard-interactive fallback may show: only what can be read from the
    /// certificate itself, since whoever asks has proven nothing.
    #[must_use]
    pub fn auth_text(&self, auth: &Auth) -> String {
        if !self.settings.interactive_reason {
            return String::new();
        }
        let boot = self.clock().boot();
        let monitors = lock(&self.monitors);
        let Some((_, row)) = monitors.find(&auth.parents, boot) else { return String::new() };
        match row.refused {
            Some(
                reason @ (Reason::CertExpired
                | Reason::CertNotYetValid
                | Reason::CaUnknown
                | Reason::WrongPrincipal
                | Reason::TenantMismatch),
            ) => format!("{}\n{}\nref {}", reason.text(), reason.cure(), row.correlation),
            _ => String::new(),
        }
    }
}
