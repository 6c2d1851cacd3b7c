//! Everything the emulator knows, behind one lock that is never held across an await.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::apps::{App, Issuer};
use crate::bucket::{Buckets, Limits};
use crate::clock;
use crate::directory::Directory;
use crate::faults::Faults;
use crate::rbac::Roles;
use crate::record::Record;
use crate::rsakey::RsaKey;
use crate::sessions::Sessions;

/// The tenant, its resources and its scripts.
pub(crate) struct World {
    pub(crate) tenant: String,
    pub(crate) directory: Directory,
    pub(crate) apps: BTreeMap<String, App>,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) roles: Roles,
    /// ARM ids that exist; their ancestors exist too.
    pub(crate) resources: BTreeSet<String>,
    pub(crate) node: Node,
    pub(crate) arc: Node,
    pub(crate) entra: EntraSettings,
    pub(crate) pdp: PdpSettings,
    pub(crate) time: TimeSettings,
    pub(crate) scripts: Vec<Script>,
    pub(crate) challenges: Vec<Challenge>,
    pub(crate) sessions: Sessions,
    pub(crate) limits: Limits,
    pub(crate) buckets: Buckets,
    pub(crate) faults: Faults,
    pub(crate) record: Record,
    pub(crate) ssh_cas: Vec<SshCa>,
    pub(crate) foreign_ca: Option<Arc<RsaKey>>,
    pub(crate) token_keys: Vec<TokenKey>,
    /// Scripted key document: how many times each hidden set was shown.
    pub(crate) jwks_polls: usize,
    /// Key ids hidden from the key document, one set per poll, cycling (a "flap").
    pub(crate) jwks_hidden: Vec<BTreeSet<String>>,
    /// Continuations of PDP answers: marker to the decisions still owed.
    pub(crate) pages: HashMap<String, Vec<Value>>,
    /// Challenge secrets of himds and their files.
    pub(crate) himds_challenges: HashMap<String, PathBuf>,
}

/// One SSH certificate authority.
pub(crate) struct SshCa {
    pub(crate) key: Arc<RsaKey>,
    /// Is it in the `ca_keys` document?
    pub(crate) published: bool,
}

/// One token-signing key.
pub(crate) struct TokenKey {
    pub(crate) key: Arc<RsaKey>,
    pub(crate) published: bool,
}

/// A machine as IMDS or himds describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) resource_id: String,
    pub(crate) subscription_id: String,
    pub(crate) resource_group: String,
    pub(crate) name: String,
    pub(crate) scale_set: String,
    pub(crate) location: String,
    pub(crate) environment: String,
    pub(crate) vm_id: String,
    pub(crate) tags: String,
    pub(crate) identities: Vec<Identity>,
}

/// A managed identity attached to a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) client_id: String,
    pub(crate) object_id: String,
    /// ARM id of a user-assigned identity.
    #[serde(default)]
    pub(crate) resource_id: String,
    #[serde(default)]
    pub(crate) system_assigned: bool,
}

/// Switches of the token endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EntraSettings {
    /// Who signs in where the request does not say (authorize without hint, device code).
    pub(crate) interactive_user: String,
    /// A service principal's certificate names `object_id` or `app_id`; which one is real is unknown.
    pub(crate) sp_principal: String,
    /// Seconds between polls told to a device-code client.
    pub(crate) device_interval: u64,
    /// A poll before its time is answered `slow_down` and adds five seconds (RFC 8628 §3.5). Entra's
    /// documentation does not list it, so it is off unless switched on.
    pub(crate) device_slow_down: bool,
    /// Polls answered "pending" before a device code approves itself; absent: only by the control API.
    pub(crate) device_approve_after: Option<u64>,
    /// Life of access tokens in seconds.
    pub(crate) access_token_seconds: i64,
    /// Life of access tokens for clients that declared `cp1`.
    pub(crate) cae_token_seconds: i64,
    /// Seconds after which a client should refresh; absent: half of a life of two hours or more.
    pub(crate) refresh_in: Option<i64>,
    /// Authorize answers with an error page of this AADSTS code instead of a redirect.
    pub(crate) authorize_error: Option<u32>,
}

