//! The way to Entra: the application that is signed in to, and a runtime for the few questions of one program.

use super::asked::Asked;
use crate::entra::http::{Http, ProxyRule};
use crate::entra::sign_in::SignIn;

/// The client for everything here: through the proxy of the environment.
pub(super) fn http() -> Result<Http, String> {
    Http::internet(ProxyRule::Environment).map_err(|why| why.to_string())
}

/// The application that is signed in to. Nothing is sent yet.
pub(super) fn application(asked: &Asked) -> Result<SignIn, String> {
    Ok(SignIn::new(http()?, &asked.cloud.endpoints().login, asked.tenant, asked.client))
}

/// Waits for this work, and for nothing that it left under way, such as the look-up of a name.
pub(super) fn run<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| why.to_string())?;
    let end = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(end)
}
