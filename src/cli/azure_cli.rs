//! A token of the caller's own `az` or `azd` sign-in. They run as the caller; the daemon runs no program, and
//! what they answer goes to the caller and nowhere else.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::output::{NO, UNKNOWN};
use super::program::{Complaints, ProgramError, Programs, Run};

/// The name that stands for the caller's `az`, among the names of the broker's identities.
pub(super) const IDENTITY: &str = "azure-cli";
/// How long `az` may take unless something else was asked for.
pub(super) const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    /// The Azure CLI.
    Az,
    /// The Azure Developer CLI.
    Azd,
}

impl Tool {
    const fn program(self) -> &'static str {
        match self {
            Self::Az => "az",
            Self::Azd => "azd",
        }
    }

    const fn sign_in(self) -> &'static str {
        match self {
            Self::Az => "az login",
            Self::Azd => "azd auth login",
        }
    }
}

/// Which token.
#[derive(Debug, Clone, Copy)]
pub(super) struct CliWish<'a> {
    pub(super) tool: Tool,
    /// The audience; counts where there are no scopes.
    pub(super) resource: &'a str,
    /// Full scopes, such as `https://vault.azure.net/.default`.
    pub(super) scopes: &'a [String],
    pub(super) tenant: Option<&'a str>,
    /// `az` alone; it takes no tenant beside it.
    pub(super) subscription: Option<&'a str>,
    pub(super) limit: Duration,
}

/// A token and its end in seconds since 1970.
#[derive(PartialEq, Eq)]
pub(super) struct CliToken {
    pub(super) token: String,
    pub(super) expires_on: i64,
}

