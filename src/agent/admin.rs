//! The admin socket: gRPC for root on this node. Explains and reports; grants nothing.

use std::sync::Arc;

use nightlatch_model::{LoginName, Timestamp};
use nightlatch_wire::session::{Origin, Row, State};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::gate::Gate;
use super::sessions_admin::{Ends, RevokeError, Revoked, SessionsDesk};
use crate::telemetry::{Outcome, Record};

/// The generated protocol.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("nightlatch.admin.v1");
}

use v1::admin_server::Admin;
use v1::explain_request::Question;
use v1::revoke_request::Target;
use v1::{
    ExplainReply, ExplainRequest, ObservedReply, ObservedRequest, ObservedRow, ReplayReply, ReplayRequest,
    RevokeReply, RevokeRequest, Session, SessionsReply, SessionsRequest, StatusReply, StatusRequest,
    StatusRow, Step,
};

/// The largest message on the admin socket, in bytes.
pub const MAX_ADMIN_MESSAGE_BYTES: usize = 256 * 1024;

/// The most rows of one report; the most frequent refusals come first.
const MAX_OBSERVED_ROWS: usize = 400;

/// Tells what `status` shows; the agent fills in the rows.
pub type StatusSource = Box<dyn Fn() -> Vec<StatusRow> + Send + Sync>;

/// The service behind admin.sock.
pub struct AdminService {
    gate: Arc<Gate>,
    status: StatusSource,
    desk: SessionsDesk,
    replaying: Semaphore,
}

impl AdminService {
    /// Answers from this gate.
    #[must_use]
    pub(super) fn new(desk: SessionsDesk, status: StatusSource) -> Self {
        Self { gate: Arc::clone(&desk.gate), status, desk, replaying: Semaphore::new(1) }
    }

    /// The newest decision about a name; after a certificate that sshd did not take clients offer the bare
    /// key, so a record that says only that is passed over for the one that says more.
    fn last(&self, user: &str) -> Option<Record> {
        let recorder = self.gate.recorder();
        let newest = recorder.find(|record| record.user == user)?;
        if newest.reason.as_deref() != Some("not_a_certificate") {
            return Some(newest);
        }
        let says_more = |record: &Record| {
            record.correlation == newest.correlation && record.reason.as_deref() != Some("not_a_certificate")
        };
        Some(recorder.find(says_more).unwrap_or(newest))
    }
}

fn reply(record: Record) -> ExplainReply {
    let verdict = match record.outcome {
        Outcome::Permit => "permit",
        // The hook's yes is not a login: nobody has proven to own the key.
        Outcome::Admit => "admitted",
        Outcome::Denial => "denial",
        Outcome::Unknown => "unknown",
    };
    ExplainReply {
        correlation: record.correlation,
        user: record.user,
        decided_at: record.at.0,
        verdict: verdict.into(),
        reason: record.reason.unwrap_or_default(),
        text: record.text,
        hint: record.hint,
        steps: record
            .steps
            .into_iter()
            .map(|step| Step {
                rule: step.rule,
                input: step.input,
                outcome: step.outcome,
                reason: step.reason.unwrap_or_default(),
            })
            .collect(),
    }
}

/// The most sessions in one reply: they fit into [`MAX_ADMIN_MESSAGE_BYTES`] at their largest.
const MAX_SESSIONS_IN_REPLY: usize = 100;

fn session(row: Row) -> Session {
    let origin = match row.origin {
        Origin::Login => "login",
        Origin::Adopted => "adopted",
        Origin::BreakGlass => "break-glass",
    };
    let state = match row.state {
        State::Open => "open",
        State::Ending => "ending",
        State::Ended => "ended",
    };
    Session {
        id: row.id,
        user: row.user,
        uid: row.uid,
        oid: row.oid,
        origin: origin.into(),
        state: state.into(),
        rhost: row.rhost,
        ttys: row.ttys,
        started: row.started,
        until: row.until,
        admin: row.admin,
        degraded: row.degraded,
        ended: row.ended,
        reason: row.reason,
        escaped: row.escaped,
        correlation: row.correlation,
        certificate: row.certificate,
        audit_session: row.audit_session,
        monitor_pid: row.monitor.pid,
    }
}

