//! `nightlatch token list` and `nightlatch token explain`: about tokens, never the tokens themselves.

use serde_json::json;

use super::{Wish, expiry_text, refused, with_broker};
use crate::broker::v1::{ExplainTokenReply, ListTokensReply, ListTokensRequest, WhoAmIReply};
use crate::cli::output::{Format, NO, USAGE, YES, complain, say, table};

pub(super) fn list(format: Option<Format>) -> u8 {
    let asked =
        with_broker(
            |mut broker| async move { Ok(broker.list_tokens(ListTokensRequest {}).await?.into_inner()) },
        );
    match asked {
        Ok(reply) => {
            print_list(&reply, format);
            YES
        }
        Err(cause) => refused(&cause),
    }
}

fn print_list(reply: &ListTokensReply, format: Option<Format>) {
    if format == Some(Format::Json) {
        let rows: Vec<_> = reply
            .tokens
            .iter()
            .map(|t| {
                json!({"identity": t.identity, "resource": t.resource, "expires_on": t.expires_on,
                       "refresh_on": t.refresh_on, "idle": t.idle, "failure": t.failure, "uti": t.uti,
                       "cae": t.cae})
            })
            .collect();
        return say(&json!(rows).to_string());
    }
    if reply.tokens.is_empty() {
        return say("no token is kept for you");
    }
    let words = ["identity", "resource", "expires", "used", "last failure"];
    let mut rows = vec![words.map(str::to_owned).to_vec()];
    for token in &reply.tokens {
        rows.push(vec![
            token.identity.clone(),
            token.resource.clone(),
            expiry_text(token.expires_on).rfc3339,
            format!("{} s ago", token.idle),
            if token.failure.is_empty() { "-".to_owned() } else { token.failure.clone() },
        ]);
    }
    table(&rows);
}

pub(super) fn explain(wish: &Wish, format: Option<Format>) -> u8 {
    let request = match wish.request(false) {
        Ok(request) => request,
        Err(why) => {
            complain(&why);
            return USAGE;
        }
    };
    let asked = with_broker(|mut broker| async move { Ok(broker.explain(request).await?.into_inner()) });
    match asked {
        Ok(reply) => {
            print_explanation(&reply, format);
            if reply.allowed { YES } else { NO }
        }
        Err(cause) => refused(&cause),
    }
}

fn print_explanation(reply: &ExplainTokenReply, format: Option<Format>) {
    if format == Some(Format::Json) {
        let trace: Vec<_> =
            reply.trace.iter().map(|t| json!({"rule": t.rule, "outcome": t.outcome, "why": t.why})).collect();
        let document = json!({
            "allowed": reply.allowed, "rule": reply.rule, "reason": reply.reason, "text": reply.text,
            "trace": trace, "identity": reply.identity, "cached": reply.cached,
            "secondsLeft": reply.seconds_left,
            "caller": reply.caller.as_ref().map(caller_document),
        });
        return say(&document.to_string());
    }
    if let Some(caller) = &reply.caller {
        say(&format!("caller: {}", caller_line(caller)));
    }
    let rows: Vec<Vec<String>> =
        reply.trace.iter().map(|t| vec![format!("  {}", t.outcome), t.rule.clone(), t.why.clone()]).collect();
    table(&rows);
    if reply.allowed {
        let kept = if reply.cached {
            format!("a token with {} s left is kept", reply.seconds_left)
        } else {
            "the source would be asked".to_owned()
        };
        say(&format!("permit by rule {}, identity {}; {kept}", reply.rule, reply.identity));
    } else {
        say(&format!("refused: {}: {}", reply.reason, reply.text));
    }
}

/// What the broker sees of a caller, on one line.
pub(in crate::cli) fn caller_line(caller: &WhoAmIReply) -> String {
    let mut words = vec![format!("uid {}", caller.uid), caller.place.clone()];
    for (name, value) in [("unit", &caller.unit), ("slice", &caller.slice), ("pod", &caller.pod)] {
        if !value.is_empty() {
            words.push(format!("{name} {value}"));
        }
    }
    words.join(", ")
}

/// The same as JSON.
pub(in crate::cli) fn caller_document(caller: &WhoAmIReply) -> serde_json::Value {
    let person = caller
        .person
        .as_ref()
        .map(|p| json!({"username": p.username, "tenant": p.tenant, "objectId": p.object_id}));
    json!({"uid": caller.uid, "place": caller.place, "unit": caller.unit, "slice": caller.slice,
           "pod": caller.pod, "pid": caller.pid, "rules": caller.rules, "person": person})
}
