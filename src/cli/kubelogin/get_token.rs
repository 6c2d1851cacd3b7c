//! `nightlatch kubelogin get-token`: an ExecCredential on stdout (Kubernetes documentation, "client-go
//! credential plugins"), everything else on stderr.

use std::io::IsTerminal;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::options::{Effective, Login, Options};
use crate::broker::v1::identity::By;
use crate::broker::v1::{AccessToken, GetPopTokenRequest, GetTokenRequest, Identity};
use crate::cli::output::{NO, UNKNOWN, USAGE, YES, complain, say};
use crate::cli::sign_in::{LoginArguments, sign_in};
use crate::cli::token::{BrokerError, expiry_text, refused, with_broker};
use crate::config::Span;

/// What kubectl says about itself and what it wants back.
const EXEC_INFO: &str = "KUBERNETES_EXEC_INFO";
/// The versions that kubectl may ask for.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];
/// The largest answer of `az` or `azd`, in bytes.
const MAX_PROGRAM_ANSWER_BYTES: usize = 64 * 1024;
/// How often a running `az` is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A token for kubectl.
struct Ready {
    token: String,
    expires_on: i64,
}

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
    if options.server_id.as_deref().unwrap_or_default().is_empty() {
        return Err(
            "server-id is required: --server-id takes the application id of the API server".to_owned()
        );
    }
    if let Some(flag) = options.secret_flag() {
        return Err(format!(
            "{flag} is not taken: the broker holds credentials, so that no command line shows them; \
             configure the identity under [[broker.identity]] and name it with --client-id"
        ));
    }
    let effective = options.effective(&env)?;
    if matches!(effective.login, Login::Ropc | Login::Azurepipelines) {
        let word = effective.login.word();
        return Err(format!(
            "--login {word} is not supported; use devicecode, interactive, spn, msi or azurecli"
        ));
    }
    if options.pop_enabled && u_claim(options).is_none() {
        return Err("a signed request needs --pop-claims u=ARM-ID-OF-THE-CLUSTER".to_owned());
    }
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

/// Only `u` is used from the claims, as with kubelogin.
fn u_claim(options: &Options) -> Option<String> {
    let claims = options.pop_claims.as_deref()?;
    claims.split(',').find_map(|pair| pair.trim().strip_prefix("u=")).map(str::to_owned)
}

fn document(version: &str, ready: &Ready) -> String {
    json!({
        "kind": "ExecCredential", "apiVersion": version, "spec": {"interactive": false},
        "status": {"expirationTimestamp": expiry_text(ready.expires_on).rfc3339, "token": ready.token},
    })
    .to_string()
}

