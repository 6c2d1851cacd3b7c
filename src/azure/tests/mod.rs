//! The back ends against prepared answers: the shapes of the real services, every fault, the cache.

mod cached;
mod faults;
mod file;
mod golden;
mod listed;

use std::time::Duration;

use nightlatch_model::{ObjectId, Role, TenantId, Timestamp};
use nightlatch_policy::{ActionSet, Refused, RoleAnswer, Scope, ScopeKind, UnknownCause};

use super::{Ask, Caller, CheckAccess, Listing, Pdp, Purpose, RoleQuestion, RoleSource};
use crate::entra::http::{Http, ProxyRule};
use crate::entra::node_identity::{NodeIdentity, TokenSource};
use crate::entra::tiny_server::{Answer, Server};
use crate::imds::Imds;

const NOW: Timestamp = Timestamp(1_800_000_000);
const NODE: &str = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/MC_rg/providers/Microsoft.Compute/virtualMachineScaleSets/np/virtualMachines/0";
const CLUSTER: &str = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/c";
const LOGIN: &str = "Microsoft.Compute/virtualMachines/login/action";
const ADMIN: &str = "Microsoft.Compute/virtualMachines/loginAsAdmin/action";
const OID: &str = "5f0c2d3e-0000-4000-8000-00000000000a";

fn oid() -> ObjectId {
    OID.parse().unwrap()
}

fn question() -> RoleQuestion {
    let tenant: TenantId = "72f988bf-86f1-41af-91ab-2d7cd011db47".parse().unwrap();
    let scopes = vec![(ScopeKind::Node, Scope::parse(NODE).unwrap())];
    RoleQuestion { tenant, oid: oid(), scopes, actions: ActionSet::azure() }
}

/// A login that waits at most `milliseconds`.
fn login(milliseconds: u64) -> Ask {
    Ask::new(Purpose::NewLogin, NOW, Duration::from_millis(milliseconds))
}

/// A way to `audience` with a token from a metadata service that gives one.
async fn caller(audience: &str) -> Caller {
    let token = format!(r#"{{"access_token":"tok","expires_in":"3600","resource":"{audience}"}}"#);
    let imds = Server::start(vec![Answer::new(200, &token)]).await;
    let source = TokenSource::Imds { imds: Imds::at(&imds.url("")).unwrap(), client_id: None };
    Caller::new(Http::internet(ProxyRule::Direct).unwrap(), NodeIdentity::new(vec![source]), audience)
}

async fn pdp(server: &Server) -> RoleSource {
    RoleSource::Pdp(Pdp::new(caller("https://authorization.azure.net").await, &server.url("")))
}

async fn checkaccess(server: &Server) -> RoleSource {
    RoleSource::CheckAccess(CheckAccess::new(caller("https://management.azure.com/").await, &server.url("")))
}

async fn listing(server: &Server) -> RoleSource {
    RoleSource::Listing(Listing::new(caller("https://management.azure.com/").await, &server.url("")))
}

/// A decision as the PDP writes it.
fn decision(word: &str, action: &str) -> String {
    let role = if word == "Allowed" {
        r#"{"principalId":"5f0c2d3e00004000800000000000000a","roleDefinitionId":"1c0163c047e645778991ea5c82e286e4","scope":"/subscriptions/11111111-2222-3333-4444-555555555555"}"#
    } else {
        "null"
    };
    let reason = if word == "Allowed" { 1 } else { 10 };
    format!(
        r#"{{"accessDecision":"{word}","actionId":"{action}","roleAssignment":{role},"timeToLiveInMs":60000,"decisionReason":{reason}}}"#
    )
}

fn page(decisions: &[String]) -> String {
    format!(r#"{{"value":[{}],"nextLink":null}}"#, decisions.join(","))
}

fn both(word: &str) -> Answer {
    Answer::new(200, &page(&[decision(word, LOGIN), decision(word, ADMIN)]))
}

fn role(answer: &RoleAnswer) -> Option<Role> {
    match answer {
        RoleAnswer::Granted(grant) => Some(grant.role),
        RoleAnswer::NotGranted(_) | RoleAnswer::Unknown(_) => None,
    }
}

fn cause(answer: &RoleAnswer) -> &UnknownCause {
    match answer {
        RoleAnswer::Unknown(cause) => cause,
        other => panic!("not an unknown: {other:?}"),
    }
}

const NOBODY: RoleAnswer = RoleAnswer::NotGranted(Refused::NoAssignment);
