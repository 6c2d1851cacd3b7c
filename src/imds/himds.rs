//! The Azure Connected Machine agent's metadata service, 127.0.0.1:40342.
//!
//! A token costs two requests: the first is answered 401 and names a file that only root and the group
//! `himds` can read; its content is sent with the second. The name comes from whoever listens on the
//! port, so it is believed only inside the agent's own folder (CVE-2024-35255: the Azure Identity
//! library could be made to read any file and send it). The content is never logged.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nightlatch_model::{Secret, Timestamp};
use nix::fcntl::OFlag;
use serde::Deserialize;

use super::ImdsError;
use super::ca_keys::{CaKeys, parse_ca_keys};
use super::instance::{CA_KEYS_VERSION, Instance};
use super::token::{AccessToken, TokenAnswer};
use crate::entra::http::{Http, HttpError, Reply, Request, with_query};

/// Where himds listens.
pub const HIMDS_BASE: &str = "http://127.0.0.1:40342";
/// The folder of the challenge files.
pub const HIMDS_TOKENS: &str = "/var/opt/azcmagent/tokens";
/// The largest challenge file, in bytes.
pub const MAX_CHALLENGE_BYTES: u64 = 4096;
/// The version of the token endpoint and of the instance document.
const VERSION: &str = "2020-06-01";
/// How long himds may take: it forwards to Entra.
const HIMDS_TIMEOUT: Duration = Duration::from_secs(8);

/// The metadata service of an Arc-enabled machine.
#[derive(Clone, Debug)]
pub struct Himds {
    http: Http,
    base: String,
    tokens: PathBuf,
}

impl Himds {
    /// The real one.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new() -> Result<Self, HttpError> {
        Self::at(HIMDS_BASE, Path::new(HIMDS_TOKENS))
    }

    /// One at another loopback address and with another folder, for tests.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn at(base: &str, tokens: &Path) -> Result<Self, HttpError> {
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { http: Http::node()?, base, tokens: tokens.to_owned() })
    }

    fn request(&self, path: &str, fields: &[(&str, &str)]) -> Request {
        Request::get(with_query(&format!("{}{path}", self.base), fields))
            .header("metadata", "true")
            .within(HIMDS_TIMEOUT)
    }

    /// What this machine is.
    ///
    /// # Errors
    /// When himds does not answer or refuses.
    pub async fn instance(&self) -> Result<Instance, ImdsError> {
        #[derive(Deserialize)]
        struct Whole {
            compute: Instance,
        }
        let reply = self.http.send(self.request("/metadata/instance", &[("api-version", VERSION)])).await?;
        if !reply.is_success() {
            return Err(refused(&reply));
        }
        Ok(reply.json::<Whole>()?.compute.without_empty())
    }

    /// A token of the machine's identity for exactly `resource`.
    ///
    /// # Errors
    /// When himds does not answer, refuses, or asks for a file that it may not ask for.
    pub async fn identity_token(&self, resource: &str, now: Timestamp) -> Result<AccessToken, ImdsError> {
        self.token_of(None, resource, now).await
    }

    /// A token of the machine's identity, or of the user-assigned one with this ARM id. An agent that
    /// knows no user-assigned identities gives the machine's own token to whoever asks for one, so an
    /// answer that does not repeat the id is refused.
    ///
    /// # Errors
    /// As [`Self::identity_token`], and when the answer does not name the identity.
    pub async fn token_of(
        &self,
        resource_id: Option<&str>,
        resource: &str,
        now: Timestamp,
    ) -> Result<AccessToken, ImdsError> {
        let ask = || {
            let mut fields = vec![("api-version", VERSION), ("resource", resource)];
            fields.extend(resource_id.map(|id| ("msi_res_id", id)));
            self.request("/metadata/identity/oauth2/token", &fields)
        };
        let first = self.http.send(ask()).await?;
        if first.status() != 401 {
            // A real himds always wants proof first; a token without it comes from somebody else.
            return Err(if first.is_success() {
                ImdsError::Challenge("it did not ask for proof")
            } else {
                refused(&first)
            });
        }
        let file = challenge_file(first.header("www-authenticate"), &self.tokens)?;
        let tokens = self.tokens.clone();
        let proof = tokio::task::spawn_blocking(move || read_challenge(&file, &tokens))
            .await
            .map_err(|e| ImdsError::ChallengeUnreadable(e.to_string()))??;
        let second = self.http.send(ask().authorization("Basic", &proof)).await?;
        match second.status() {
            401 => Err(ImdsError::Challenge("it did not accept its own secret")),
            _ if !second.is_success() => Err(refused(&second)),
            _ => {
                let answer: TokenAnswer = second.secret_json()?;
                if resource_id.is_some_and(|id| !answer.echoes(id)) {
                    let detail = "it did not name the user-assigned identity that was asked for; update the Azure Connected Machine agent".to_owned();
                    return Err(ImdsError::Unusable { service: "himds", detail });
                }
                answer
                    .into_token(resource, now)
                    .map_err(|detail| ImdsError::Unusable { service: "himds", detail })
            }
        }
    }

    /// The keys that sign Entra's SSH certificates. ASSUMED: same path and schema as IMDS.
    ///
    /// # Errors
    /// When himds does not answer, refuses, or names no key that can be used.
    pub async fn ca_keys(&self) -> Result<CaKeys, ImdsError> {
        let request = self.request("/metadata/login/ca_keys", &[("api-version", CA_KEYS_VERSION)]);
        let reply = self.http.send(request).await?;
        if !reply.is_success() {
            return Err(refused(&reply));
        }
        parse_ca_keys(reply.body()).map_err(|detail| ImdsError::Unusable { service: "himds", detail })
    }
}