fn not_revoked(cause: RevokeError) -> Status {
    match cause {
        RevokeError::Control(cause) => Status::unavailable(cause.to_string()),
        cause @ (RevokeError::NoSession(_) | RevokeError::NoPerson(_)) => {
            Status::not_found(cause.to_string())
        }
        cause @ RevokeError::BreakGlass(_) => Status::failed_precondition(cause.to_string()),
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(StatusReply { rows: (self.status)() }))
    }

    async fn sessions(&self, request: Request<SessionsRequest>) -> Result<Response<SessionsReply>, Status> {
        let SessionsRequest { ended, after } = request.into_inner();
        let rows = self.desk.list(ended).await.map_err(|cause| Status::unavailable(cause.to_string()))?;
        let mut rows = rows.into_iter().filter(|row| row.id > after);
        let sessions = rows.by_ref().take(MAX_SESSIONS_IN_REPLY).map(session).collect();
        Ok(Response::new(SessionsReply { sessions, more: rows.next().is_some() }))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeReply>, Status> {
        let RevokeRequest { target, dry_run } = request.into_inner();
        let what = match target {
            Some(Target::User(user)) => Revoked::User(user),
            Some(Target::Session(id)) => Revoked::Session(id),
            Some(Target::All(true)) => Revoked::All,
            Some(Target::All(false)) | None => {
                return Err(Status::invalid_argument("say whom: a user, a session or all"));
            }
        };
        let Ends { rows, people, not_kept } = self.desk.revoke(&what, dry_run).await.map_err(not_revoked)?;
        let sessions = rows.into_iter().take(MAX_SESSIONS_IN_REPLY).map(session).collect();
        Ok(Response::new(RevokeReply { sessions, people, not_kept }))
    }

    async fn observed(&self, request: Request<ObservedRequest>) -> Result<Response<ObservedReply>, Status> {
        let (ring, since) = (self.gate.observations.clone(), Timestamp(request.into_inner().since));
        let report = tokio::task::spawn_blocking(move || ring.report(since)).await;
        let report = report.map_err(|_| Status::internal("the observed logins cannot be read"))?;
        let rows = report.into_iter().take(MAX_OBSERVED_ROWS).map(|row| ObservedRow {
            user: row.newest.user,
            verdict: row.newest.verdict,
            reason: row.newest.reason,
            logins: row.logins,
            last: row.newest.at.0,
            hint: row.newest.hint,
            proof: row.newest.proof,
        });
        Ok(Response::new(ObservedReply { rows: rows.collect() }))
    }

    async fn replay(&self, request: Request<ReplayRequest>) -> Result<Response<ReplayReply>, Status> {
        let ReplayRequest { since, files } = request.into_inner();
        // It reads all that is remembered: one at a time.
        let Ok(_one) = self.replaying.try_acquire() else {
            return Err(Status::resource_exhausted("another replay is under way: try again"));
        };
        let gate = Arc::clone(&self.gate);
        let found = tokio::task::spawn_blocking(move || gate.replay(Timestamp(since), files)).await;
        found.map(Response::new).map_err(|_| Status::internal("the decisions of the past cannot be read"))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainReply>, Status> {
        let record = match request.into_inner().question {
            None => {
                return Err(Status::invalid_argument("no question: a user or a correlation id is needed"));
            }
            Some(Question::Last(user)) => {
                let user = LoginName::fold(&user).map_or(user, |name| name.as_str().to_owned());
                self.last(&user)
                    .ok_or_else(|| Status::not_found(format!("no decision about `{user}` is kept")))?
            }
            Some(Question::Correlation(id)) if id.len() < 4 => {
                return Err(Status::invalid_argument("give at least four characters of the correlation id"));
            }
            Some(Question::Correlation(id)) => self
                .gate
                .recorder()
                .find(|record| record.correlation.starts_with(&id) && record.service != "hook")
                .or_else(|| self.gate.recorder().find(|record| record.correlation.starts_with(&id)))
                .ok_or_else(|| {
                    Status::not_found(format!("no decision with the correlation id `{id}` is kept"))
                })?,
            Some(Question::DryRun(dry_run)) => {
                let certificate = dry_run.certificate.trim();
                let certificate = match certificate.split_whitespace().collect::<Vec<_>>()[..] {
                    [] => None,
                    [key_type, key, ..] => Some((key_type, key)),
                    [_] => return Err(Status::invalid_argument("the certificate is not one OpenSSH line")),
                };
                let service = if dry_run.service.is_empty() { "sshd" } else { &dry_run.service };
                self.gate.explain(&dry_run.user, certificate, service, &dry_run.from).await
            }
        };
        Ok(Response::new(reply(record)))
    }
}
