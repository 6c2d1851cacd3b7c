//! Thin for now: only what a machine off Azure needs.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nightlatch_model::{ObjectId, TenantId};
use nightlatch_policy::{
    ActionSet, RbacFacts, RoleAnswer, RoleAssignment, Scope, builtin_definitions, combine, evaluate,
};

use super::gate::AskRoles;
use super::settings::Settings;
use crate::clock::Clock;

struct FromFile {
    path: std::path::PathBuf,
    actions: ActionSet,
    clock: Clock,
}

#[derive(serde::Deserialize)]
struct Row {
    principal: ObjectId,
    role: String,
}
#[derive(serde::Deserialize)]
struct File {
    #[serde(default)]
    assignment: Vec<Row>,
}

impl AskRoles for FromFile {
    fn ask<'a>(
        &'a self,
        _: TenantId,
        oid: ObjectId,
        _: Duration,
    ) -> Pin<Box<dyn Future<Output = RoleAnswer> + Send + 'a>> {
        Box::pin(async move {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            let file: File = toml::from_str(&text).unwrap_or(File { assignment: vec![] });
            let assignments = file
                .assignment
                .iter()
                .map(|row| RoleAssignment {
                    id: "file".into(),
                    principal: row.principal,
                    definition: if row.role == "admin" {
                        "1c0163c0-47e6-4577-8991-ea5c82e286e4"
                    } else {
                        "fb879df8-f326-4884-b1cf-06f3ad86be52"
                    }
                    .into(),
                    scope: Scope::parse("/subscriptions/x").unwrap_or_else(|_| unreachable!()),
                    condition: None,
                    starts: None,
                    ends: None,
                })
                .collect();
            let facts = RbacFacts { definitions: builtin_definitions(), assignments, denies: vec![] };
            let scope = Scope::parse("/subscriptions/x").unwrap_or_else(|_| unreachable!());
            combine(&[(
                nightlatch_policy::ScopeKind::Node,
                evaluate(&facts, &[oid], &scope, &self.actions, self.clock.now()),
            )])
        })
    }
}

pub(super) fn connect(settings: &Settings, clock: &Clock) -> Result<Arc<dyn AskRoles>, String> {
    Ok(Arc::new(FromFile {
        path: settings.roles_file.clone(),
        actions: settings.actions.clone(),
        clock: clock.clone(),
    }))
}
