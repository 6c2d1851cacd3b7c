//! `nightlatch explain` and `nightlatch status`.

use std::net::IpAddr;
use std::path::Path;

use nightlatch_model::Timestamp;
use serde_json::json;

use super::client::{ClientError, ask};
use super::output::{Format, NO, UNKNOWN, USAGE, YES, complain, say, table};
use crate::agent::admin::v1::explain_request::Question;
use crate::agent::admin::v1::{DryRun, ExplainReply, ExplainRequest, StatusReply, StatusRequest};
use crate::store::read_capped;

/// The largest certificate file, in bytes.
const MAX_CERT_FILE_BYTES: u64 = 128 * 1024;

/// For what a login is to be judged now.
pub(super) struct DryRunAs<'a> {
    pub(super) cert: Option<&'a Path>,
    pub(super) service: &'a str,
    pub(super) from: Option<IpAddr>,
}

pub(super) fn run(question: &str, last: bool, judged_as: &DryRunAs<'_>, format: Format) -> u8 {
    let &DryRunAs { cert, service, from } = judged_as;
    let is_name = question.contains('@') || question.parse::<nightlatch_model::Guid>().is_ok();
    let question = if last {
        Question::Last(question.to_owned())
    } else if is_name {
        let certificate = match cert.map(read_certificate).transpose() {
            Ok(text) => text.unwrap_or_default(),
            Err(message) => {
                complain(&message);
                return USAGE;
            }
        };
        let from = from.map_or_else(String::new, |from| from.to_string());
        let (user, service) = (question.to_owned(), service.to_owned());
        Question::DryRun(DryRun { user, certificate, service, from })
    } else if cert.is_some() || from.is_some() {
        complain("--cert and --from go with a login name such as `alice@contoso.com`");
        return USAGE;
    } else {
        Question::Correlation(question.to_owned())
    };
    let request = ExplainRequest { question: Some(question) };
    match ask(|mut client| async move { client.explain(request).await }) {
        Ok(reply) => print(&reply, format),
        Err(cause) => refused(&cause),
    }
}

fn read_certificate(path: &Path) -> Result<String, String> {
    let bytes = read_capped(path, MAX_CERT_FILE_BYTES).map_err(|cause| cause.to_string())?;
    let bytes = bytes.ok_or_else(|| format!("`{}` does not exist", path.display()))?;
    String::from_utf8(bytes).map_err(|_| format!("`{}` is not an OpenSSH certificate", path.display()))
}

fn print(reply: &ExplainReply, format: Format) -> u8 {
    match format {
        Format::Json => {
            let steps: Vec<_> = reply
                .steps
                .iter()
                .map(|s| json!({"rule": s.rule, "input": s.input, "outcome": s.outcome, "reason": s.reason}))
                .collect();
            let document = json!({
                "correlation": reply.correlation, "user": reply.user,
                "decided_at": Timestamp(reply.decided_at).to_string(), "verdict": reply.verdict,
                "reason": reply.reason, "text": reply.text, "hint": reply.hint, "steps": steps,
            });
            say(&document.to_string());
        }
        _ => {
            say(&format!("{}  {}  ref {}", reply.user, Timestamp(reply.decided_at), reply.correlation));
            let rows: Vec<Vec<String>> = reply
                .steps
                .iter()
                .map(|s| vec![format!("  {}", s.outcome), s.rule.clone(), with_reason(&s.input, &s.reason)])
                .collect();
            table(&rows);
            match reply.verdict.as_str() {
                "permit" => say("permit"),
                "admitted" => say("admitted: the certificate was offered; nobody has logged in with it"),
                verdict => {
                    say(&format!("{verdict}: {}: {}", reply.reason, reply.text));
                    say(&format!("hint: {}", reply.hint));
                }
            }
        }
    }
    match reply.verdict.as_str() {
        "permit" => YES,
        "denial" => NO,
        _ => UNKNOWN,
    }
}

fn with_reason(input: &str, reason: &str) -> String {
    if reason.is_empty() { input.to_owned() } else { format!("{input}  [{reason}]") }
}

fn refused(cause: &ClientError) -> u8 {
    complain(&cause.to_string());
    UNKNOWN
}

pub(super) fn status(format: Format) -> u8 {
    match ask(|mut client| async move { client.status(StatusRequest {}).await }) {
        Ok(reply) => print_status(&reply, format),
        Err(cause) => refused(&cause),
    }
}

fn print_status(reply: &StatusReply, format: Format) -> u8 {
    match format {
        Format::Json => {
            let rows: Vec<_> = reply
                .rows
                .iter()
                .map(|row| json!({"part": row.part, "state": row.state, "detail": row.detail}))
                .collect();
            say(&json!(rows).to_string());
        }
        _ => {
            let rows: Vec<Vec<String>> = reply
                .rows
                .iter()
                .map(|row| vec![row.part.clone(), row.state.clone(), row.detail.clone()])
                .collect();
            table(&rows);
        }
    }
    if reply.rows.iter().all(|row| row.state == "ok") { YES } else { NO }
}
