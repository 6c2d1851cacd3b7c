//! `nightlatch capture`: one look at a real node, which records what the product had to assume.
//!
//! The certificate's extensions, the document with the authorities' keys and its Arc equivalent are
//! not public. This room asks for them, writes down their forms and compares them with what the
//! readers expect. It changes nothing, and lets no secret, token, name, id, address or host name
//! out: every value becomes a placeholder, and a last search over the finished text refuses the
//! whole recording when something got through all the same.

mod certificate;
mod findings;
mod heard;
mod keys;
mod machine;
mod metadata;
mod roles;
mod scrub;
mod shape;
mod sieve;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;

use nightlatch_model::{Guid, ObjectId, TenantId};
use nightlatch_policy::{ActionSet, Scope};
use serde_json::{Value, json};
use thiserror::Error;

pub use findings::{Finding, Verdict, findings};

use self::certificate::{About, Given};
use self::machine::Machine;
use self::metadata::{Audiences, Metadata};
use self::roles::{Inquiry, Service};
use self::scrub::Scrubber;
use crate::clock::Clock;
use crate::config::{Cloud, Config, Kind};
use crate::entra::clouds::{self, Endpoints};
use crate::entra::http::{Http, HttpError, ProxyRule};
use crate::entra::node_identity::{NodeIdentity, TokenSource};
use crate::imds::{Himds, Imds};

/// The name of the recordings' form; a reader must refuse another.
pub const FORMAT: &str = "nightlatch-recording/1";
/// Stands in for the tenant where none is known: the services do not look at it.
const UNKNOWN_TENANT: Guid = Guid::from_bytes([0; 16]);

/// What is to be recorded.
#[derive(Debug, Clone)]
pub struct Question {
    /// The configuration of this node; an empty one where there is none.
    pub config: Config,
    /// The extension that is expected to carry the object id.
    pub oid_extension: String,
    /// The extension that is expected to carry the tenant id.
    pub tid_extension: String,
    /// A certificate file, as `az ssh cert` wrote it.
    pub certificate: Option<Vec<u8>>,
    /// Somebody whose roles are asked for.
    pub person: Option<ObjectId>,
}

/// Why there is no recording.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// No HTTP client.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The last search found something.
    #[error("the recording would hold {0}: nothing was written; please report this")]
    WouldLeak(&'static str),
}

/// What will be done, a line each, before it is done.
#[must_use]
pub fn plan(question: &Question) -> Vec<String> {
    let mut lines = vec![
        "asks IMDS (169.254.169.254) and the Arc agent (127.0.0.1:40342) what machine this is, for the authorities' keys and for a token of this node's own".to_owned(),
        "reads os-release, azure.json, nsswitch.conf, pam.d and sshd_config, and asks sshd for its version".to_owned(),
    ];
    if question.certificate.is_some() {
        lines.push("reads the certificate file; it is sent nowhere".to_owned());
    }
    if question.person.is_some() {
        lines.push(
            "asks CheckAccess v2 and v1, as this node, which login roles the person has here".to_owned(),
        );
    }
    lines.push(
        "changes nothing, and replaces every name, id, address, secret and token by a placeholder".to_owned(),
    );
    lines
}

/// Everything that was heard, before scrubbing.
struct Heard {
    machine: Machine,
    kind: &'static str,
    imds: Metadata,
    himds: Metadata,
    tenant: Option<TenantId>,
    pdp: Option<roles::Heard>,
    checkaccess: Option<roles::Heard>,
}

/// Records.
///
/// # Errors
/// When no question can be asked at all, or when something would leak.
pub async fn record(question: &Question, clock: &Clock) -> Result<Value, CaptureError> {
    let heard = listen(question, clock).await?;
    written(question, &heard)
}

async fn listen(question: &Question, clock: &Clock) -> Result<Heard, CaptureError> {
    let now = clock.now();
    let config = &question.config;
    let machine = machine::look().await;
    let (imds, himds) = tokio::join!(Metadata::of_imds(), Metadata::of_himds());
    let (mut imds, mut himds) = (imds?, himds?);
    let arc = Path::new(machine::ARC_FOLDER).exists() || himds.answers();
    let kind = kind(config, &machine, arc, imds.answers());
    let instance = if arc { himds.parsed.clone() } else { imds.parsed.clone() }.unwrap_or_default();
    let json = machine.azure_json.as_ref();
    let tenant = config.tenant.or_else(|| json.map(|json| json.tenant));
    let hosts = endpoints(config, json.map(|json| json.cloud), instance.az_environment.as_deref());
    let client_id = given(config.node.client_id.as_deref())
        .and_then(|text| text.parse().ok())
        .or_else(|| json.and_then(|json| json.kubelet_identity));
    let audiences = Audiences { pdp: hosts.pdp_audience.clone(), arm: hosts.arm_audience(), client_id };
    imds.go_on(&audiences, now).await?;
    himds.go_on(&audiences, now).await?;

    let proxy = if config.network.proxy.as_deref() == Some("none") {
        ProxyRule::Direct
    } else {
        ProxyRule::Environment
    };
    let scope = given(config.node.resource_id.as_deref()).or(instance.resource_id);
    let scope = scope.and_then(|text| Scope::parse(&text).ok());
    let (mut pdp, mut checkaccess) = (None, None);
    if let (Some(person), Some(scope)) = (question.person, scope) {
        let http = Http::internet(proxy)?;
        let mut sources = Vec::new();
        if let (Some(file), Some(client_id), Some(tenant)) = (&config.node.token_file, client_id, tenant) {
            let (http, login, file) = (http.clone(), hosts.login.clone(), file.clone());
            sources.push(TokenSource::Federated { http, login, tenant, client_id, file });
        }
        sources.push(if arc {
            TokenSource::Himds(Himds::new()?)
        } else {
            TokenSource::Imds { imds: Imds::new()?, client_id }
        });
        let identity = NodeIdentity::new(sources);
        let actions = if arc { ActionSet::arc() } else { ActionSet::azure() };
        let actions = ActionSet {
            user: config.login.user_actions.clone().unwrap_or(actions.user),
            admin: config.login.admin_actions.clone().unwrap_or(actions.admin),
        };
        let tenant = tenant.unwrap_or(TenantId(UNKNOWN_TENANT));
        let about = Inquiry { tenant, person, scope, actions };
        let region = given(config.node.region.as_deref())
            .or_else(|| instance.location.map(|name| name.to_ascii_lowercase()))
            .or_else(|| json.and_then(|json| json.location.clone()));
        if let Some(base) = region.and_then(|region| hosts.pdp_in(&region).ok()) {
            let service = Service { base, audience: hosts.pdp_audience.clone(), is_pdp: true };
            pdp = Some(service.ask(&http, &identity, &about, now).await);
        }
        let service = Service { base: hosts.arm.clone(), audience: hosts.arm_audience(), is_pdp: false };
        checkaccess = Some(service.ask(&http, &identity, &about, now).await);
    }
    Ok(Heard { machine, kind, imds, himds, tenant, pdp, checkaccess })
}

