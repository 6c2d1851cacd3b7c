//! `nightlatch token …`: tokens from the broker, for people and scripts.
//!
//! A token is printed only by `get` and `watch`, whose purpose it is. Nothing here decides.

mod check;
mod client;
mod from_az;
mod get;
mod header;
pub(super) mod show;
mod watch;

use clap::{Args, Subcommand};

pub(crate) use client::{BrokerError, with_broker};
pub(crate) use get::expiry_text;

use super::azure_cli;
use super::output::{Format, complain};
use crate::broker::v1;

/// What `nightlatch token` takes.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Print a token. `-o token` prints it alone, `-o header` as a header line, `-o env` as shell
    /// variables, `-o json` as `az account get-access-token` does, with more about it.
    Get {
        #[command(flatten)]
        wish: Wish,
        /// A new token, although a good one is kept (once in 30 seconds).
        #[arg(long)]
        force_refresh: bool,
    },
    /// Print a token now and each new one before the last one ends, one JSON document a line.
    Watch {
        #[command(flatten)]
        wish: Wish,
    },
    /// List the tokens that the broker keeps for you (for root: everybody's), never the tokens themselves.
    List,
    /// Make the X-IDENTITY-HEADER for a program that asks on loopback (root). `-o env` prints the variables
    /// that Azure SDKs read; they hold until the next boot.
    Header {
        #[command(flatten)]
        whom: header::For,
    },
    /// Say whether the token on standard input is what it should be, and what it says. Exit status 0 or 1; the reason
    /// has a stable word. Asks nobody: the key set comes from a file.
    Check {
        #[command(flatten)]
        check: check::Demands,
    },
    /// Say whether you would get a token and which rule decides it; ask nobody outside.
    Explain {
        #[command(flatten)]
        wish: Wish,
    },
}

/// Which token.
#[derive(Debug, Clone, Args)]
pub(super) struct Wish {
    /// The audience, such as `https://vault.azure.net`.
    #[arg(long, required_unless_present = "scope", conflicts_with = "scope")]
    resource: Option<String>,
    /// A scope, such as `https://vault.azure.net/.default`; may be repeated.
    #[arg(long)]
    scope: Vec<String>,
    /// The name that the configuration gives the identity, `person` for your own sign-in, or `azure-cli`
    /// for what your own `az` is signed in as (it runs here, as you, and without the broker).
    #[arg(long, conflicts_with_all = ["client_id", "object_id", "resource_id"])]
    identity: Option<String>,
    /// A managed identity or application by its client id.
    #[arg(long, conflicts_with_all = ["object_id", "resource_id"])]
    client_id: Option<String>,
    /// A managed identity by its object id.
    #[arg(long, conflicts_with = "resource_id")]
    object_id: Option<String>,
    /// A user-assigned managed identity by its ARM id.
    #[arg(long)]
    resource_id: Option<String>,
    /// A claims challenge as JSON.
    #[arg(long)]
    claims: Option<String>,
    /// The token goes to a program that handles continuous access evaluation.
    #[arg(long)]
    enable_cae: bool,
    /// How many seconds of life are needed.
    #[arg(long, default_value_t = 0)]
    min_validity: u32,
    /// What the token is for: `agent` for a software agent.
    #[arg(long, default_value = "")]
    purpose: String,
}

impl Wish {
    /// The question; scopes of several resources cannot be one token.
    fn request(&self, force_refresh: bool) -> Result<v1::GetTokenRequest, String> {
        if self.is_of_az() {
            return Err(
                "`azure-cli` is your own az, of which the broker knows nothing; only `token get` runs it"
                    .to_owned(),
            );
        }
        let (resource, scopes) = match &self.resource {
            Some(resource) => (resource.clone(), vec![]),
            None => split_scopes(&self.scope)?,
        };
        Ok(v1::GetTokenRequest {
            resource,
            scopes,
            identity: self.identity(),
            claims: self.claims.clone().unwrap_or_default(),
            enable_cae: self.enable_cae,
            min_validity: self.min_validity,
            force_refresh,
            purpose: self.purpose.clone(),
        })
    }

    /// Whether the caller's own `az` is meant.
    fn is_of_az(&self) -> bool {
        self.identity.as_deref() == Some(azure_cli::IDENTITY)
    }

    fn identity(&self) -> Option<v1::Identity> {
        use v1::identity::By;
        let by = match (&self.identity, &self.client_id, &self.object_id, &self.resource_id) {
            (Some(name), ..) if name == "person" => By::Person(true),
            (Some(name), ..) => By::Name(name.clone()),
            (_, Some(id), ..) => By::ClientId(id.clone()),
            (_, _, Some(id), _) => By::ObjectId(id.clone()),
            (_, _, _, Some(id)) => By::ResourceId(id.clone()),
            _ => return None,
        };
        Some(v1::Identity { by: Some(by) })
    }
}

/// The resource that all scopes belong to, and the scopes without it; `.default` is no scope of its own.
fn split_scopes(scopes: &[String]) -> Result<(String, Vec<String>), String> {
    let mut resource: Option<&str> = None;
    let mut short = Vec::new();
    for scope in scopes {
        let (of, name) = scope
            .rsplit_once('/')
            .filter(|(of, name)| !of.is_empty() && !of.ends_with('/') && !name.is_empty())
            .or_else(|| scope.strip_suffix("//.default").map(|of| (of, ".default")))
            .ok_or_else(|| {
                format!("`{scope}` is no scope; write it as RESOURCE/NAME or RESOURCE/.default")
            })?;
        if resource.is_some_and(|known| known != of) {
            return Err("the scopes belong to different resources; ask for one token each".to_owned());
        }
        resource = Some(of);
        if name != ".default" {
            short.push(name.to_owned());
        }
    }
    short.sort();
    short.dedup();
    Ok((resource.unwrap_or_default().to_owned(), short))
}

/// Runs `nightlatch token`.
pub(super) fn run(command: &TokenCommand, format: Option<Format>) -> u8 {
    match command {
        TokenCommand::Get { wish, force_refresh } => get::run(wish, *force_refresh, format),
        TokenCommand::Watch { wish } => watch::run(wish),
        TokenCommand::List => show::list(format),
        TokenCommand::Header { whom } => header::run(whom, format),
        TokenCommand::Check { check } => check::run(check, format),
        TokenCommand::Explain { wish } => show::explain(wish, format),
    }
}

/// Says why there is no answer; the exit status says it too.
pub(super) fn refused(cause: &BrokerError) -> u8 {
    complain(&cause.to_string());
    if cause.reason() == "sign_in_needed" {
        complain("sign in with `nightlatch login`, then try again");
    }
    cause.exit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_become_one_resource_and_short_names() {
        let of = |scopes: &[&str]| split_scopes(&scopes.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["https://vault.azure.net/.default"]), Ok(("https://vault.azure.net".into(), vec![])));
        assert_eq!(
            of(&["https://graph.microsoft.com/User.Read", "https://graph.microsoft.com/Mail.Read"]),
            Ok(("https://graph.microsoft.com".into(), vec!["Mail.Read".into(), "User.Read".into()]))
        );
        assert!(of(&["https://a/x", "https://b/x"]).is_err());
        assert!(of(&["openid"]).is_err());
    }
}