/// Why there is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum CliError {
    /// It does not run.
    #[error("{0}")]
    Program(ProgramError),
    /// It said no.
    #[error("{0}; what it said stands above. Sign in with `{1}`, then try again")]
    Refused(ProgramError, &'static str),
    /// An answer without a token.
    #[error("{0} answered something that holds no token; run it by itself to see why")]
    Unreadable(&'static str),
    /// An answer without an end. `az` says the end as a number since 2.54.0; the local time that it also
    /// says has no zone.
    #[error("{0} does not say when its token ends; update it (az says it since 2.54.0)")]
    Endless(&'static str),
}

impl CliError {
    /// The exit status: 1 where it said no, 3 where it could not be asked.
    pub(super) const fn exit(&self) -> u8 {
        match self {
            Self::Program(_) => UNKNOWN,
            _ => NO,
        }
    }
}

/// Asks.
pub(super) fn ask(programs: &dyn Programs, wish: &CliWish<'_>) -> Result<CliToken, CliError> {
    let program = wish.tool.program();
    let arguments = arguments(wish);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = Run { program, arguments: &words, limit: wish.limit, complaints: Complaints::Shown };
    let answer = programs.run(run).map_err(|cause| match cause {
        ProgramError::Failed(..) => CliError::Refused(cause, wish.tool.sign_in()),
        other => CliError::Program(other),
    })?;
    read(program, &answer)
}

fn arguments(wish: &CliWish<'_>) -> Vec<String> {
    let begin: &[&str] = match wish.tool {
        Tool::Az => &["account", "get-access-token", "-o", "json"],
        Tool::Azd => &["auth", "token", "-o", "json"],
    };
    let mut words: Vec<String> = begin.iter().map(|word| (*word).to_owned()).collect();
    match (wish.tool, wish.scopes) {
        (Tool::Az, []) => words.extend(["--resource".to_owned(), wish.resource.to_owned()]),
        (Tool::Az, scopes) => {
            words.push("--scope".to_owned());
            words.extend_from_slice(scopes);
        }
        (Tool::Azd, []) => words.extend(["--scope".to_owned(), format!("{}/.default", wish.resource)]),
        (Tool::Azd, scopes) => {
            words.extend(scopes.iter().flat_map(|scope| ["--scope".to_owned(), scope.clone()]));
        }
    }
    match (wish.tool, wish.subscription, wish.tenant) {
        (Tool::Az, Some(subscription), _) => {
            words.extend(["--subscription".to_owned(), subscription.to_owned()])
        }
        (Tool::Az, None, Some(tenant)) => words.extend(["--tenant".to_owned(), tenant.to_owned()]),
        (Tool::Azd, _, Some(tenant)) => words.extend(["--tenant-id".to_owned(), tenant.to_owned()]),
        _ => {}
    }
    words
}

/// `az` says accessToken and expires_on (older ones only expiresOn), `azd` token and expiresOn.
fn read(program: &'static str, answer: &[u8]) -> Result<CliToken, CliError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(alias = "token", rename = "accessToken")]
        token: String,
        expires_on: Option<i64>,
        #[serde(rename = "expiresOn")]
        expires_text: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| CliError::Unreadable(program))?;
    if answer.token.is_empty() {
        return Err(CliError::Unreadable(program));
    }
    let written = answer.expires_text.as_deref().and_then(nightlatch_model::Timestamp::from_rfc3339);
    let expires_on =
        answer.expires_on.or_else(|| written.map(|end| end.0)).ok_or(CliError::Endless(program))?;
    Ok(CliToken { token: answer.token, expires_on })
}

#[cfg(test)]
mod tests {
    use super::super::program::tests::Told;
    use super::*;

    const WISH: CliWish<'static> = CliWish {
        tool: Tool::Az,
        resource: "https://vault.azure.net",
        scopes: &[],
        tenant: None,
        subscription: None,
        limit: DEFAULT_LIMIT,
    };

    #[test]
    fn each_tool_is_asked_in_its_own_words() {
        let line = |wish: CliWish<'_>| arguments(&wish).join(" ");
        let az = "account get-access-token -o json";
        assert_eq!(line(WISH), format!("{az} --resource https://vault.azure.net"));
        let scopes = ["https://a/x".to_owned(), "https://a/y".to_owned()];
        assert_eq!(
            line(CliWish { scopes: &scopes, ..WISH }),
            format!("{az} --scope https://a/x https://a/y")
        );
        let both = CliWish { tenant: Some("t"), subscription: Some("s"), ..WISH };
        assert_eq!(line(both), format!("{az} --resource https://vault.azure.net --subscription s"));
        assert!(line(CliWish { tenant: Some("t"), ..WISH }).ends_with("--tenant t"));
        let azd = CliWish { tool: Tool::Azd, tenant: Some("t"), ..WISH };
        assert_eq!(line(azd), "auth token -o json --scope https://vault.azure.net/.default --tenant-id t");
    }

    #[test]
    fn answers_of_az_old_and_new_and_of_azd_are_read() {
        let new = br#"{"accessToken":"a","expiresOn":"2026-11-21 23:30:05.000000","expires_on":1795300205,
                       "subscription":"s","tenant":"t","tokenType":"Bearer"}"#;
        let ready = read("az", new).ok().unwrap();
        assert_eq!((ready.token.as_str(), ready.expires_on), ("a", 1_795_300_205));
        let azd = br#"{"token":"b","expiresOn":"2026-11-21T22:30:05Z"}"#;
        assert_eq!(read("azd", azd).ok().unwrap().expires_on, 1_795_300_205);
        // A local time without its zone says nothing: better no answer than a wrong one.
        let old = br#"{"accessToken":"a","expiresOn":"2026-11-21 23:30:05.000000"}"#;
        assert_eq!(read("az", old).err(), Some(CliError::Endless("az")));
        for none in [&b"ERROR: Please run 'az login'"[..], b"", br#"{"accessToken":"","expires_on":1}"#] {
            assert_eq!(read("az", none).err(), Some(CliError::Unreadable("az")));
        }
    }

    #[test]
    fn a_refusal_names_the_sign_in_and_a_missing_program_the_path() {
        let line = "az account get-access-token -o json --resource https://vault.azure.net";
        let failed = Err(ProgramError::Failed("az".into(), "exit status: 1".into()));
        let refused = ask(&Told(vec![(line, failed)]), &WISH).err().unwrap();
        assert_eq!(refused.exit(), NO);
        assert!(refused.to_string().contains("`az login`"), "{refused}");
        let missing = ask(&Told(vec![]), &WISH).err().unwrap();
        assert_eq!(missing.exit(), UNKNOWN);
        assert!(missing.to_string().contains("PATH"), "{missing}");
        let good = Ok(r#"{"accessToken":"a","expires_on":5}"#);
        assert_eq!(ask(&Told(vec![(line, good)]), &WISH).ok().unwrap().expires_on, 5);
    }
}
