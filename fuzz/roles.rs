//! What Azure or the roles file says about a person's right.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nightlatch::azure::decision_json::{RawDecision, fold_all};
use nightlatch::azure::listing_json::{self as json, Assignment, Definition, Deny, Item, Page, Schedule};
use nightlatch::azure::{Ask, DEFAULT_TTL, MAX_ROLES_ENTRIES, MAX_ROLES_FILE_BYTES};
use nightlatch::azure::{Purpose, RoleQuestion, RoleSource, RolesFile};
use nightlatch_model::{Guid, ObjectId, Role, Timestamp};
use nightlatch_policy::{
    ActionSet, DenyPrincipals, RbacFacts, Refused, RoleAnswer, Scope, ScopeKind, builtin_definitions,
    evaluate, matches,
};
use serde_json::Value;

const NOW: Timestamp = Timestamp(1_800_000_000);
const PERSON: &str = "5f0c2d3e-0000-4000-8000-00000000000a";
const NODE: &str = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/MC_rg/providers/Microsoft.Compute/virtualMachineScaleSets/np/virtualMachines/0";
const LOGIN: &str = "Microsoft.Compute/virtualMachines/login/action";
const ADMIN: &str = "Microsoft.Compute/virtualMachines/loginAsAdmin/action";

fn person() -> ObjectId {
    PERSON.parse().expect("an object id")
}

fn node() -> Scope {
    Scope::parse(NODE).expect("an ARM id")
}

fn granted(answer: &RoleAnswer) -> Option<Role> {
    if let RoleAnswer::Granted(grant) = answer { Some(grant.role) } else { None }
}

/// Any bytes as an answer of CheckAccess, version 1 (a list) or 2 (a page): a yes rests on decisions
/// that all say yes, a deny of the login is a denial, and the order of the answer does not matter.
pub fn decisions(data: &[u8]) {
    let read = || {
        let list = serde_json::from_slice::<Vec<RawDecision>>(data).ok();
        list.or_else(|| serde_json::from_slice::<Page<RawDecision>>(data).ok().map(|page| page.value))
    };
    let Some(mut turned) = read() else { return };
    turned.reverse();
    let (answer, ttl) = fold_all(&ActionSet::azure(), read().expect("it was read before"));
    assert_eq!(fold_all(&ActionSet::azure(), turned), (answer.clone(), ttl));

    // What is passed over may be no JSON to a reader who keeps all of it.
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    let Some(list) = value.get("value").unwrap_or(&value).as_array() else { return };
    // A derived reader takes a list in the order of the fields as well.
    if !list.iter().all(Value::is_object) {
        return;
    }
    let about = |action: &'static str| {
        list.iter().filter(move |d| {
            d["isDataAction"] != false
                && d["actionId"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(action))
        })
    };
    let yes = |d: &Value| {
        let condition = d.get("roleAssignment").and_then(|role| role.get("condition"));
        d["accessDecision"] == "Allowed" && condition.is_none_or(|c| c.is_null() || c == "")
    };
    let sure = |action| about(action).count() > 0 && about(action).all(yes);
    let denied = about(LOGIN).any(|d| d["accessDecision"] == "Denied");
    assert_eq!(matches!(answer, RoleAnswer::NotGranted(Refused::DenyAssignment { .. })), denied);
    let words = ["Allowed", "NotAllowed", "Denied"];
    let complete = |action| {
        let strictest = |d: &Value| words.contains(&d["accessDecision"].as_str().unwrap_or_default());
        about(action).count() > 0 && about(action).all(strictest)
    };
    if complete(LOGIN) && complete(ADMIN) {
        let role = sure(LOGIN).then(|| if sure(ADMIN) { Role::Admin } else { Role::User });
        assert_eq!(granted(&answer), role, "{answer:?}");
        assert!(!matches!(answer, RoleAnswer::Unknown(_)), "{answer:?}");
    } else if let Some(role) = granted(&answer) {
        assert!(sure(LOGIN) && (role == Role::User || sure(ADMIN)), "{answer:?}");
    }
    let stated = about(LOGIN).chain(about(ADMIN)).filter_map(|d| d["timeToLiveInMs"].as_u64()).min();
    assert_eq!(ttl, stated.map_or(DEFAULT_TTL, Duration::from_millis));
}

