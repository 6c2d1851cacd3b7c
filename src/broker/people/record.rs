//! What is sealed of one sign-in, and to what it is bound.

use nightlatch_model::{Guid, ObjectId, Secret, TenantId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::SignedIn;
use crate::entra::sign_in::SignIn;

/// What the names of these entries begin with.
pub(super) const PREFIX: &str = "person/";
/// Room for everything but the refresh token, in bytes, so that the buffer need not grow and leave a copy.
const OTHER_BYTES: usize = 1024;

/// The entry of a uid.
pub(super) fn name_of(uid: u32) -> String {
    format!("{PREFIX}{uid}")
}

/// One sign-in.
pub(super) struct Record {
    pub(super) uid: u32,
    pub(super) who: SignedIn,
    pub(super) client: Guid,
    pub(super) refresh_token: Secret,
}

#[derive(Serialize, Deserialize)]
struct Written<T> {
    uid: u32,
    tenant: TenantId,
    object_id: ObjectId,
    username: T,
    client: Guid,
    refresh_token: T,
}

impl Record {
    /// The bytes to seal.
    pub(super) fn write(&self) -> Zeroizing<Vec<u8>> {
        let written = Written {
            uid: self.uid,
            tenant: self.who.tenant,
            object_id: self.who.object_id,
            username: self.who.username.as_str(),
            client: self.client,
            refresh_token: self.refresh_token.expose(),
        };
        let room = OTHER_BYTES + self.refresh_token.expose().len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        // Plain texts and ids, written into memory: there is nothing that could fail.
        let _ = serde_json::to_writer(&mut *bytes, &written);
        bytes
    }

    /// Reads what [`Self::write`] made under `name`; `None` for anything else, also for another uid's.
    pub(super) fn read(name: &str, bytes: &[u8]) -> Option<Self> {
        let written: Written<String> = serde_json::from_slice(bytes).ok()?;
        let refresh_token = Secret::new(written.refresh_token);
        let who =
            SignedIn { username: written.username, tenant: written.tenant, object_id: written.object_id };
        (name_of(written.uid) == name).then_some(Self {
            uid: written.uid,
            who,
            client: written.client,
            refresh_token,
        })
    }

    /// Whether it was made by this application in this tenant.
    pub(super) fn is_bound_to(&self, sign_in: &SignIn) -> bool {
        self.client == sign_in.client() && self.who.tenant == sign_in.tenant()
    }
}
