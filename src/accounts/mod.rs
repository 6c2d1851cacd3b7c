//! Who has been let in, and under which uid: bound to `(tid, oid)` at the first yes, for good. Who got a
//! fresh yes, for times when Azure is silent, and whose access was withdrawn.
//!
//! The map is durable before a yes leaves; the snapshot for userdbd follows from it. No file is
//! named by a person, and a uid is never given to a second one.

mod book;
mod grace;
mod sign_ins;
mod uids;
mod withdrawn;

pub use book::{AccountError, Accounts, Bound, Opening};
pub use grace::{GraceLedger, boot_id};
pub use sign_ins::{KeptSignIn, SignIns};
pub use uids::UidOverrides;
pub use withdrawn::{KEEP_WITHDRAWN_S, Withdrawn};