fn refused(reply: &Reply) -> ImdsError {
    ImdsError::Refused {
        service: "himds",
        status: reply.status(),
        detail: reply.head(),
        transient: reply.is_transient(),
        retry_after: reply.retry_after(Timestamp(i64::MAX)),
    }
}

/// The file that the challenge names: directly in `tokens`, with the suffix `.key`.
///
/// # Errors
/// [`ImdsError::Challenge`] for any other file, and for a header that names none.
pub fn challenge_file(header: Option<&str>, tokens: &Path) -> Result<PathBuf, ImdsError> {
    let header = header.ok_or(ImdsError::Challenge("no WWW-Authenticate header"))?;
    let named =
        header.trim().strip_prefix("Basic realm=").ok_or(ImdsError::Challenge("not a Basic realm"))?;
    let named = Path::new(named);
    // Compared as text, not resolved: `..` and doubled slashes are refused with everything else.
    let name = named.file_name().and_then(|n| n.to_str()).ok_or(ImdsError::Challenge("no file name"))?;
    let plain = name.len() > ".key".len()
        && name.ends_with(".key")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let expected = tokens.join(name);
    if !plain || named.as_os_str() != expected.as_os_str() {
        return Err(ImdsError::Challenge("not a .key file of its folder"));
    }
    Ok(expected)
}

