//! Judging without doing: what `nightlatch explain` asks. Nothing is bound, unlocked, locked or remembered.

use std::sync::Arc;

use nightlatch_model::{LoginName, Reason, Timestamp};
use nightlatch_policy::{Service, Verdict};
use nightlatch_wire::{Account, NO_LOGINUID};

use super::case::Case;
use super::credential::{Credential, address};
use super::gate::{Gate, lock};
use crate::login::{Offered, clean};
use crate::telemetry::Record;

impl Gate {
    /// Judges without doing: nothing is bound, unlocked or locked.
    pub async fn explain(
        &self,
        user: &str,
        certificate: Option<(&str, &str)>,
        service: &str,
        from: &str,
    ) -> Record {
        let now = self.moment();
        let account = Account {
            user: clean(user),
            service: service.to_owned(),
            rhost: clean(from),
            tty: String::new(),
            loginuid: NO_LOGINUID,
            audit_session: NO_LOGINUID,
            parents: vec![],
        };
        let case = Case::new(&account, Self::new_correlation(), now.wall);
        let Ok(name) = LoginName::parse(user) else {
            return case.refuse(Reason::NameNotAllowed, Arc::default()).record;
        };
        let mut credential = match certificate {
            Some((key_type, key)) => {
                let admission = self.admission(Offered { user, key_type, key, key_len: key.len() }, now.wall);
                match admission.result {
                    Err(reason) => return case.refuse(reason, admission.steps).record,
                    Ok(admitted) => {
                        let held = lock(&self.accounts).uid_for(&name);
                        Credential::of_admitted(&admitted, held, admission.steps)
                    }
                }
            }
            None => self.known_person(&name, now.wall),
        };
        if let Some(from) = address(from) {
            credential.from = Some(from);
        }
        self.identify(&name, &mut credential).await;
        if let Some(reason) = self.withdrawn(&credential) {
            return case.refuse(reason, credential.steps).record;
        }
        let service = Service::from_pam(service);
        let known = self.roles_of(&credential, service).await;
        let judgement = self.rule(service, &name, &credential, known.answer, now).judgement;
        let oid = credential.identity.map(|(_, oid)| oid);
        match &judgement.verdict {
            Verdict::Permit(permit) => match oid {
                Some(oid) => case.permit(credential.steps, &judgement, oid, permit).record,
                None => case.refuse(Reason::Internal, credential.steps).record,
            },
            Verdict::Denial(_) => {
                let mut record = case.deny(credential.steps, &judgement, oid).record;
                if certificate.is_none() && record.reason() == Some(Reason::IdentityUnknown) {
                    record.hint = "the person was never here: give their certificate with --cert FILE".into();
                }
                record
            }
        }
    }

    /// Without a certificate: who holds the name here, or in the administrator's table.
    fn known_person(&self, name: &LoginName, now: Timestamp) -> Credential {
        let accounts = lock(&self.accounts);
        let oid = accounts.by_name(name).map(|person| person.oid).or_else(|| self.mapped(name));
        // As at the last login; without one the access rules miss what only a certificate says.
        let kept = oid.and_then(|oid| lock(&self.sign_ins).last(oid).cloned());
        Credential {
            admitted: true,
            tenant: Some(accounts.tenant()),
            identity: oid.map(|oid| (accounts.tenant(), oid)),
            // As if a fresh certificate had been shown.
            begins: Some(now),
            ends: Some(now.plus(3_600)),
            guest: None,
            held: Some(accounts.uid_for(name)),
            sign_in: kept.as_ref().map(|kept| kept.sign_in.clone()),
            from: kept.and_then(|kept| kept.from),
            told: None,
            began: None,
            steps: Arc::default(),
        }
    }
}
