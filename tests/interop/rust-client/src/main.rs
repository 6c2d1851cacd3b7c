//! `azure_identity` for Rust, unmodified: a token by the managed identity endpoint that the environment names.
//!
//! `rust-client RESOURCE [client-id ID | object-id ID | resource-id ID]` prints one line of JSON and never the
//! token; a refusal goes to standard error as the crate words it, with status 1.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use azure_core::credentials::TokenCredential as _;
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match ask(&words).await {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn ask(words: &[String]) -> Result<String, String> {
    let resource = words.first().ok_or("which resource?")?;
    let user_assigned_id = match words.get(1..).unwrap_or_default() {
        [] => None,
        [kind, id] if kind == "client-id" => Some(UserAssignedId::ClientId(id.clone())),
        [kind, id] if kind == "object-id" => Some(UserAssignedId::ObjectId(id.clone())),
        [kind, id] if kind == "resource-id" => Some(UserAssignedId::ResourceId(id.clone())),
        other => return Err(format!("not a selector: {other:?}")),
    };
    let options = ManagedIdentityCredentialOptions { user_assigned_id, ..Default::default() };
    let credential = ManagedIdentityCredential::new(Some(options)).map_err(|why| why.to_string())?;
    let scope = format!("{}/.default", resource.trim_end_matches('/'));
    let scopes = [scope.as_str()];
    let first = credential.get_token(&scopes, None).await.map_err(|why| chain(&why))?;
    let again = credential.get_token(&scopes, None).await.map_err(|why| chain(&why))?;
    let left = Duration::from_secs(u64::try_from(first.expires_on.unix_timestamp()).unwrap_or(0))
        .saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    if left < Duration::from_secs(330) {
        return Err(format!("the token lives for {left:?} only"));
    }
    let kept = first.token.secret() == again.token.secret();
    let parts = first.token.secret().split('.').count();
    Ok(format!("{{\"jwt_parts\": {parts}, \"kept\": {kept}, \"seconds_left\": {}}}", left.as_secs()))
}

fn chain(why: &dyn std::error::Error) -> String {
    let mut text = why.to_string();
    let mut next = why.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