fn items<T: serde::de::DeserializeOwned>(whole: &Value, key: &str) -> Option<Vec<T>> {
    serde_json::from_value::<Page<T>>(whole.get(key)?.clone()).ok().map(|page| page.value)
}

/// Any JSON as the four lists that a role is worked out from: what cannot be evaluated never grants, a
/// deny never adds a right, one that may be about the person through a group counts, and every scope is
/// one that can stand in an address.
pub fn listing(data: &[u8]) {
    let _ = serde_json::from_slice::<Page<Item<Assignment>>>(data);
    let _ = serde_json::from_slice::<Item<Definition>>(data).map(json::definition);
    let Ok(whole) = serde_json::from_slice::<Value>(data) else { return };
    let Some(listed) = items::<Item<Assignment>>(&whole, "assignments") else { return };
    let Ok(assignments) = listed.into_iter().map(json::assignment).collect::<Result<Vec<_>, _>>() else {
        return;
    };
    let mut known: Vec<ObjectId> = assignments.iter().map(|a| a.principal).collect();
    known.push(person());
    for assignment in &assignments {
        let scope = assignment.scope.as_str();
        assert_eq!(Scope::parse(scope).as_ref(), Ok(&assignment.scope));
        assert!(!scope.contains(|c: char| c.is_control() || c.is_whitespace() || "?#%\"".contains(c)));
        if let Some(id) = json::trailing_guid(&assignment.definition) {
            let digits = assignment.definition.replace('-', "").to_ascii_lowercase();
            assert!(digits.ends_with(&id.to_string().replace('-', "")));
        }
    }
    let mut denies = Vec::new();
    for item in items::<Item<Deny>>(&whole, "denies").unwrap_or_default() {
        let Ok(deny) = json::deny(item, &known) else { return };
        if let DenyPrincipals::Listed(ids) = &deny.deny.principals {
            let raw = whole["denies"]["value"].get(denies.len()).map(|d| &d["properties"]["principals"]);
            let kinds = raw.and_then(Value::as_array).into_iter().flatten().map(|p| &p["type"]);
            let groups = kinds.filter(|kind| *kind != "User" && *kind != "ServicePrincipal").count();
            let array = whole["denies"]["value"].get(denies.len()).is_some_and(Value::is_object);
            assert!(!array || groups == 0 || ids.iter().any(|id| known.contains(id)), "{ids:?}");
        }
        denies.push(deny.deny);
    }
    for item in items::<Item<Schedule>>(&whole, "windows").unwrap_or_default() {
        if let Ok(Some(window)) = json::window(item) {
            for end in [window.starts, window.ends].into_iter().flatten() {
                assert!((0..=9999).contains(&end.civil().0));
            }
        }
    }
    let defined = items::<Item<Definition>>(&whole, "definitions").unwrap_or_default();
    let mut definitions = builtin_definitions();
    definitions.extend(defined.into_iter().map(json::definition));
    let ask = |assignments: &[_], denies: &[_]| {
        let (assignments, denies) = (assignments.to_vec(), denies.to_vec());
        let facts = RbacFacts { definitions: definitions.clone(), assignments, denies };
        granted(&evaluate(&facts, &known, &node(), &ActionSet::azure(), NOW))
    };
    let free = ask(&assignments, &[]);
    assert!(ask(&assignments, &denies) <= free, "a deny adds nothing");
    let conditional: Vec<_> = assignments.iter().filter(|a| a.condition.is_some()).cloned().collect();
    assert_eq!(ask(&conditional, &[]), None, "a condition never grants");
    let elsewhere: Vec<_> = assignments.iter().filter(|a| !a.scope.covers(&node())).cloned().collect();
    assert_eq!(ask(&elsewhere, &[]), None, "another scope never grants");
}

thread_local! {
    static FOLDER: (tempfile::TempDir, PathBuf) = {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("roles.toml");
        (folder, path)
    };
}

