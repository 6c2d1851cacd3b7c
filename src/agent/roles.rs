//! From settings to the back end that answers which right a person has.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nightlatch_model::{Guid, LoginName, ObjectId, Timestamp};
use nightlatch_policy::{ActionSet, Scope, ScopeKind};
use tracing::warn;

use super::gate::{AskRoles, FindPerson, Known, RoleAsk, Time};
use super::high_water::witness;
use super::settings::Settings;
use crate::azure::{Ask, Caller, CheckAccess, Listing, Pdp, RoleQuestion, RoleSource, Roles, RolesFile};
use crate::clock::Clock;
use crate::config::{Kind, RoleBackEnd};
use crate::entra::clouds::Endpoints;
use crate::entra::graph::Graph;
use crate::entra::http::{Http, ProxyRule};
use crate::entra::node_identity::{NodeIdentity, TokenSource};
use crate::imds::{Himds, Imds};
use crate::store::{read_capped, replace_file};

/// Asks one back end about the scopes and actions of this node.
pub(super) struct NodeRoles {
    roles: Roles,
    scopes: Vec<(ScopeKind, Scope)>,
    actions: ActionSet,
    clock: Clock,
}

impl AskRoles for NodeRoles {
    fn ask<'a>(&'a self, ask: RoleAsk) -> Pin<Box<dyn Future<Output = Known> + Send + 'a>> {
        let RoleAsk { tenant, oid, wait, max_age, purpose } = ask;
        let question =
            RoleQuestion { tenant, oid, scopes: self.scopes.clone(), actions: self.actions.clone() };
        let ask = Ask::new(purpose, self.clock.now(), wait).no_older_than(max_age);
        Box::pin(async move {
            let found = self.roles.roles(&question, &ask).await;
            let age = self.clock.now().since(found.asked);
            Known { answer: found.answer, age: Duration::from_secs(u64::try_from(age).unwrap_or(0)) }
        })
    }

    fn trouble(&self) -> Option<String> {
        match self.roles.source() {
            RoleSource::File(file) => file.problem().map(|problem| problem.to_string()),
            RoleSource::Pdp(_) | RoleSource::CheckAccess(_) | RoleSource::Listing(_) => None,
        }
    }
}

/// The back end that the settings name.
///
/// # Errors
/// What is missing or wrong, in words for the administrator.
pub(super) fn connect(settings: &Settings, time: &Time, state: &Path) -> Result<NodeRoles, String> {
    let source = match settings.roles_from {
        RoleBackEnd::File => RoleSource::File(RolesFile::new(&settings.roles_file)),
        RoleBackEnd::Pdp => {
            let hosts = settings.endpoints();
            let region =
                settings.region.as_deref().ok_or("`node.region` is not set and IMDS does not say it")?;
            let base = hosts.pdp_in(region).map_err(|cause| cause.to_string())?;
            let relief = CheckAccess::new(caller(settings, time, &hosts, &hosts.arm_audience())?, &hosts.arm);
            let pdp = Pdp::new(caller(settings, time, &hosts, &hosts.pdp_audience)?, &base);
            RoleSource::Pdp(pdp.with_relief(relief))
        }
        RoleBackEnd::Checkaccess => {
            let hosts = settings.endpoints();
            RoleSource::CheckAccess(CheckAccess::new(
                caller(settings, time, &hosts, &hosts.arm_audience())?,
                &hosts.arm,
            ))
        }
        RoleBackEnd::List => {
            let hosts = settings.endpoints();
            RoleSource::Listing(Listing::new(
                caller(settings, time, &hosts, &hosts.arm_audience())?,
                &hosts.arm,
            ))
        }
    };
    Ok(NodeRoles {
        roles: Roles::new(source, first_start(state, &time.clock)),
        scopes: settings.scopes.clone(),
        actions: settings.actions.clone(),
        clock: time.clock.clone(),
    })
}

pub(super) fn internet(settings: &Settings, time: &Time) -> Result<Http, String> {
    let rule = if settings.proxy_from_env { ProxyRule::Environment } else { ProxyRule::Direct };
    Http::internet(rule).map(|http| http.witnessed(witness(time))).map_err(|cause| cause.to_string())
}

fn caller(settings: &Settings, time: &Time, hosts: &Endpoints, audience: &str) -> Result<Caller, String> {
    let http = internet(settings, time)?;
    Ok(Caller::new(http.clone(), identity(settings, hosts, &http)?, audience))
}

/// The node's own identity, the preferred source first: never the person's.
fn identity(settings: &Settings, hosts: &Endpoints, http: &Http) -> Result<NodeIdentity, String> {
    let client_id: Option<Guid> = settings
        .client_id
        .as_deref()
        .map(|text| text.parse().map_err(|_| format!("`node.client_id` is not a GUID: {text}")))
        .transpose()?;
    let mut sources = Vec::new();
    if let (Some(file), Some(client_id)) = (&settings.token_file, client_id) {
        sources.push(TokenSource::Federated {
            http: http.clone(),
            login: hosts.login.clone(),
            tenant: settings.tenant,
            client_id,
            file: file.clone(),
        });
    }
    match settings.kind {
        Kind::ArcVm | Kind::AksArc => {
            sources.push(TokenSource::Himds(Himds::new().map_err(|cause| cause.to_string())?));
        }
        Kind::Auto | Kind::Aks | Kind::Vm | Kind::Plain => {
            sources
                .push(TokenSource::Imds { imds: Imds::new().map_err(|cause| cause.to_string())?, client_id });
        }
    }
    Ok(NodeIdentity::new(sources))
}

struct GraphPeople {
    graph: Graph,
    clock: Clock,
}

impl FindPerson for GraphPeople {
    fn find<'a>(
        &'a self,
        name: &'a LoginName,
    ) -> Pin<Box<dyn Future<Output = Option<ObjectId>> + Send + 'a>> {
        Box::pin(async move {
            match self.graph.object_id(name, self.clock.now()).await {
                Ok(oid) => Some(oid),
                Err(cause) => {
                    warn!("Graph does not say who {name} is: {cause}");
                    None
                }
            }
        })
    }
}

/// Who knows the object id of a name, where the settings allow to ask.
///
/// # Errors
/// What is missing or wrong, in words for the administrator.
pub(super) fn people(settings: &Settings, time: &Time) -> Result<Option<Arc<dyn FindPerson>>, String> {
    if !settings.graph {
        return Ok(None);
    }
    let (hosts, http) = (settings.endpoints(), internet(settings, time)?);
    let graph = Graph::new(http.clone(), identity(settings, &hosts, &http)?, &hosts.graph);
    Ok(Some(Arc::new(GraphPeople { graph, clock: time.clock.clone() })))
}

/// When this node first ran: Azure does not know a new machine for some minutes, and that must not
/// be taken for a denial.
fn first_start(state: &Path, clock: &Clock) -> Timestamp {
    let path = state.join("first-start");
    let kept = read_capped(&path, 64).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(seconds) = kept.and_then(|text| text.trim().parse().ok()) {
        return Timestamp(seconds);
    }
    let now = clock.now();
    if let Err(cause) = replace_file(&path, format!("{}\n", now.0).as_bytes(), 0o600, false) {
        warn!("the first start is not remembered: {cause}");
    }
    now
}

/// A shared pointer to the back end, as the gate wants it.
pub(super) fn shared(roles: NodeRoles) -> Arc<dyn AskRoles> {
    Arc::new(roles)
}
