//! `nightlatch kubelogin get-token`: an ExecCredential on stdout (Kubernetes documentation, "client-go
//! credential plugins"), everything else on stderr.

use std::io::IsTerminal;

use serde::Deserialize;
use serde_json::json;

use super::effective::{Effective, Login};
use super::options::Options;
use crate::broker::v1::identity::By;
use crate::broker::v1::{AccessToken, GetPopTokenRequest, GetTokenRequest, Identity};
use crate::cli::azure_cli::{self, CliToken, CliWish, Tool};
use crate::cli::output::{USAGE, YES, complain, say};
use crate::cli::program::System;
use crate::cli::sign_in::{LoginArguments, sign_in};
use crate::cli::token::{BrokerError, expiry_text, refused, with_broker};

/// What kubectl says about itself and what it wants back.
const EXEC_INFO: &str = "KUBERNETES_EXEC_INFO";
/// The versions that kubectl may ask for.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

pub(super) fn run(options: &Options) -> u8 {
    match prepare(options) {
        Err(why) => {
            complain(&why);
            USAGE
        }
        Ok((version, effective)) => {
            effective.notes.iter().for_each(|note| complain(note));
            match fetch(options, &effective) {
                Ok(ready) => {
                    say(&document(version, &ready));
                    YES
                }
                Err(code) => code,
            }
        }
    }
}

fn prepare(options: &Options) -> Result<(&'static str, Effective), String> {
    let env = |name: &str| std::env::var(name).ok();
    let version = api_version(env(EXEC_INFO).as_deref().unwrap_or_default())?;
    let effective = options.effective(&env)?;
    Ok((version, effective))
}

/// The version that kubectl asked for; nobody asking means v1beta1, as kubelogin answers.
fn api_version(exec_info: &str) -> Result<&'static str, String> {
    #[derive(Deserialize)]
    struct Info {
        #[serde(rename = "apiVersion")]
        api_version: String,
    }
    if exec_info.is_empty() {
        return Ok(VERSIONS[1]);
    }
    let info: Info = serde_json::from_str(exec_info)
        .map_err(|_| format!("{EXEC_INFO} cannot be read: it is not what kubectl writes"))?;
    let known = VERSIONS.into_iter().find(|version| *version == info.api_version);
    known.ok_or_else(|| format!("api version: {} is not supported; v1 and v1beta1 are", info.api_version))
}

fn document(version: &str, ready: &CliToken) -> String {
    json!({
        "kind": "ExecCredential", "apiVersion": version, "spec": {"interactive": false},
        "status": {"expirationTimestamp": expiry_text(ready.expires_on).rfc3339, "token": ready.token},
    })
    .to_string()
}

fn fetch(options: &Options, effective: &Effective) -> Result<CliToken, u8> {
    let by = match effective.login {
        Login::Azurecli | Login::Azd => return ask_program(options, effective),
        Login::Devicecode | Login::Interactive => Some(By::Person(true)),
        Login::Msi | Login::Spn | Login::Workloadidentity => match &effective.resource_id {
            Some(id) => Some(By::ResourceId(id.clone())),
            None => effective.client_id.clone().map(By::ClientId),
        },
        Login::Ropc | Login::Azurepipelines => return Err(USAGE),
    };
    let server = options.server_id.clone().unwrap_or_default();
    let request = GetTokenRequest {
        resource: if options.legacy { format!("spn:{server}") } else { server },
        identity: by.map(|by| Identity { by: Some(by) }),
        ..GetTokenRequest::default()
    };
    let first = ask(request.clone(), effective.u.clone());
    match first {
        Err(cause) if needs_sign_in(&cause, effective.login) => {
            sign_in_first(options, effective, &cause)?;
            ask(request, effective.u.clone()).map_err(|cause| refused(&cause))
        }
        other => other.map_err(|cause| refused(&cause)),
    }
    .map(|token| CliToken { token: token.token, expires_on: token.expires_on })
}

fn ask(request: GetTokenRequest, u: Option<String>) -> Result<AccessToken, BrokerError> {
    with_broker(|mut broker| async move {
        Ok(match u {
            Some(u) => {
                let request = GetPopTokenRequest { token: Some(request), u, nonce: String::new() };
                broker.get_pop_token(request).await?.into_inner()
            }
            None => broker.get_token(request).await?.into_inner(),
        })
    })
}

fn needs_sign_in(cause: &BrokerError, login: Login) -> bool {
    cause.reason() == "sign_in_needed" && matches!(login, Login::Devicecode | Login::Interactive)
}

/// A person at a terminal signs in on the spot; a script is told what to run.
fn sign_in_first(options: &Options, effective: &Effective, cause: &BrokerError) -> Result<(), u8> {
    if !std::io::stderr().is_terminal() && !std::io::stdin().is_terminal() {
        return Err(refused(cause));
    }
    let claims = match cause {
        BrokerError::Refused { claims, .. } => claims.clone(),
        _ => None,
    };
    let arguments = LoginArguments {
        device_code: effective.login == Login::Devicecode,
        scope: vec![],
        claims,
        login_hint: options.login_hint.clone(),
    };
    sign_in(&arguments).map(|_| ()).map_err(|cause| refused(&cause))
}

/// `az` and `azd` run as the caller, with the caller's own sign-in.
fn ask_program(options: &Options, effective: &Effective) -> Result<CliToken, u8> {
    let wish = CliWish {
        tool: if effective.login == Login::Azd { Tool::Azd } else { Tool::Az },
        resource: options.server_id.as_deref().unwrap_or_default(),
        scopes: &[],
        tenant: effective.tenant_id.as_deref(),
        subscription: options.subscription.as_deref(),
        limit: effective.limit,
    };
    azure_cli::ask(&System, &wish).map_err(|cause| {
        complain(&cause.to_string());
        cause.exit()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_answer_is_the_one_that_was_asked_for() {
        for version in VERSIONS {
            let info = json!({"apiVersion": version, "kind": "ExecCredential", "spec": {}}).to_string();
            assert_eq!(api_version(&info), Ok(version));
        }
        assert_eq!(api_version(""), Ok("client.authentication.k8s.io/v1beta1"));
        assert!(api_version("{}").is_err());
        let old = r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1"}"#;
        assert!(api_version(old).unwrap_err().contains("v1alpha1 is not supported"));
    }

    #[test]
    fn the_credential_is_what_kubectl_reads() {
        let text = document(VERSIONS[0], &CliToken { token: "t".into(), expires_on: 1_795_300_205 });
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["status"]["token"], "t");
        assert_eq!(value["status"]["expirationTimestamp"], "2026-11-21T22:30:05Z");
        assert_eq!((&value["kind"], &value["apiVersion"]), (&json!("ExecCredential"), &json!(VERSIONS[0])));
    }
}