fn roles_of(file: &RolesFile, oid: ObjectId) -> RoleAnswer {
    let tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47".parse().expect("a tenant");
    let scopes = vec![(ScopeKind::Node, node())];
    let question = RoleQuestion { tenant, oid, scopes, actions: ActionSet::azure() };
    let ask = Ask::new(Purpose::NewLogin, NOW, Duration::from_secs(1));
    let source = RoleSource::File(file.clone());
    let asked = pin!(source.roles(&question, &ask));
    match asked.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(found) => found.answer,
        Poll::Pending => panic!("a file is never waited for"),
    }
}

/// Any bytes as the roles file: a file with a problem leaves everything unknown and says so in one
/// line; one in force names only object ids, and lets in only whom an open line of it lets in.
pub fn roles_file(data: &[u8]) {
    let path = FOLDER.with(|(_, path)| path.clone());
    fs::write(&path, data).expect("the file is written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("the file is ours");
    let file = RolesFile::new(&path);
    let stranger = ObjectId(Guid::from_bytes(*b"never in a file!"));
    let answers = [person(), stranger].map(|oid| (oid, roles_of(&file, oid)));
    if let Some(problem) = file.problem() {
        assert!(answers.iter().all(|(_, answer)| matches!(answer, RoleAnswer::Unknown(_))));
        assert!(!problem.to_string().contains('\n'), "{problem}");
        return;
    }
    assert!(data.len() as u64 <= MAX_ROLES_FILE_BYTES);
    let text = str::from_utf8(data).expect("what is in force is text");
    let table: toml::Table = toml::from_str(text).expect("what is in force is TOML");
    let entries = |kind: &str| {
        let list = table.get(kind).and_then(toml::Value::as_array).cloned().unwrap_or_default();
        assert!(list.len() <= MAX_ROLES_ENTRIES);
        list
    };
    let id = |value: &toml::Value| value.as_str().and_then(|text| text.parse::<ObjectId>().ok());
    let (assignments, denies) = (entries("assignment"), entries("deny"));
    assert!(assignments.iter().all(|a| a.get("principal").and_then(id).is_some()));
    for deny in &denies {
        let whom = deny.get("principal").expect("a deny is about somebody");
        assert!(whom.as_str() == Some("everyone") || id(whom).is_some());
        let spared = deny.get("except").and_then(toml::Value::as_array);
        assert!(spared.into_iter().flatten().all(|one| id(one).is_some()));
    }
    for (oid, answer) in answers {
        assert!(!matches!(answer, RoleAnswer::Unknown(_)), "{answer:?}");
        let Some(role) = granted(&answer) else { continue };
        let whole_deny = denies.iter().any(|deny| {
            let spared = deny.get("except").and_then(toml::Value::as_array).is_some_and(|e| !e.is_empty());
            let all = deny.get("principal").and_then(toml::Value::as_str) == Some("everyone");
            all && !spared && deny.get("actions").is_none() && deny.get("scope").is_none()
        });
        assert!(!whole_deny, "everyone is denied");
        let gives = |action: &str| assignments.iter().any(|a| lets_in(a, oid, action));
        assert!(gives(LOGIN), "{text}");
        assert!(role == Role::User || gives(ADMIN), "{text}");
    }
}

/// What one line of the file says, read without the parser under test.
fn lets_in(entry: &toml::Value, oid: ObjectId, action: &str) -> bool {
    let text = |key: &str| entry.get(key).and_then(toml::Value::as_str);
    let time = |key: &str| {
        let value = entry.get(key)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Timestamp::from_rfc3339(&text)
    };
    let here = match text("scope") {
        None | Some("node") => true,
        Some("cluster") => false,
        Some(scope) => Scope::parse(scope).is_ok_and(|scope| scope.covers(&node())),
    };
    let permits = match text("role") {
        Some("admin") => true,
        Some("user") => action == LOGIN,
        _ => {
            let list = entry.get("actions").and_then(toml::Value::as_array);
            list.into_iter().flatten().filter_map(toml::Value::as_str).any(|a| matches(a, action))
        }
    };
    let open = time("starts").is_none_or(|at| at <= NOW) && time("ends").is_none_or(|at| NOW < at);
    text("principal").and_then(|id| id.parse().ok()) == Some(oid) && here && permits && open
}