/// Switches of the PDP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PdpSettings {
    /// Decisions per page.
    pub(crate) page_size: usize,
    /// `timeToLiveInMs` of every decision.
    pub(crate) ttl_ms: u64,
    /// ARM list results per page.
    pub(crate) arm_page_size: usize,
    /// Do group grants count although the request asks for no expansion?
    pub(crate) always_expand_groups: bool,
    /// Actions left out of the answer (a service that forgets one).
    pub(crate) drop_actions: Vec<String>,
}

/// Offsets of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TimeSettings {
    /// Seconds added to the machine's clock for everything.
    pub(crate) clock_offset: i64,
    /// Seconds added to a certificate's window on top.
    pub(crate) certificate_offset: i64,
    /// Life of certificates in seconds.
    pub(crate) certificate_seconds: i64,
}

/// A scripted refusal of the token endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Script {
    /// AADSTS code.
    pub(crate) code: u32,
    /// Object id, UPN or client id it strikes; absent: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) who: Option<String>,
    /// Grant type it strikes; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grant: Option<String>,
    /// Text the requested scope must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<String>,
    /// `suberror` instead of the code's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) suberror: Option<String>,
    /// `claims` challenge to hand out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claims: Option<Value>,
    /// `error` instead of the code's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// HTTP status instead of the usual one for the `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// Calls it still strikes; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) times: Option<u64>,
}

/// A claims challenge a resource makes of callers whose token lacks an authentication context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Challenge {
    /// `arm` or `graph`.
    pub(crate) service: String,
    /// The authentication context wanted, such as `c1`.
    pub(crate) acrs: String,
    /// Object id or UPN; absent: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) who: Option<String>,
}

impl Default for EntraSettings {
    fn default() -> Self {
        Self {
            interactive_user: crate::world::ALICE.upn.into(),
            sp_principal: "object_id".into(),
            device_interval: 1,
            device_slow_down: false,
            device_approve_after: Some(1),
            access_token_seconds: 4271,
            cae_token_seconds: 24 * 3600,
            refresh_in: None,
            authorize_error: None,
        }
    }
}

impl Default for PdpSettings {
    fn default() -> Self {
        Self {
            page_size: 50,
            ttl_ms: 60_000,
            arm_page_size: 100,
            always_expand_groups: false,
            drop_actions: Vec::new(),
        }
    }
}

impl Default for TimeSettings {
    fn default() -> Self {
        Self { clock_offset: 0, certificate_offset: 0, certificate_seconds: 3600 }
    }
}

impl Default for Node {
    fn default() -> Self {
        crate::seed::node()
    }
}

impl World {
    /// Unix seconds by the emulator's clock.
    pub(crate) fn now(&self) -> i64 {
        clock::wall_seconds().saturating_add(self.time.clock_offset)
    }

    /// Does this ARM id exist? Resources named, and everything above or right below an existing one that
    /// is a namespace of it (`…/providers/x`), do.
    pub(crate) fn exists(&self, id: &str) -> bool {
        let wanted = format!("{}/", id.trim_end_matches('/').to_ascii_lowercase());
        wanted == "/"
            || wanted.starts_with("/providers/microsoft.management/managementgroups/")
            || self
                .resources
                .iter()
                .any(|have| format!("{}/", have.to_ascii_lowercase()).starts_with(&wanted))
    }

    /// The certificate authority that signs now: the newest.
    pub(crate) fn ssh_ca(&self) -> Option<Arc<RsaKey>> {
        self.ssh_cas.last().map(|ca| ca.key.clone())
    }

    /// The key that signs tokens now: the newest.
    pub(crate) fn token_key(&self) -> Option<Arc<RsaKey>> {
        self.token_keys.last().map(|key| key.key.clone())
    }
}

/// The handle every room holds.
#[derive(Clone)]
pub(crate) struct Emulated {
    world: Arc<Mutex<World>>,
    /// Where keys and users.json are.
    pub(crate) state_dir: Arc<PathBuf>,
    /// Where himds puts its challenge files.
    pub(crate) himds_token_dir: Arc<PathBuf>,
}

impl Emulated {
    /// Take the world into use.
    pub(crate) fn new(world: World, state_dir: PathBuf, himds_token_dir: PathBuf) -> Self {
        Self {
            world: Arc::new(Mutex::new(world)),
            state_dir: Arc::new(state_dir),
            himds_token_dir: Arc::new(himds_token_dir),
        }
    }

    /// The world, locked. A panic elsewhere does not end the emulator: the state is plain data.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
