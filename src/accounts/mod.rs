//! Who has been let in, and under which uid: bound to `(tid, oid)` at the first yes, for good.
//!
//! The map is durable before a yes leaves; the snapshot for userdbd follows from it. No file is
//! named by a person, and a uid is never given to a second one.

mod book;
mod uids;

pub use book::{AccountError, Accounts, Bound};
pub use uids::UidOverrides;
