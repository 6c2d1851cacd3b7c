//! The default world `contoso`, built from the constants of `world`: who there is, what they hold, which
//! machines exist. Resetting the emulator comes back here; keys survive a reset.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::apps::App;
use crate::bucket::{Buckets, Limits};
use crate::clock;
use crate::directory::{Directory, Group, Kind, Principal};
use crate::faults::Faults;
use crate::rbac::{Assignment, Deny, Permission, RoleDefinition, Roles};
use crate::record::Record;
use crate::sessions::{Session, Sessions};
use crate::state::{EntraSettings, Identity, Node, PdpSettings, SshCa, TimeSettings, TokenKey, World};
use crate::world;

const USER_LOGIN: &[&str] =
    &["Microsoft.Compute/virtualMachines/login/action", "Microsoft.HybridCompute/machines/login/action"];
const ADMIN_LOGIN: &[&str] = &[
    "Microsoft.Compute/virtualMachines/login/action",
    "Microsoft.Compute/virtualMachines/loginAsAdmin/action",
    "Microsoft.HybridCompute/machines/login/action",
    "Microsoft.HybridCompute/machines/loginAsAdmin/action",
];

/// The world as it is at start and after a reset.
pub(crate) fn world(tenant: &str, ssh_cas: Vec<SshCa>, token_keys: Vec<TokenKey>) -> World {
    let directory = directory();
    let sessions = sessions(&directory);
    World {
        tenant: tenant.to_ascii_lowercase(),
        apps: apps(),
        issuers: Vec::new(),
        roles: roles(),
        resources: [world::NODE, world::CLUSTER, world::VM, world::ARC_MACHINE, world::ARC_CLUSTER]
            .map(str::to_owned)
            .into(),
        node: node(),
        arc: arc(),
        entra: EntraSettings::default(),
        pdp: PdpSettings::default(),
        time: TimeSettings::default(),
        scripts: Vec::new(),
        challenges: Vec::new(),
        sessions,
        directory,
        limits: Limits::default(),
        buckets: Buckets::default(),
        faults: Faults::default(),
        record: Record::default(),
        ssh_cas,
        foreign_ca: None,
        token_keys,
        jwks_polls: 0,
        jwks_hidden: Vec::new(),
        pages: HashMap::new(),
        himds_challenges: HashMap::new(),
    }
}

/// The refresh token every person has from the start, good for any client.
pub(crate) fn refresh_token(oid: &str) -> String {
    format!("seed-refresh-token-{oid}")
}

fn sessions(directory: &Directory) -> Sessions {
    let mut sessions = Sessions::default();
    for person in directory.principals.values().filter(|one| one.is_person()) {
        let session = Session {
            oid: person.oid.clone(),
            client_id: String::new(),
            auth_time: clock::wall_seconds(),
            fresh: false,
            acrs: Vec::new(),
            scope: String::new(),
            nonce: String::new(),
        };
        sessions.refresh.insert(refresh_token(&person.oid), session);
    }
    sessions
}

fn directory() -> Directory {
    let mut directory = Directory::default();
    let mut add = |principal: Principal| {
        directory.principals.insert(principal.oid.clone(), principal);
    };
    for person in [
        world::ALICE,
        world::ADELE,
        world::NORMAN,
        world::DORA,
        world::PETRA,
        world::MIXED_CASE,
        world::OLGA,
        world::GRACE,
        world::CLARA,
        world::CONRAD,
    ] {
        let mut principal = Principal::new(person.oid, person.upn, Kind::Member);
        principal.mail = Some(person.upn.to_ascii_lowercase());
        add(principal);
    }
    let mut guest = Principal::new(world::BOB.oid, world::BOB.upn, Kind::Guest);
    guest.mail = Some(world::BOB_MAIL.into());
    add(guest);
    for (oid, app, name, kind) in [
        (world::CI_PIPELINE.oid, world::CI_PIPELINE_APP, world::CI_PIPELINE.upn, Kind::ServicePrincipal),
        (world::NODE_APP_OID, world::NODE_APP, "node-app", Kind::ServicePrincipal),
        (world::KUBELET_OID, world::KUBELET_CLIENT, "shop-agentpool", Kind::ManagedIdentity),
        (world::ADDON_OID, world::ADDON_CLIENT, "omsagent-shop", Kind::ManagedIdentity),
        (world::ARC_OID, world::ARC_CLIENT, "arc1", Kind::ManagedIdentity),
    ] {
        let mut principal = Principal::new(oid, name, kind);
        principal.app_id = Some(app.into());
        add(principal);
    }
    for (id, name, member) in [
        (world::GROUP_OUTER, "linux-users", world::GROUP_INNER),
        (world::GROUP_INNER, "shop-team", world::GRACE.oid),
    ] {
        let group = Group { id: id.into(), display_name: name.into(), members: [member.to_owned()].into() };
        directory.groups.insert(id.into(), group);
    }
    directory
}

fn apps() -> BTreeMap<String, App> {
    let confidential = |client_id: &str, name: &str, secret: &str| App {
        client_id: client_id.into(),
        name: name.into(),
        secrets: vec![secret.into()],
        ..App::default()
    };
    let list = [
        App {
            client_id: world::AZURE_CLI.into(),
            name: "Microsoft Azure CLI".into(),
            public: true,
            family: true,
            ..App::default()
        },
        App {
            client_id: world::OWN_APP.into(),
            name: "node-sign-in".into(),
            public: true,
            v2_tokens: true,
            identifier_uris: vec![format!("api://{}", world::OWN_APP)],
            ..App::default()
        },
        confidential(world::CI_PIPELINE_APP, "ci-pipeline", world::CI_PIPELINE_SECRET),
        confidential(world::NODE_APP, "node-app", world::NODE_APP_SECRET),
    ];
    list.into_iter().map(|app| (app.client_id.clone(), app)).collect()
}