/// From what was heard to the recording: first everything that must not come through is collected,
/// then every part is given its form, then the whole is searched.
fn written(question: &Question, heard: &Heard) -> Result<Value, CaptureError> {
    let mut scrub = Scrubber::default();
    let given = question.certificate.clone().map(|file| Given { file });
    let mut names = heard.machine.names.clone();
    let json = heard.machine.azure_json.as_ref();
    names.extend(json.and_then(|json| json.resource_group.clone()));
    names.extend(question.person.map(|oid| oid.to_string()));
    names.extend(heard.tenant.map(|tid| tid.to_string()));
    names.iter().for_each(|name| scrub.guard(name));
    heard.imds.guard(&mut scrub);
    heard.himds.guard(&mut scrub);
    let parsed = given.as_ref().and_then(|given| given.parsed().ok());
    if let Some(parsed) = &parsed {
        certificate::guard(&mut scrub, parsed);
    }

    let published =
        [&heard.imds, &heard.himds].into_iter().flat_map(|service| keys::public_keys(service.keys_body()));
    let published: HashSet<String> =
        published.filter_map(|key| Some(key.get("fingerprint")?.as_str()?.to_owned())).collect();
    let about =
        About { person: question.person.map(|oid| oid.0), tenant: heard.tenant.map(|tid| tid.0), published };
    let recording = json!({
        "format": FORMAT,
        "nightlatch": env!("CARGO_PKG_VERSION"),
        "assumed": {
            "oid_extension": scrub.option_name(&question.oid_extension),
            "tid_extension": scrub.option_name(&question.tid_extension),
        },
        "machine": heard.machine.shape(&mut scrub),
        "kind": heard.kind,
        "tenant_is_known": heard.tenant.is_some(),
        "person_is_given": question.person.is_some(),
        "imds": heard.imds.shape(&mut scrub),
        "himds": heard.himds.shape(&mut scrub),
        "certificate": given.as_ref().map(|given| certificate::fields(&mut scrub, given, &about)),
        "pdp": heard.pdp.as_ref().map(|heard| heard.shape(&mut scrub)),
        "checkaccess": heard.checkaccess.as_ref().map(|heard| heard.shape(&mut scrub)),
    });
    let secrets = heard.imds.secrets().chain(heard.himds.secrets());
    let people = parsed.iter().flat_map(|parsed| parsed.principals().to_vec());
    sieve::check(&recording, &secrets.chain(people).collect::<Vec<_>>()).map_err(CaptureError::WouldLeak)?;
    Ok(recording)
}

/// The same order as the daemon's own detection.
const fn kind(config: &Config, machine: &Machine, arc: bool, imds: bool) -> &'static str {
    match config.node.kind {
        Some(Kind::Aks) => "aks",
        Some(Kind::AksArc) => "aks-arc",
        Some(Kind::Vm) => "vm",
        Some(Kind::ArcVm) => "arc-vm",
        Some(Kind::Plain) => "plain",
        None | Some(Kind::Auto) if machine.azure_json.is_some() => "aks",
        None | Some(Kind::Auto) if arc => "arc-vm",
        None | Some(Kind::Auto) if imds => "vm",
        None | Some(Kind::Auto) => "plain",
    }
}

fn endpoints(config: &Config, file: Option<clouds::Cloud>, imds: Option<&str>) -> Endpoints {
    let told = match config.cloud {
        Some(Cloud::AzureCloud) => Some(clouds::Cloud::Public),
        Some(Cloud::AzureUSGovernment) => Some(clouds::Cloud::UsGovernment),
        Some(Cloud::AzureChinaCloud) => Some(clouds::Cloud::China),
        None | Some(Cloud::Auto) => None,
    };
    let found = || imds.and_then(|name| clouds::Cloud::from_environment_name(name).ok());
    told.or(file).or_else(found).unwrap_or(clouds::Cloud::Public).endpoints()
}

fn given(value: Option<&str>) -> Option<String> {
    value.filter(|value| *value != "auto").map(str::to_owned)
}
