//! Every limit of this room, with its unit.

/// The longest token, in bytes: one with 200 groups has about 10 KiB (reference/04 §2.3, reference/08 row 62).
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The longest OpenPubkey token, in bytes: two ID tokens and the client's part.
pub const MAX_PK_TOKEN_BYTES: usize = 40 * 1024;
/// How long after the first sign-in a refreshed ID token counts, in seconds: 7 days. A withdrawal is remembered longer.
pub const MAX_REFRESHED_S: i64 = 7 * 24 * 3_600;
/// The longest key id, in bytes; Entra's have 27.
pub const MAX_KID_BYTES: usize = 128;
/// The most items of a list in a claim; Entra puts at most 200 groups into a token.
pub const MAX_CLAIM_ITEMS: usize = 256;
/// The longest text in a claim that is kept, in bytes.
pub(crate) const MAX_CLAIM_BYTES: usize = 1_024;
/// How deep JSON may be nested; Entra's claims have three levels.
pub(crate) const MAX_DEPTH: usize = 8;
/// The most members and items of one JSON text.
pub(crate) const MAX_NODES: usize = 2_048;
/// The largest leeway for clocks that differ, in seconds.
pub const MAX_LEEWAY_S: i64 = 300;
/// The longest life of a token, in seconds: 28 h, what Entra gives to clients that take part in continuous access
/// evaluation.
pub const MAX_LIFETIME_S: i64 = 28 * 3_600;

/// The largest key-set document, in bytes.
pub const MAX_JWKS_BYTES: usize = 256 * 1024;
/// The most keys that are kept; a document has 6 to 14, and a new one comes every three days (reference/04 §2.1).
pub const MAX_KEYS: usize = 128;
/// The most issuers that name one key: the documents of v1 and v2 have the same keys.
pub(crate) const MAX_ISSUERS_OF_A_KEY: usize = 4;
/// How long a key is kept after it was last seen in a document, in seconds: 72 h. Keys vanished for up to 48 h and came
/// back (reference/04 §2.1).
pub const KEY_GRACE_S: i64 = 72 * 3_600;
/// How long keys are used after the newest document, in seconds: 30 days, for a node that is cut off. A key that Entra
/// takes back meanwhile is not noticed; nor would the person's roles be.
pub const MAX_STALE_S: i64 = 30 * 24 * 3_600;
/// The smallest RSA modulus, in bits.
pub(crate) const MIN_RSA_BITS: usize = 2_048;
/// The largest RSA modulus, in bits.
pub(crate) const MAX_RSA_BITS: usize = 8_192;
/// The shortest time between two fetches because of unknown keys, in seconds (reference/08 rows 4 and 70).
pub const REFETCH_S: i64 = 300;
