//! One emulator per test, and short words for asking it.

use std::path::{Path, PathBuf};

use nightlatch_emulator::client::{Ask, Reply};
use nightlatch_emulator::{Options, Running, start, world};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const LOGIN: &str = "Microsoft.Compute/virtualMachines/login/action";
pub(crate) const PDP_HOST: &str = "westeurope.authorization.azure.net";
pub(crate) const PDP_PATH: &str =
    "/providers/microsoft.authorization/checkAccess?api-version=2021-06-01-preview";

pub(crate) struct Stage {
    dir: TempDir,
    running: Running,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut options = Options::loopback(dir.path().join("state"));
        options.control_socket = Some(dir.path().join("control.sock"));
        let running = start(options).await.unwrap();
        Self { dir, running }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    pub(crate) async fn try_web(&self, host: &str, ask: Ask) -> std::io::Result<Reply> {
        ask.over_tls(self.running.endpoints().https[0], host, &self.state().join("tls-ca.pem")).await
    }

    pub(crate) async fn web(&self, host: &str, ask: Ask) -> Reply {
        self.try_web(host, ask).await.unwrap()
    }

    pub(crate) async fn imds(&self, target: &str) -> Reply {
        let ask = Ask::get(target).header("Metadata", "true");
        ask.over_tcp(self.running.endpoints().imds.unwrap()).await.unwrap()
    }

    /// A control call that must succeed.
    pub(crate) async fn control(&self, method: &str, route: &str, body: Value) -> Value {
        let ask = if method == "GET" { Ask::get(route) } else { Ask::json(method, route, &body) };
        let reply = ask.over_unix(&self.dir.path().join("control.sock")).await.unwrap();
        assert_eq!(reply.status, 200, "{method} {route}: {}", reply.text());
        reply.json()
    }

    /// The kubelet identity's token for a resource.
    pub(crate) async fn node_token(&self, resource: &str) -> String {
        let target = format!("/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}");
        let reply = self.imds(&target).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// A post to the v2 token endpoint.
    pub(crate) async fn token(&self, fields: &[(&str, &str)]) -> Reply {
        let path = format!("/{}/oauth2/v2.0/token", world::TENANT);
        self.web("login.microsoftonline.com", Ask::form(path, fields)).await
    }

    /// A refresh-token grant of the Azure CLI for one scope.
    pub(crate) async fn refresh(&self, oid: &str, scope: &str, more: &[(&str, &str)]) -> Reply {
        let seed = format!("seed-refresh-token-{oid}");
        let mut fields = vec![
            ("grant_type", "refresh_token"),
            ("client_id", world::AZURE_CLI),
            ("refresh_token", seed.as_str()),
            ("scope", scope),
        ];
        fields.extend_from_slice(more);
        self.token(&fields).await
    }

    /// Unix seconds of this machine.
    #[allow(clippy::disallowed_methods, reason = "a test harness makes assertions that are good now")]
    pub(crate) fn now() -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(since.as_secs()).unwrap()
    }

    pub(crate) async fn calls(&self, service: &str) -> u64 {
        self.control("GET", "/control/counters", Value::Null).await[service]["total"].as_u64().unwrap()
    }
}

/// Claims of a JWT, unchecked.
pub(crate) fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let body = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
}

/// An AADSTS number.
pub(crate) fn code(reply: &Reply) -> u64 {
    reply.json()["error_codes"][0].as_u64().unwrap_or_else(|| panic!("no refusal: {}", reply.text()))
}
