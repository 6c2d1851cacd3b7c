//! What a browser brought back to the loopback redirect: read strictly, before anything is believed of it.

use nightlatch_model::Secret;
use reqwest::Url;
use thiserror::Error;

/// The largest query or form body of a redirect, in bytes.
pub const MAX_REDIRECT_BYTES: usize = 16 * 1024;
/// How much of a description is shown, in characters.
const DESCRIPTION_CHARS: usize = 240;

/// Why something is no answer to a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is not what Entra sends back after a sign-in; begin again with `nightlatch login`")]
pub struct RedirectError;

/// What Entra said through the browser.
pub enum Outcome {
    /// The code to redeem.
    Code(Secret),
    /// A refusal: `error` and the beginning of its description, printable.
    Refused {
        /// The OAuth error.
        error: String,
        /// Entra's words.
        description: String,
    },
}

/// An answer and the sign-in that it claims to belong to.
pub struct Redirect {
    /// `state`, not compared yet.
    pub state: Secret,
    /// What was said.
    pub outcome: Outcome,
}

impl Redirect {
    /// Reads the query, or the form body, of the redirect.
    ///
    /// # Errors
    /// [`RedirectError`] for a field that comes twice, a token where a code belongs, or anything else
    /// that two readers could take for two things.
    pub fn read(text: &str) -> Result<Self, RedirectError> {
        let text = text.strip_prefix('?').unwrap_or(text);
        if text.len() > MAX_REDIRECT_BYTES || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err(RedirectError);
        }
        let url = Url::parse(&format!("http://localhost/?{text}")).map_err(|_| RedirectError)?;
        let (mut state, mut code, mut error, mut description) = (None, None, None, None);
        for (name, value) in url.query_pairs() {
            let slot = match &*name {
                "state" => &mut state,
                "code" => &mut code,
                "error" => &mut error,
                "error_description" => &mut description,
                // Of a flow that was not begun.
                "access_token" | "id_token" | "refresh_token" => return Err(RedirectError),
                _ => continue,
            };
            if value.is_empty() || slot.replace(value.into_owned()).is_some() {
                return Err(RedirectError);
            }
        }
        let outcome = match (code, error) {
            (Some(code), None) => Outcome::Code(Secret::new(code)),
            (None, Some(error)) => Outcome::Refused {
                error: shown(&error),
                description: shown(description.as_deref().unwrap_or_default()),
            },
            _ => return Err(RedirectError),
        };
        Ok(Self { state: Secret::new(state.ok_or(RedirectError)?), outcome })
    }
}

fn shown(text: &str) -> String {
    let first = text.split(" Trace ID").next().unwrap_or_default();
    first.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(DESCRIPTION_CHARS).collect()
}
