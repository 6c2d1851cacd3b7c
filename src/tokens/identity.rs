//! The identities that the configuration names, and how a question refers to one.
//!
//! A person is an identity with a fixed name; no configured one can take that name, so that what
//! rule 0 says of persons cannot be worded away. Nothing here knows a secret.

use std::sync::Arc;

use nightlatch_model::{Guid, TenantId};

use crate::IdentityRef;

/// The name of the identity of whoever signed in under the caller's uid.
pub const PERSON: &str = "person";

/// How the tokens of an identity are got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityKind {
    /// A managed identity of the machine, through IMDS.
    Managed,
    /// The managed identity of an Arc machine, through himds.
    Arc,
    /// An application with a client secret.
    Secret,
    /// An application with a certificate.
    Certificate,
    /// An application or managed identity with a federated token file.
    Federated,
    /// What the Azure CLI of this node is signed in as.
    AzureCli,
    /// The person who signed in under the caller's uid.
    Person,
    /// An application that acts for the person who signed in under the caller's uid.
    OnBehalfOf,
}

impl IdentityKind {
    /// The word, as the configuration and answers spell it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::Arc => "arc",
            Self::Secret => "secret",
            Self::Certificate => "certificate",
            Self::Federated => "federated",
            Self::AzureCli => "azure-cli",
            Self::Person => PERSON,
            Self::OnBehalfOf => "on-behalf-of",
        }
    }

    /// Whether its tokens are those of the person who signed in under the caller's uid.
    #[must_use]
    pub const fn is_personal(self) -> bool {
        matches!(self, Self::Person | Self::OnBehalfOf)
    }

    /// Whether it belongs to the machine as a whole: whoever has it may do what the node may do.
    #[must_use]
    pub const fn is_the_nodes(self) -> bool {
        matches!(self, Self::Managed | Self::Arc)
    }
}

/// One identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityInfo {
    /// Its name in the configuration; what policies and cache keys use.
    pub name: Arc<str>,
    /// How its tokens are got.
    pub kind: IdentityKind,
    /// Its tenant, where the configuration says it.
    pub tenant: Option<TenantId>,
    /// Its application id.
    pub client_id: Option<Guid>,
    /// The object id of its service principal.
    pub object_id: Option<Guid>,
    /// The ARM id of a user-assigned managed identity.
    pub resource_id: Option<String>,
}

impl IdentityInfo {
    /// An identity of which only name and kind are known.
    #[must_use]
    pub fn new(name: &str, kind: IdentityKind) -> Self {
        Self { name: name.into(), kind, tenant: None, client_id: None, object_id: None, resource_id: None }
    }

    /// Whether `which` means this one. [`IdentityRef::Default`] means none.
    fn is_meant(&self, which: &IdentityRef) -> bool {
        match which {
            IdentityRef::Default => false,
            IdentityRef::Name(name) => *self.name == **name,
            IdentityRef::ClientId(id) => self.client_id == Some(*id),
            IdentityRef::ObjectId(id) => self.object_id == Some(*id),
            IdentityRef::ResourceId(id) => {
                self.resource_id.as_ref().is_some_and(|ours| ours.eq_ignore_ascii_case(id))
            }
            IdentityRef::Person => self.kind == IdentityKind::Person,
        }
    }
}

/// All identities, in the order of the configuration, and [`PERSON`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityTable {
    all: Vec<IdentityInfo>,
}

impl IdentityTable {
    /// The table of `identities`. The person is always in it, once and under the fixed name: an entry
    /// that takes that name or that kind is left out, as is the second of one name.
    #[must_use]
    pub fn new(identities: Vec<IdentityInfo>) -> Self {
        let mut all: Vec<IdentityInfo> = Vec::with_capacity(identities.len().saturating_add(1));
        for info in identities {
            let person = info.kind == IdentityKind::Person || *info.name == *PERSON;
            if !person && !all.iter().any(|known| known.name == info.name) {
                all.push(info);
            }
        }
        all.push(IdentityInfo::new(PERSON, IdentityKind::Person));
        Self { all }
    }

    /// The identity of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&IdentityInfo> {
        self.all.iter().find(|info| *info.name == *name)
    }

    /// The first identity that `which` means; nothing for [`IdentityRef::Default`].
    #[must_use]
    pub fn find(&self, which: &IdentityRef) -> Option<&IdentityInfo> {
        self.all.iter().find(|info| info.is_meant(which))
    }

    /// Every identity that `which` means: one application can be configured twice, say with a
    /// certificate and by a federated token, and the policy may grant only the second.
    pub fn meant<'a>(&'a self, which: &'a IdentityRef) -> impl Iterator<Item = &'a IdentityInfo> {
        self.all.iter().filter(move |info| info.is_meant(which))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &IdentityInfo> {
        self.all.iter()
    }
}

impl Default for IdentityTable {
    /// Only the person.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_person_cannot_be_taken() {
        let table = IdentityTable::new(vec![
            IdentityInfo::new(PERSON, IdentityKind::Secret),
            IdentityInfo::new("anna", IdentityKind::Person),
            IdentityInfo::new("node", IdentityKind::Managed),
            IdentityInfo::new("node", IdentityKind::Secret),
        ]);
        let seen: Vec<_> = table.iter().map(|info| (&*info.name, info.kind)).collect();
        assert_eq!(seen, [("node", IdentityKind::Managed), (PERSON, IdentityKind::Person)]);
        assert_eq!(table.find(&IdentityRef::Person), table.by_name(PERSON));
        assert_eq!(IdentityTable::default().iter().count(), 1);
    }

    #[test]
    fn every_way_to_refer_to_an_identity_finds_it_and_nothing_else() {
        let id = |last: u8| Guid::from_bytes([last; 16]);
        let mut one = IdentityInfo::new("one", IdentityKind::Managed);
        one.client_id = Some(id(1));
        one.object_id = Some(id(2));
        one.resource_id = Some("/subscriptions/S/resourceGroups/R".into());
        let two =
            IdentityInfo { name: "two".into(), kind: IdentityKind::Certificate, tenant: None, ..one.clone() };
        let table = IdentityTable::new(vec![IdentityInfo::new("zero", IdentityKind::Arc), one, two]);
        let name = |which: &IdentityRef| table.find(which).map(|info| info.name.to_string());
        assert_eq!(name(&IdentityRef::Name("one".into())).as_deref(), Some("one"));
        assert_eq!(name(&IdentityRef::ClientId(id(1))).as_deref(), Some("one"));
        assert_eq!(name(&IdentityRef::ObjectId(id(2))).as_deref(), Some("one"));
        let arm = IdentityRef::resource_id("/subscriptions/s/RESOURCEGROUPS/r").unwrap();
        assert_eq!(name(&arm).as_deref(), Some("one"));
        assert_eq!(table.meant(&arm).count(), 2, "the same application, configured twice");
        // A client id is no object id, and no reference at all means nobody.
        assert_eq!(name(&IdentityRef::ClientId(id(2))), None);
        assert_eq!(name(&IdentityRef::ObjectId(id(1))), None);
        assert_eq!(name(&IdentityRef::Name("One".into())), None);
        assert_eq!(name(&IdentityRef::Default), None);
    }
}
