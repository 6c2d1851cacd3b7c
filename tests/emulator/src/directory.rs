//! The directory: people, guests, service principals, managed identities and groups. Nothing here decides
//! anything about access; it only answers who somebody is and which groups hold them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What kind of object a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    #[default]
    Member,
    Guest,
    ServicePrincipal,
    ManagedIdentity,
}

/// One principal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Principal {
    /// Directory object id, lower case.
    pub(crate) oid: String,
    /// UPN as the directory spells it; display name of a service principal.
    pub(crate) upn: String,
    #[serde(default)]
    pub(crate) kind: Kind,
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    /// Application id of a service principal or managed identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) app_id: Option<String>,
    /// Certificate principals instead of the rule, for odd cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) principals: Option<Vec<String>>,
    /// Unix seconds; refresh tokens issued before are revoked.
    #[serde(default)]
    pub(crate) sessions_valid_from: i64,
    #[serde(default)]
    pub(crate) claims: Claims,
}

/// What tokens of a person say, besides who the person is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Methods every session was begun with.
    #[serde(default = "pwd_mfa")]
    pub(crate) amr: Vec<String>,
    /// Authentication contexts every session has satisfied.
    #[serde(default)]
    pub(crate) acrs: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deviceid: Option<String>,
    /// Unix seconds, when not the session's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auth_time: Option<i64>,
    /// Members laid over every token; `null` removes one.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) extra: Map<String, Value>,
}

impl Default for Claims {
    fn default() -> Self {
        Self { amr: pwd_mfa(), acrs: Vec::new(), deviceid: None, auth_time: None, extra: Map::new() }
    }
}

/// A group of principals and groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) display_name: String,
    /// Object ids of principals and of groups.
    #[serde(default)]
    pub(crate) members: BTreeSet<String>,
}

/// All principals and groups.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Directory {
    /// By object id.
    pub(crate) principals: BTreeMap<String, Principal>,
    /// By group id.
    pub(crate) groups: BTreeMap<String, Group>,
}

fn yes() -> bool {
    true
}

fn pwd_mfa() -> Vec<String> {
    vec!["pwd".into(), "mfa".into()]
}

impl Principal {
    /// A person, service principal or identity with nothing special.
    pub(crate) fn new(oid: &str, upn: &str, kind: Kind) -> Self {
        Self {
            oid: oid.to_ascii_lowercase(),
            upn: upn.into(),
            kind,
            enabled: true,
            mail: None,
            display_name: None,
            app_id: None,
            principals: None,
            sessions_valid_from: 0,
            claims: Claims::default(),
        }
    }

    /// Is this a human being?
    pub(crate) fn is_person(&self) -> bool {
        matches!(self.kind, Kind::Member | Kind::Guest)
    }

    /// ARM's `principalType`.
    pub(crate) fn arm_type(&self) -> &'static str {
        if self.is_person() { "User" } else { "ServicePrincipal" }
    }

    /// The name shown in tokens and Graph.
    pub(crate) fn name(&self) -> &str {
        self.display_name.as_deref().unwrap_or(&self.upn)
    }
}

impl Directory {
    /// Find by object id, UPN, mail or application id, all without case.
    pub(crate) fn find(&self, key: &str) -> Option<&Principal> {
        let same = |text: &Option<String>| text.as_deref().is_some_and(|have| have.eq_ignore_ascii_case(key));
        self.principals.get(&key.to_ascii_lowercase()).or_else(|| {
            self.principals
                .values()
                .find(|one| one.upn.eq_ignore_ascii_case(key) || same(&one.mail) || same(&one.app_id))
        })
    }

    /// As [`Self::find`], to change it.
    pub(crate) fn find_mut(&mut self, key: &str) -> Option<&mut Principal> {
        let oid = self.find(key)?.oid.clone();
        self.principals.get_mut(&oid)
    }

    /// The service principal or identity of an application id.
    pub(crate) fn by_app(&self, app_id: &str) -> Option<&Principal> {
        self.principals
            .values()
            .find(|one| one.app_id.as_deref().is_some_and(|have| have.eq_ignore_ascii_case(app_id)))
    }

    /// Every group that holds `oid`, directly or through groups.
    pub(crate) fn groups_of(&self, oid: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![oid.to_ascii_lowercase()];
        while let Some(member) = open.pop() {
            for group in self.groups.values().filter(|group| group.members.contains(&member)) {
                if found.insert(group.id.clone()) {
                    open.push(group.id.clone());
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_groups_are_found_and_circles_end() {
        let mut directory = Directory::default();
        for (id, members) in [("g1", vec!["g2", "x"]), ("g2", vec!["g1", "a"]), ("g3", vec!["b"])] {
            let members = members.into_iter().map(str::to_owned).collect();
            directory.groups.insert(id.into(), Group { id: id.into(), display_name: String::new(), members });
        }
        assert_eq!(directory.groups_of("A").into_iter().collect::<Vec<_>>(), ["g1", "g2"]);
        assert!(directory.groups_of("nobody").is_empty());
    }

    #[test]
    fn people_are_found_without_case() {
        let mut directory = Directory::default();
        let mut guest = Principal::new("AA", "b_f.com#EXT#@c.com", Kind::Guest);
        guest.mail = Some("b@f.com".into());
        directory.principals.insert("aa".into(), guest);
        assert!(directory.find("aA").is_some());
        assert!(directory.find("B@F.com").is_some());
        assert!(directory.find("B_F.com#ext#@c.com").is_some());
        assert!(directory.find("none").is_none());
    }
}
