//! AADSTS errors: the number, the OAuth words that go with it, and the JSON body (Microsoft Learn,
//! "Microsoft Entra authentication and authorization error codes").

use std::borrow::Cow;

use axum::response::Response;
use serde_json::{Value, json};

use super::codes::KNOWN;
use crate::call;
use crate::clock;
use crate::ids;
use crate::state::World;

/// A refused request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: u32,
    error: Cow<'static, str>,
    status: Option<u16>,
    suberror: Option<String>,
    text: String,
    claims: Option<String>,
}

impl Refusal {
    /// The refusal of a number; numbers not in the table are an `invalid_grant` without further words.
    pub(crate) fn new(code: u32) -> Self {
        let known = KNOWN.iter().find(|entry| entry.0 == code);
        let &(_, error, suberror, text) =
            known.unwrap_or(&(0, "invalid_grant", "", "The request was refused."));
        Self {
            code,
            error: Cow::Borrowed(error),
            status: None,
            suberror: (!suberror.is_empty()).then(|| suberror.to_owned()),
            text: text.to_owned(),
            claims: None,
        }
    }

    /// Fill the text's blank.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.text = self.text.replace("{}", what);
        self
    }

    /// Hand out a claims challenge.
    pub(crate) fn with_claims(mut self, claims: &Value) -> Self {
        self.claims = Some(claims.to_string());
        self
    }

    /// Another `suberror`.
    pub(crate) fn with_suberror(mut self, suberror: &str) -> Self {
        self.suberror = Some(suberror.to_owned());
        self
    }

    /// Another `error`.
    pub(crate) fn with_error(mut self, error: &str) -> Self {
        self.error = Cow::Owned(error.to_owned());
        self
    }

    /// Another HTTP status.
    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// OAuth word and full description, for redirects.
    pub(crate) fn words(&self, world: &World) -> (&str, String) {
        (&self.error, self.describe(world, &ids::guid(), &ids::guid()))
    }

    fn describe(&self, world: &World, trace: &str, correlation: &str) -> String {
        format!(
            "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {}",
            self.code,
            self.text.replace("{}", "").trim_end(),
            clock::spaced(world.now()),
        )
    }

    /// The JSON body.
    pub(crate) fn body(&self, world: &World) -> Value {
        let (trace, correlation) = (ids::guid(), ids::guid());
        let mut body = json!({
            "error": self.error,
            "error_description": self.describe(world, &trace, &correlation),
            "error_codes": [self.code],
            "timestamp": clock::spaced(world.now()),
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://login.microsoftonline.com/error?code={}", self.code),
        });
        if let Some(members) = body.as_object_mut() {
            if let Some(suberror) = &self.suberror {
                members.insert("suberror".into(), suberror.as_str().into());
            }
            if let Some(claims) = &self.claims {
                members.insert("claims".into(), claims.as_str().into());
            }
        }
        body
    }

    /// 401 for a client that could not prove itself, 503 for "try again", 400 for all others.
    pub(crate) fn response(&self, world: &World) -> Response {
        let usual = match &*self.error {
            "invalid_client" => 401,
            "temporarily_unavailable" => 503,
            _ => 400,
        };
        call::json(self.status.unwrap_or(usual), &self.body(world))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_listed_once_and_bodies_carry_everything() {
        let mut seen = std::collections::BTreeSet::new();
        assert!(KNOWN.iter().all(|entry| seen.insert(entry.0)));
        let world = crate::seed::world("t", Vec::new(), Vec::new());
        let challenge = json!({"access_token": {"acrs": {"essential": true, "value": "c1"}}});
        let body = Refusal::new(50076).about("app").with_claims(&challenge).body(&world);
        assert_eq!(body["error_codes"], json!([50076]));
        assert_eq!(body["suberror"], "basic_action");
        assert_eq!(body["claims"], challenge.to_string());
        let text = body["error_description"].as_str().unwrap();
        assert!(text.starts_with("AADSTS50076: ") && text.contains("'app'"), "{text}");
        for word in ["Trace ID: ", "Correlation ID: ", "Timestamp: "] {
            assert!(text.contains(word), "{text}");
        }
        assert_eq!(Refusal::new(42).body(&world)["error_codes"], json!([42]));
    }
}
