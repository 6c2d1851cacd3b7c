//! What root asks about sessions over admin.sock: list them, and take access away.

use std::collections::BTreeSet;
use std::sync::Arc;

use nightlatch_model::{LoginName, ObjectId, Reason};
use nightlatch_wire::session::{Origin, Row, State, Target};
use tracing::info;

use super::gate::{Gate, lock};
use crate::sessions::{Control, ControlError};

/// What is to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Revoked {
    /// A person, by login name.
    User(String),
    /// One session.
    Session(u64),
    /// Everybody who has a session.
    All,
}

/// What ends, or would.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) rows: Vec<Row>,
    pub(super) people: Vec<String>,
    /// Why a withdrawal does not survive a restart yet; empty where all do.
    pub(super) not_kept: String,
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub(super) enum RevokeError {
    /// Sessiond does not answer.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// No such session.
    #[error("no live session has the id {0}: see `nightlatch sessions list`")]
    NoSession(u64),
    /// Nobody of that name was ever let in.
    #[error("nobody called `{0}` was ever let in on this node")]
    NoPerson(String),
    /// The emergency account is not Nightlatch's to end.
    #[error("session {0} is the break-glass account's, which Nightlatch never ends")]
    BreakGlass(u64),
}

/// The sessions of this node for root.
#[derive(Clone)]
pub(super) struct SessionsDesk {
    pub(super) gate: Arc<Gate>,
    pub(super) control: Control,
}

impl SessionsDesk {
    /// The live sessions, or the ended ones that are remembered.
    pub(super) async fn list(&self, ended: bool) -> Result<Vec<Row>, ControlError> {
        self.control.list(ended).await
    }

    /// Takes access away, or says what that would end.
    pub(super) async fn revoke(&self, what: &Revoked, dry_run: bool) -> Result<Ends, RevokeError> {
        let live: Vec<Row> =
            self.control.list(false).await?.into_iter().filter(|row| row.state != State::Ended).collect();
        if let Revoked::Session(id) = what {
            return self.revoke_session(live, *id, dry_run).await;
        }
        let ours: Vec<Row> = live.into_iter().filter(|row| row.origin != Origin::BreakGlass).collect();
        let people: BTreeSet<(String, ObjectId)> = match what {
            Revoked::User(user) => [self.person(user, &ours)?].into(),
            _ => ours
                .iter()
                .filter_map(|row| self.gate.owner(row))
                .map(|owner| (owner.name.as_str().to_owned(), owner.oid))
                .collect(),
        };
        let theirs = |row: &Row| match self.gate.owner(row) {
            Some(owner) => people.iter().any(|(_, oid)| *oid == owner.oid),
            None => *what == Revoked::All,
        };
        let rows: Vec<Row> = ours.into_iter().filter(theirs).collect();
        let mut not_kept = String::new();
        if !dry_run {
            for (name, oid) in &people {
                info!(
                    NIGHTLATCH_USER = name,
                    NIGHTLATCH_REASON = "revoked",
                    "the access of {name} is revoked"
                );
                if let Err(why) = self.gate.withdraw(*oid, Reason::Revoked) {
                    not_kept = why;
                }
            }
            let mut uids: BTreeSet<u32> = rows.iter().map(|row| row.uid).collect();
            uids.extend(people.iter().filter_map(|(_, oid)| self.uid_of(*oid)));
            for uid in uids {
                self.end(Target::Person(uid)).await?;
            }
        }
        Ok(Ends { rows, people: people.into_iter().map(|(name, _)| name).collect(), not_kept })
    }

    async fn revoke_session(&self, live: Vec<Row>, id: u64, dry_run: bool) -> Result<Ends, RevokeError> {
        let row = live.into_iter().find(|row| row.id == id).ok_or(RevokeError::NoSession(id))?;
        if row.origin == Origin::BreakGlass {
            return Err(RevokeError::BreakGlass(id));
        }
        if !dry_run {
            self.end(Target::Session(id)).await?;
        }
        Ok(Ends { rows: vec![row], ..Ends::default() })
    }

    /// Who is meant: somebody in the book, or whoever has a session under the name.
    fn person(&self, user: &str, live: &[Row]) -> Result<(String, ObjectId), RevokeError> {
        let nobody = || RevokeError::NoPerson(user.to_owned());
        let name = LoginName::fold(user).map_err(|_| nobody())?;
        let known = lock(&self.gate.accounts).by_name(&name).map(|person| person.oid);
        let here = || live.iter().filter_map(|row| self.gate.owner(row)).find(|owner| owner.name == name);
        let oid = known.or_else(|| here().map(|owner| owner.oid)).or_else(|| self.gate.mapped(&name));
        Ok((name.as_str().to_owned(), oid.ok_or_else(nobody)?))
    }

    fn uid_of(&self, oid: ObjectId) -> Option<u32> {
        lock(&self.gate.accounts).by_oid(oid).map(|person| person.uid)
    }

    async fn end(&self, target: Target) -> Result<(), ControlError> {
        let text = format!("your session ends: {}\nreason {}", Reason::Revoked.text(), Reason::Revoked);
        self.control.end(target, 0, Reason::Revoked.word(), &text).await
    }
}