fn fetch(options: &Options, effective: &Effective) -> Result<Ready, u8> {
    let by = match effective.login {
        Login::Azurecli | Login::Azd => return ask_program(options, effective),
        Login::Devicecode | Login::Interactive => Some(By::Person(true)),
        Login::Msi | Login::Spn | Login::Workloadidentity => match &options.identity_resource_id {
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
    let first = ask(request.clone(), u_claim(options).filter(|_| options.pop_enabled));
    match first {
        Err(cause) if needs_sign_in(&cause, effective.login) => {
            sign_in_first(options, effective, &cause)?;
            ask(request, u_claim(options).filter(|_| options.pop_enabled)).map_err(|cause| refused(&cause))
        }
        other => other.map_err(|cause| refused(&cause)),
    }
    .map(|token| Ready { token: token.token, expires_on: token.expires_on })
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

/// `az` and `azd` run as the caller, with the caller's own sign-in: the daemon starts no program.
fn ask_program(options: &Options, effective: &Effective) -> Result<Ready, u8> {
    let server = options.server_id.clone().unwrap_or_default();
    let mut command = if effective.login == Login::Azd {
        let mut azd = Command::new("azd");
        azd.args(["auth", "token", "-o", "json", "--scope", &format!("{server}/.default")]);
        azd
    } else {
        let mut az = Command::new("az");
        az.args(["account", "get-access-token", "-o", "json", "--resource", &server]);
        if let Some(subscription) = &options.subscription {
            az.args(["--subscription", subscription]);
        }
        az
    };
    // `az` refuses a tenant beside a subscription.
    if let (Some(tenant), None) = (&effective.tenant_id, &options.subscription) {
        command.args([if effective.login == Login::Azd { "--tenant-id" } else { "--tenant" }, tenant]);
    }
    let limit =
        Span::parse(&options.timeout).and_then(|span| u64::try_from(span.0).ok()).ok_or_else(|| {
            complain("--timeout takes a length of time such as 60s");
            USAGE
        })?;
    let limit = Duration::from_secs(limit);
    let name = command.get_program().to_string_lossy().into_owned();
    let answer = run_for(command, limit).map_err(|why| {
        complain(&format!("{name}: {why}"));
        UNKNOWN
    })?;
    read_program(&answer).ok_or_else(|| {
        complain(&format!("{name} answered something that holds no token; run it by itself to see why"));
        NO
    })
}

fn run_for(mut command: Command, limit: Duration) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let null = std::process::Stdio::null();
    let mut child = command
        .stdin(null)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map_err(|cause| format!("{cause}; is it installed and on the PATH?"))?;
    let pipe = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut answer = Vec::new();
        let cap = MAX_PROGRAM_ANSWER_BYTES as u64;
        pipe.map(|pipe| pipe.take(cap).read_to_end(&mut answer)).transpose().map(|_| answer)
    });
    let clock = crate::clock::Clock::System;
    let end = clock.boot() + limit;
    let status = loop {
        match child.try_wait().map_err(|cause| cause.to_string())? {
            Some(status) => break status,
            None if clock.boot() > end => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer within {} s", limit.as_secs()));
            }
            None => std::thread::park_timeout(LOOK_INTERVAL),
        }
    };
    let answer = reader.join().map_err(|_| "its answer was lost".to_owned())?;
    if !status.success() {
        return Err(format!("it ended with {status}; sign in with it first"));
    }
    answer.map_err(|cause| cause.to_string())
}

/// `az` says accessToken and expires_on (older ones only expiresOn), `azd` token and expiresOn.
fn read_program(answer: &[u8]) -> Option<Ready> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(alias = "token", rename = "accessToken")]
        token: String,
        expires_on: Option<i64>,
        #[serde(rename = "expiresOn")]
        expires_text: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let written = answer.expires_text.as_deref().and_then(nightlatch_model::Timestamp::from_rfc3339);
    let expires_on = answer.expires_on.or_else(|| written.map(|end| end.0))?;
    Some(Ready { token: answer.token, expires_on })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::kubelogin::options::tests::options;

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
        let text = document(VERSIONS[0], &Ready { token: "t".into(), expires_on: 1_795_300_205 });
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["status"]["token"], "t");
        assert_eq!(value["status"]["expirationTimestamp"], "2026-11-21T22:30:05Z");
        assert_eq!((&value["kind"], &value["apiVersion"]), (&json!("ExecCredential"), &json!(VERSIONS[0])));
    }

    #[test]
    fn only_u_is_taken_from_the_claims() {
        let claims = |text: &str| u_claim(&options(&["--pop-claims", text]));
        assert_eq!(claims("u=/subscriptions/s").as_deref(), Some("/subscriptions/s"));
        assert_eq!(claims("host=x, u=/a,y=z").as_deref(), Some("/a"));
        assert_eq!(claims("host=x"), None);
    }

    #[test]
    fn answers_of_az_old_and_new_and_of_azd_are_read() {
        let new = br#"{"accessToken":"a","expiresOn":"2026-11-21 23:30:05.000000","expires_on":1795300205,
                       "subscription":"s","tenant":"t","tokenType":"Bearer"}"#;
        let ready = read_program(new).unwrap();
        assert_eq!((ready.token.as_str(), ready.expires_on), ("a", 1_795_300_205));
        let azd = br#"{"token":"b","expiresOn":"2026-11-21T22:30:05Z"}"#;
        assert_eq!(read_program(azd).unwrap().expires_on, 1_795_300_205);
        // A local time without its zone says nothing: better no answer than a wrong one.
        assert!(read_program(br#"{"accessToken":"a","expiresOn":"2026-11-21 23:30:05.000000"}"#).is_none());
        assert!(read_program(b"ERROR: Please run 'az login'").is_none());
    }
}
