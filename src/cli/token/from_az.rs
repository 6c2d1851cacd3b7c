//! `nightlatch token get --identity azure-cli`: a token of the caller's own `az`, which runs here, as the
//! caller. The broker has no part in it: no policy is asked, nothing is kept, nothing is recorded.

use super::Wish;
use crate::broker::v1::AccessToken;
use crate::cli::azure_cli::{self, CliError, CliWish, DEFAULT_LIMIT, IDENTITY, Tool};
use crate::cli::program::Programs;

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AzError {
    /// The command line asks for what only the broker does.
    Usage(String),
    /// `az` gave none.
    Cli(CliError),
}

/// Asks `az`.
pub(super) fn ask(programs: &dyn Programs, wish: &Wish, force_refresh: bool) -> Result<AccessToken, AzError> {
    let of_broker = [
        ("--force-refresh", force_refresh),
        ("--claims", wish.claims.is_some()),
        ("--enable-cae", wish.enable_cae),
        ("--min-validity", wish.min_validity > 0),
        ("--purpose", !wish.purpose.is_empty()),
    ];
    if let Some((flag, _)) = of_broker.iter().find(|(_, given)| *given) {
        return Err(AzError::Usage(format!(
            "{flag} is the broker's; --identity {IDENTITY} runs your own az, which takes --resource or --scope"
        )));
    }
    let resource = wish.resource.as_deref().unwrap_or_default();
    let asked = CliWish {
        tool: Tool::Az,
        resource,
        scopes: &wish.scope,
        tenant: None,
        subscription: None,
        limit: DEFAULT_LIMIT,
    };
    let token = azure_cli::ask(programs, &asked).map_err(AzError::Cli)?;
    Ok(AccessToken {
        token: token.token,
        token_type: "Bearer".to_owned(),
        expires_on: token.expires_on,
        identity: IDENTITY.to_owned(),
        source: "az".to_owned(),
        resource: if wish.scope.is_empty() { resource.to_owned() } else { wish.scope.join(" ") },
        ..AccessToken::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::TokenCommand;
    use super::*;
    use crate::cli::program::tests::Told;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: TokenCommand,
    }

    fn asked(words: &[&str], said: &'static str) -> Result<AccessToken, AzError> {
        let line = ["token", "get", "--identity", "azure-cli"];
        let TokenCommand::Get { wish, force_refresh } = Line::parse_from(line.iter().chain(words)).command
        else {
            panic!("it is get");
        };
        assert!(wish.request(force_refresh).unwrap_err().contains("your own az"));
        ask(&Told(vec![(said, Ok(r#"{"accessToken":"a","expires_on":1795300205}"#))]), &wish, force_refresh)
    }

    #[test]
    fn the_callers_own_az_is_asked_and_the_broker_is_not() {
        let line = "az account get-access-token -o json --resource https://vault.azure.net";
        let token = asked(&["--resource", "https://vault.azure.net"], line).unwrap();
        assert_eq!((token.token.as_str(), token.expires_on), ("a", 1_795_300_205));
        assert_eq!((token.source.as_str(), token.rule.as_str()), ("az", ""));
        let line = "az account get-access-token -o json --scope https://a/x https://b/y";
        let token = asked(&["--scope", "https://a/x", "--scope", "https://b/y"], line).unwrap();
        assert_eq!(token.resource, "https://a/x https://b/y");
    }

    #[test]
    fn what_only_the_broker_does_is_refused() {
        for words in [
            &["--resource", "r", "--force-refresh"][..],
            &["--resource", "r", "--claims", "{}"],
            &["--resource", "r", "--enable-cae"],
            &["--resource", "r", "--min-validity", "60"],
            &["--resource", "r", "--purpose", "agent"],
        ] {
            let Err(AzError::Usage(why)) = asked(words, "") else { panic!("{words:?}") };
            assert!(why.starts_with(words[2]), "{why}");
        }
    }
}
