//! The nouns that every room of Nightlatch shares: ids, names, roles, reasons, time, secrets.
//!
//! Nothing here reads a clock, a file or the network, and nothing here decides. A type in this
//! room is proof that its value was checked once, at the edge where it came in.

mod account;
mod context;
mod correlation;
mod guid;
mod name;
mod reason;
mod role;
mod secret;
mod span;
mod time;

pub use account::{
    ADMIN_GID, ADMIN_GROUP, Account, MAX_ACCOUNTS, MAX_SNAPSHOT_BYTES, Snapshot, SnapshotError, UID_HIGH,
    UID_LOW, home_of, is_our_uid, uid_of,
};
pub use context::{AuthContext, NoContext};
pub use correlation::correlation_id;
pub use guid::{Guid, GuidError, ObjectId, TenantId};
pub use name::{LoginName, MAX_NAME_BYTES, NameError};
pub use reason::{Answer, Reason};
pub use role::Role;
pub use secret::Secret;
pub use span::Span;
pub use time::{Civil, Timestamp};
