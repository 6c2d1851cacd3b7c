//! The ssh decision: what may be offered, who stands behind it, and which connection it was.
//!
//! Everything here is computed from what is handed in. The agent brings keys, files, time and
//! the answers of Azure; this room never fetches, never writes, and never lets anybody in alone.

mod admit;
#[cfg(test)]
mod admit_tests;
mod expiration;
mod identity;
mod limits;
mod local;
mod monitors;
mod openpubkey;
#[cfg(test)]
mod openpubkey_tests;
mod prompted;
mod trust;
mod verified;

pub use admit::{Admission, AdmitRules, Admitted, Known, Offered, admit, clean, reason_of};
pub use expiration::{DEFAULT_EXPIRATION, ExpirationError, expiration};
pub use identity::{Extensions, IdentityMap, MAX_MAP_BYTES};
pub use limits::Limiter;
pub use local::LocalNames;
pub use monitors::{Call, LastCall, Monitors, TableFull};
pub use openpubkey::{NameClaim, ProofRules};
pub use prompted::{Prompted, read_prompted};
pub use trust::{
    Authority, Handle, KeptKey, KeySource, MAX_CA_KEYS, MAX_TRUST_FILE_BYTES, Revocations, TrustStore,
    TrustedKey, parse_ca_file,
};
pub use verified::Verified;

pub use nightlatch_model::correlation_id;
