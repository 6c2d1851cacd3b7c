//! Every limit of the parser, in one place. None of them is a setting.

/// The largest certificate, in bytes after base64. An Entra certificate has about 1.7 kB.
pub const MAX_CERT_BYTES: usize = 48 * 1024;

/// The longest name of a key or signature type, in bytes.
pub const MAX_TYPE_BYTES: usize = 64;

/// The largest plain public key, in bytes: RSA of [`MAX_RSA_BITS`] takes 1,050.
pub const MAX_KEY_BYTES: usize = 2048;

/// The longest `type base64 comment` line of a public key, in bytes.
pub const MAX_KEY_LINE_BYTES: usize = 8 * 1024;

/// The longest nonce, in bytes. PROTOCOL.certkeys calls 16 or 32 typical.
pub const MAX_NONCE_BYTES: usize = 256;

/// The longest key id, in bytes.
pub const MAX_KEY_ID_BYTES: usize = 1024;

/// How many principals a certificate may list: the same number as `SSHKEY_CERT_MAX_PRINCIPALS`
/// of OpenSSH. Whoever admits a login accepts exactly one.
pub const MAX_PRINCIPALS: usize = 256;

/// The longest principal, in bytes. A UPN has at most 113 characters.
pub const MAX_PRINCIPAL_BYTES: usize = 256;

/// How many critical options, and how many extensions, a certificate may carry.
pub const MAX_OPTIONS: usize = 64;

/// The longest name of a critical option or extension, in bytes.
pub const MAX_OPTION_NAME_BYTES: usize = 128;

/// The largest value of one critical option or extension, in bytes.
pub const MAX_OPTION_BYTES: usize = 32 * 1024;

/// The largest signature field, in bytes: RSA of [`MAX_RSA_BITS`] takes 1,044.
pub const MAX_SIGNATURE_BYTES: usize = 2048;

/// The smallest RSA modulus, in bits, for the holder's key and for the authority's.
pub const MIN_RSA_BITS: u32 = 2048;

/// The largest RSA modulus, in bits: what aws-lc verifies. A larger one costs time, not safety.
pub const MAX_RSA_BITS: u32 = 8192;

/// The largest RSA public exponent, in bits: what aws-lc verifies.
pub const MAX_RSA_EXPONENT_BITS: u32 = 33;
