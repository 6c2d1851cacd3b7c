//! What a command line asks for: in which way, to what to sign in, and where the files are. Nobody is asked anything here.

use std::path::{Path, PathBuf};

use nightlatch_jwt::Expiration;
use nightlatch_model::{AuthContext, Guid, TenantId};
use nightlatch_tokens::Claims;

use super::files::{BROWSER, ENTRA, Files, PIPELINE, Way};
use super::{CertArguments, Kind};
use crate::config::{self, Config};
use crate::entra::clouds::Cloud;
use crate::login::{self, DEFAULT_EXPIRATION};

/// The public client of Azure CLI, to which every tenant's people may sign in for such certificates, as `az ssh` has them do.
const AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
/// Names the organisation's application for OpenPubkey certificates and for pipelines. A person's certificate of Entra's is
/// not asked for through that one.
const CLIENT_ID: &str = "NIGHTLATCH_CLIENT_ID";

/// Who signs, and how it is known whom the certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// The key itself, with a sign-in in a browser.
    OpenPubkey,
    /// Entra, after a sign-in in a browser.
    Browser,
    /// Entra, after a sign-in on another device.
    Device,
    /// Entra, for an application with the federated token in this file.
    Pipeline(PathBuf),
}

/// What a certificate is made from.
pub(super) struct Asked {
    pub(super) tenant: TenantId,
    pub(super) client: Guid,
    pub(super) cloud: Cloud,
    pub(super) folder: PathBuf,
    pub(super) how: How,
    pub(super) context: Option<AuthContext>,
    pub(super) fresh: bool,
    /// The name of who is to sign in, where it was given.
    pub(super) hint: Option<String>,
    /// Who signed in the last time does so again.
    pub(super) again: bool,
    /// How long nodes take a sign-in, for OpenPubkey certificates.
    pub(super) expiration: Expiration,
    /// The sign-in is to be held, so that the next certificate needs no page.
    pub(super) hold: bool,
    /// What Entra wants of the next sign-in beyond that.
    pub(super) claims: Option<Claims>,
}

impl Asked {
    pub(super) const fn way(&self) -> &'static Way {
        match self.how {
            How::OpenPubkey => &BROWSER,
            How::Browser | How::Device => &ENTRA,
            How::Pipeline(_) => &PIPELINE,
        }
    }

    pub(super) fn files(&self, name: String) -> Files {
        let file = |file: &str| self.folder.join(file);
        Files { key: file(self.way().key), certificate: file(self.way().certificate), name }
    }
}

/// Reads the command line, with the environment and this machine's configuration for what it leaves out.
pub(super) fn asked(arguments: &CertArguments) -> Result<Asked, String> {
    let how = how(arguments)?;
    let here = config::load_installed().ok().map(|loaded| loaded.config);
    let tenant = arguments.tenant.or_else(|| here.as_ref()?.tenant);
    let tenant = tenant.ok_or("which tenant? give --tenant, or set AZURE_TENANT_ID")?;
    let client = match (arguments.client_id, &how) {
        (Some(client), _) => Some(client),
        (None, How::Browser | How::Device) => AZURE_CLI.parse().ok(),
        (None, How::OpenPubkey | How::Pipeline(_)) => client_of_environment()?
            .or_else(|| here.as_ref()?.openpubkey.client_ids.as_ref()?.first()?.parse().ok()),
    };
    let client = client.ok_or_else(|| format!("which application? give --client-id, or set {CLIENT_ID}"))?;
    let cloud = arguments.cloud.parse::<Cloud>().map_err(|why| why.to_string())?;
    let folder = folder(arguments)?;
    let expiration = expiration(arguments.expiration.as_deref(), here.as_ref(), &how)?;
    Ok(Asked {
        tenant,
        client,
        cloud,
        folder,
        fresh: arguments.fresh,
        hint: arguments.login_hint.clone(),
        again: false,
        hold: !arguments.once && is_renewable(&how, expiration),
        how,
        context: arguments.acrs,
        expiration,
        claims: None,
    })
}

/// Whether a certificate of this kind can be made anew without a page. Where nodes count from the first sign-in it cannot,
/// and nothing is asked for that could.
const fn is_renewable(how: &How, expiration: Expiration) -> bool {
    match how {
        How::OpenPubkey => matches!(expiration, Expiration::Refreshed),
        How::Browser | How::Device => true,
        How::Pipeline(_) => false,
    }
}

/// How long nodes take a sign-in: as told, else as this machine's own configuration says, else as nodes do by themselves.
fn expiration(told: Option<&str>, here: Option<&Config>, how: &How) -> Result<Expiration, String> {
    let here = here.and_then(|here| here.openpubkey.expiration.as_deref());
    let (source, text) = match (how, told, here) {
        (How::OpenPubkey, Some(told), _) => ("--expiration", told),
        (How::OpenPubkey, None, Some(here)) => ("`openpubkey.expiration` of this machine", here),
        (_, Some(_), _) => {
            let why = "certificates of Entra's own authority say when they end: leave `--expiration` out";
            return Err(why.into());
        }
        (_, None, _) => ("", DEFAULT_EXPIRATION),
    };
    login::expiration(text).map_err(|why| format!("{source}: {why}"))
}

/// Where the files are.
pub(super) fn folder(arguments: &CertArguments) -> Result<PathBuf, String> {
    match &arguments.folder {
        Some(folder) => whole(folder),
        None => whole(&std::env::home_dir().ok_or("no home folder: give --folder")?.join(".ssh/nightlatch")),
    }
}

fn how(arguments: &CertArguments) -> Result<How, String> {
    let why = match (&arguments.federated_token_file, arguments.kind) {
        (Some(_), Some(Kind::Openpubkey)) => {
            "a federated token is no sign-in of a person's, which an OpenPubkey certificate needs: leave `--kind openpubkey` out"
        }
        (Some(file), _) => return whole(file).map(How::Pipeline),
        (None, Some(Kind::Entra)) if arguments.acrs.is_some() => {
            "a certificate of Entra's does not say which authentication contexts its sign-in satisfied: leave `--acrs` out"
        }
        (None, Some(Kind::Entra)) => {
            return Ok(if arguments.device_code { How::Device } else { How::Browser });
        }
        (None, _) if arguments.device_code => {
            "a device code cannot carry the nonce that binds an OpenPubkey certificate to its key: give `--kind entra` as \
             well, or use the browser"
        }
        (None, _) => return Ok(How::OpenPubkey),
    };
    Err(why.to_owned())
}

fn client_of_environment() -> Result<Option<Guid>, String> {
    let text = std::env::var(CLIENT_ID).ok().filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(|why| format!("{CLIENT_ID}: {why}"))).transpose()
}

/// ssh and the block of its configuration are run from other folders.
fn whole(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|why| format!("{}: {why}", path.display()))
}
