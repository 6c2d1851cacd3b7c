//! Who stands behind a certificate: `(tid, oid)`, never a name, an e-mail address or a group.

use std::collections::HashMap;

use nightlatch_model::{LoginName, ObjectId};
use serde::Deserialize;

/// The largest identity map, in bytes.
pub const MAX_MAP_BYTES: u64 = 4 * 1024 * 1024;

/// The extensions that carry the ids. Their real names are not public: the defaults are assumed.
#[derive(Debug, Clone)]
pub struct Extensions {
    /// The object id's.
    pub oid: String,
    /// The tenant id's.
    pub tid: String,
}

impl Default for Extensions {
    fn default() -> Self {
        Self { oid: "oid@entra.microsoft.com".into(), tid: "tid@entra.microsoft.com".into() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapFile {
    #[serde(default)]
    person: Vec<MapRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapRow {
    name: LoginName,
    oid: ObjectId,
}

/// The administrator's table of names and object ids, for certificates without the extension.
#[derive(Debug, Clone, Default)]
pub struct IdentityMap(HashMap<LoginName, ObjectId>);

impl IdentityMap {
    /// Reads `[[person]] name = "…" oid = "…"`.
    ///
    /// # Errors
    /// The parser's words with the line, or the name that stands in it twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: MapFile = toml::from_str(text).map_err(|cause| cause.to_string())?;
        let mut map = HashMap::new();
        for row in file.person {
            if map.insert(row.name.clone(), row.oid).is_some() {
                return Err(format!("`{}` stands in it twice", row.name));
            }
        }
        Ok(Self(map))
    }

    /// The object id of a name.
    #[must_use]
    pub fn get(&self, name: &LoginName) -> Option<ObjectId> {
        self.0.get(name).copied()
    }
}
