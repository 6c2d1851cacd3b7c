//! The admin socket: gRPC for root on this node. Explains and reports; grants nothing.

use std::sync::Arc;

use nightlatch_model::LoginName;
use tonic::{Request, Response, Status};

use super::gate::Gate;
use crate::telemetry::{Outcome, Record};

/// The generated protocol.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("nightlatch.admin.v1");
}

use v1::admin_server::Admin;
use v1::explain_request::Question;
use v1::{ExplainReply, ExplainRequest, StatusReply, StatusRequest, StatusRow, Step};

/// The largest message on the admin socket, in bytes.
pub const MAX_ADMIN_MESSAGE_BYTES: usize = 256 * 1024;

/// Tells what `status` shows; the agent fills in the rows.
pub type StatusSource = Box<dyn Fn() -> Vec<StatusRow> + Send + Sync>;

/// The service behind admin.sock.
pub struct AdminService {
    gate: Arc<Gate>,
    status: StatusSource,
}

impl AdminService {
    /// Answers from this gate.
    #[must_use]
    pub fn new(gate: Arc<Gate>, status: StatusSource) -> Self {
        Self { gate, status }
    }

    /// The newest decision about a name; after a refused certificate clients offer the bare key,
    /// so a record that says only that is passed over for the one that says why.
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

#[tonic::async_trait]
impl Admin for AdminService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(StatusReply { rows: (self.status)() }))
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
                self.gate.explain(&dry_run.user, certificate, service).await
            }
        };
        Ok(Response::new(reply(record)))
    }
}