fn roles() -> Roles {
    let mut roles = Roles::default();
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    let mut define = |id: &str, name: &str, actions: &[&str], data: &[&str]| {
        let permissions =
            vec![Permission { actions: list(actions), data_actions: list(data), ..Permission::default() }];
        let role = RoleDefinition { id: id.into(), name: name.into(), custom: false, permissions };
        roles.definitions.insert(id.into(), role);
    };
    define(
        world::ROLE_USER_LOGIN,
        "Virtual Machine User Login",
        &["Microsoft.Compute/virtualMachines/*/read"],
        USER_LOGIN,
    );
    define(
        world::ROLE_ADMIN_LOGIN,
        "Virtual Machine Administrator Login",
        &["Microsoft.Compute/virtualMachines/*/read"],
        ADMIN_LOGIN,
    );
    define(
        world::ROLE_LOCAL_USER_LOGIN,
        "Virtual Machine Local User Login",
        &[
            "Microsoft.HybridCompute/machines/*/read",
            "Microsoft.HybridConnectivity/endpoints/listCredentials/action",
        ],
        &[],
    );
    define(world::ROLE_OWNER, "Owner", &["*"], &[]);
    define(world::ROLE_READER, "Reader", &["*/read"], &[]);
    define(
        world::ROLE_CHECK_ACCESS_READER,
        "Connected Cluster Managed Identity CheckAccess Reader",
        &["Microsoft.Authorization/*/read"],
        &[],
    );

    let subscription = format!("/subscriptions/{}", world::SUBSCRIPTION);
    let group = format!("{subscription}/resourceGroups/{}", world::NODE_RESOURCE_GROUP);
    let mut number = 0;
    let mut grant = |principal: &str, role: &str, scope: &str| {
        number += 1;
        roles.assignments.push(Assignment {
            id: format!("a5500000-0000-4000-8000-{number:012}"),
            principal_id: principal.into(),
            role_definition_id: role.into(),
            scope: scope.into(),
            starts: None,
            ends: None,
            condition: None,
            condition_holds: false,
        });
    };
    for person in
        [world::ALICE, world::DORA, world::MIXED_CASE, world::BOB, world::CI_PIPELINE, world::CONRAD]
    {
        grant(person.oid, world::ROLE_USER_LOGIN, &group);
    }
    grant(world::GROUP_OUTER, world::ROLE_USER_LOGIN, &group);
    grant(world::CLARA.oid, world::ROLE_USER_LOGIN, world::CLUSTER);
    for person in [world::ADELE, world::PETRA] {
        grant(person.oid, world::ROLE_ADMIN_LOGIN, &subscription);
    }
    grant(world::OLGA.oid, world::ROLE_OWNER, &subscription);
    for caller in [world::KUBELET_OID, world::ARC_OID, world::NODE_APP_OID] {
        grant(caller, world::ROLE_CHECK_ACCESS_READER, &subscription);
    }
    let now = clock::wall_seconds();
    for assignment in &mut roles.assignments {
        if assignment.principal_id == world::PETRA.oid {
            (assignment.starts, assignment.ends) = (Some(now - 2 * 86_400), Some(now - 86_400));
        }
        if assignment.principal_id == world::CONRAD.oid {
            assignment.condition =
                Some("@Request[Microsoft.Compute/virtualMachines:tag] StringEquals 'x'".into());
        }
    }
    roles.denies.push(Deny {
        id: "de000000-0000-4000-8000-000000000001".into(),
        name: "Dora may not log in to shop nodes".into(),
        scope: group,
        permissions: vec![Permission {
            data_actions: list(&["Microsoft.Compute/*"]),
            ..Permission::default()
        }],
        principals: [world::DORA.oid.to_owned()].into(),
        exclude_principals: BTreeSet::new(),
        do_not_apply_to_child_scopes: false,
    });
    roles.management_groups.insert(world::SUBSCRIPTION.into(), vec![world::MANAGEMENT_GROUP.into()]);
    roles
}

/// The identity object of a user-assigned identity.
pub(crate) fn user_assigned(client_id: &str, object_id: &str, name: &str) -> Identity {
    let resource_id = format!(
        "/subscriptions/{}/resourcegroups/{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}",
        world::SUBSCRIPTION,
        world::NODE_RESOURCE_GROUP
    );
    Identity { client_id: client_id.into(), object_id: object_id.into(), resource_id, system_assigned: false }
}

/// The default node.
pub(crate) fn node() -> Node {
    Node {
        resource_id: world::NODE.into(),
        subscription_id: world::SUBSCRIPTION.into(),
        resource_group: world::NODE_RESOURCE_GROUP.into(),
        name: world::NODE_NAME.into(),
        scale_set: world::NODE_SCALE_SET.into(),
        location: world::REGION.into(),
        environment: "AzurePublicCloud".into(),
        vm_id: "7d000000-0000-4000-8000-000000000001".into(),
        tags: "aks-managed-cluster-name:shop;aks-managed-cluster-rg:rg-shop".into(),
        identities: vec![user_assigned(world::KUBELET_CLIENT, world::KUBELET_OID, "shop-agentpool")],
    }
}

fn arc() -> Node {
    Node {
        resource_id: world::ARC_MACHINE.into(),
        resource_group: "rg-arc".into(),
        name: "arc1".into(),
        scale_set: String::new(),
        vm_id: "7d000000-0000-4000-8000-000000000002".into(),
        tags: String::new(),
        identities: vec![Identity {
            client_id: world::ARC_CLIENT.into(),
            object_id: world::ARC_OID.into(),
            resource_id: String::new(),
            system_assigned: true,
        }],
        ..node()
    }
}