fn read_challenge(file: &Path, tokens: &Path) -> Result<Secret, ImdsError> {
    let unreadable = |e: std::io::Error| ImdsError::ChallengeUnreadable(e.to_string());
    // Without O_NONBLOCK opening a FIFO would wait for a writer.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(file).map_err(|e| {
        if e.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) {
            ImdsError::Challenge("a symbolic link")
        } else {
            unreadable(e)
        }
    })?;
    let facts = file.metadata().map_err(unreadable)?;
    if !facts.is_file() {
        return Err(ImdsError::Challenge("not a regular file"));
    }
    if facts.len() > MAX_CHALLENGE_BYTES {
        return Err(ImdsError::Challenge("larger than 4096 bytes"));
    }
    // The folder belongs to root or to the agent; a file of anybody else was put there by a trick.
    let folder = std::fs::metadata(tokens).map_err(unreadable)?;
    if facts.uid() != 0 && facts.uid() != folder.uid() {
        return Err(ImdsError::Challenge("not owned by the agent"));
    }
    let mut text = String::new();
    file.take(MAX_CHALLENGE_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entra::tiny_server::{Answer, Server};
    use std::os::unix::fs::symlink;

    const NOW: Timestamp = Timestamp(1_800_000_000);
    const TOKEN: &str = r#"{"access_token":"tok","expires_in":"100","token_type":"Bearer"}"#;

    async fn ask(tokens: &Path, realm: &str, second: Answer) -> (Result<String, ImdsError>, Server) {
        let challenge = Answer::new(401, "").header("www-authenticate", realm);
        let server = Server::start(vec![challenge, second]).await;
        let himds = Himds::at(&server.url(""), tokens).unwrap();
        let said = himds.identity_token("https://authorization.azure.net", NOW).await;
        (said.map(|t| t.secret().expose().to_owned()), server)
    }

    #[tokio::test]
    async fn the_secret_of_the_folder_buys_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a-1.key");
        std::fs::write(&file, "proof").unwrap();
        let realm = format!("Basic realm={}", file.display());
        let (said, server) = ask(folder.path(), &realm, Answer::new(200, TOKEN)).await;
        assert_eq!(said.unwrap(), "tok");
        let seen = server.seen();
        assert!(!seen[0].head.contains("\nauthorization:"));
        assert!(seen[1].head.contains("\nauthorization: basic proof"));
        let (said, server) = ask(folder.path(), &realm, Answer::new(401, "")).await;
        assert!(matches!(said, Err(ImdsError::Challenge(_))), "a second challenge ends it");
        assert_eq!(server.seen().len(), 2);
    }

    #[tokio::test]
    async fn no_other_file_is_read_or_sent() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("good.key"), "s3cret").unwrap();
        std::fs::write(at("good.txt"), "s3cret").unwrap();
        std::fs::write(at("big.key"), vec![b'a'; 5000]).unwrap();
        std::fs::write(outside.path().join("o.key"), "s3cret").unwrap();
        std::fs::create_dir(at("dir.key")).unwrap();
        std::fs::create_dir(at("sub")).unwrap();
        std::fs::write(at("sub").join("s.key"), "s3cret").unwrap();
        symlink(outside.path().join("o.key"), at("link.key")).unwrap();
        nix::unistd::mkfifo(&at("fifo.key"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let dir = folder.path().display();
        let realms = [
            "Basic realm=/etc/shadow".to_owned(),
            format!("Basic realm={}/o.key", outside.path().display()),
            format!("Basic realm={dir}/../{}/o.key", outside.path().display()),
            format!("Basic realm={dir}/sub/s.key"),
            format!("Basic realm={dir}//good.key"),
            format!("Basic realm={dir}/./good.key"),
            format!("Basic realm={dir}/good.txt"),
            format!("Basic realm={dir}/.key"),
            format!("Basic realm={dir}/big.key"),
            format!("Basic realm={dir}/dir.key"),
            format!("Basic realm={dir}/link.key"),
            format!("Basic realm={dir}/fifo.key"),
            format!("Bearer realm={dir}/good.key"),
            "Basic realm=good.key".to_owned(),
            String::new(),
        ];
        for realm in realms {
            let (said, server) = ask(folder.path(), &realm, Answer::new(200, TOKEN)).await;
            assert!(matches!(said, Err(ImdsError::Challenge(_))), "{realm}: {said:?}");
            assert_eq!(server.seen().len(), 1, "{realm}");
        }
        let gone = format!("Basic realm={dir}/gone.key");
        let (said, _) = ask(folder.path(), &gone, Answer::new(200, TOKEN)).await;
        assert!(matches!(said, Err(ImdsError::ChallengeUnreadable(_))));
    }

    #[tokio::test]
    async fn a_token_without_a_challenge_is_not_taken() {
        let server = Server::start(vec![Answer::new(200, TOKEN)]).await;
        let folder = tempfile::tempdir().unwrap();
        let said = Himds::at(&server.url(""), folder.path()).unwrap().identity_token("r", NOW).await;
        assert!(matches!(said.map(|_| ()), Err(ImdsError::Challenge(_))));
    }
}
