//! The one line that the hook may print: an `authorized_keys` line (sshd(8), AUTHORIZED_KEYS FILE FORMAT)
//! from a closed grammar.
//!
//! ```text
//! restrict,pty[,port-forwarding][,agent-forwarding][,X11-forwarding],cert-authority,
//! principals="[A-Za-z0-9._+@-]{1,128}",expiry-time="YYYYMMDDhhmmss[Z]" TYPE BASE64     (one line)
//! ```
//!
//! [`AdmitLine`] is the only way to make one; [`is_admit_line`] judges finished bytes and shares no code
//! with it. Neither ever repairs a value: what does not fit is refused.

use std::fmt;

pub use crate::check::is_admit_line;

/// Longest principal, in bytes.
pub const MAX_PRINCIPAL_BYTES: usize = 128;

/// Longest base64 text of a CA key, in bytes (RSA with 4096 bits needs 716).
pub const MAX_CA_KEY_BYTES: usize = 8 * 1024;

/// The CA key types that may stand in a line.
pub const CA_KEY_TYPES: [&str; 4] = ["ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ssh-ed25519"];

/// Why no line was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    /// The principal is empty, too long, or has a byte outside letters, digits and `._+@-`.
    Principal,
    /// The end is no date and time between 1970 and 9999.
    Expiry,
    /// The CA key's type is not in [`CA_KEY_TYPES`].
    KeyType,
    /// The CA key is not canonical base64 with padding, is empty, or is above [`MAX_CA_KEY_BYTES`].
    Key,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Principal => "the certificate's principal has a form that is not let through to sshd",
            Self::Expiry => "the end of the access is not a date between 1970 and 9999",
            Self::KeyType => {
                "the CA key has a type that is not let through to sshd: use RSA, ECDSA or Ed25519"
            }
            Self::Key => "the CA key is not base64 of at most 8 KiB",
        })
    }
}

impl std::error::Error for LineError {}

/// What a session may do beside a terminal. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineOptions {
    /// `-L`, `-R`, `-D`.
    pub port_forwarding: bool,
    /// `-A`.
    pub agent_forwarding: bool,
    /// `-X`, `-Y`.
    pub x11_forwarding: bool,
}

/// When sshd stops to accept the line. It bounds the login, not the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    civil: (i64, u8, u8, u8, u8, u8),
    utc: bool,
}

impl Expiry {
    /// Year, month, day, hour, minute, second in UTC: printed with `Z`, which sshd reads from 9.1 on.
    ///
    /// # Errors
    /// [`LineError::Expiry`].
    pub fn utc(civil: (i64, u8, u8, u8, u8, u8)) -> Result<Self, LineError> {
        Self::checked(civil, true)
    }

    /// The same in the node's local time: printed without `Z`, for sshd before 9.1.
    ///
    /// # Errors
    /// [`LineError::Expiry`].
    pub fn local(civil: (i64, u8, u8, u8, u8, u8)) -> Result<Self, LineError> {
        Self::checked(civil, false)
    }

    /// Reads `YYYYMMDDhhmmss` or `YYYYMMDDhhmmssZ`.
    ///
    /// # Errors
    /// [`LineError::Expiry`].
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let digits = text.strip_suffix('Z').unwrap_or(text);
        if digits.len() != 14 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(LineError::Expiry);
        }
        let part = |from: usize| -> Result<u8, LineError> {
            let two = digits.get(from..from + 2).ok_or(LineError::Expiry)?;
            two.parse().map_err(|_| LineError::Expiry)
        };
        let year = digits.get(..4).and_then(|y| y.parse().ok()).ok_or(LineError::Expiry)?;
        let civil = (year, part(4)?, part(6)?, part(8)?, part(10)?, part(12)?);
        Self::checked(civil, digits.len() != text.len())
    }

    fn checked(civil: (i64, u8, u8, u8, u8, u8), utc: bool) -> Result<Self, LineError> {
        let (year, month, day, hour, minute, second) = civil;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last_day = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let sound = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=last_day).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if sound { Ok(Self { civil, utc }) } else { Err(LineError::Expiry) }
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day, hour, minute, second) = self.civil;
        let zone = if self.utc { "Z" } else { "" };
        write!(f, "{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}{zone}")
    }
}

/// A finished line without its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmitLine(String);

impl AdmitLine {
    /// Makes the line. The principal is the certificate's own spelling; the key is the CA's.
    ///
    /// # Errors
    /// [`LineError`] names the first part that does not fit the grammar.
    pub fn new(
        options: LineOptions,
        principal: &str,
        expires: Expiry,
        ca_key_type: &str,
        ca_key_base64: &str,
    ) -> Result<Self, LineError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+@-".contains(&b);
        if principal.is_empty() || principal.len() > MAX_PRINCIPAL_BYTES || !principal.bytes().all(allowed) {
            return Err(LineError::Principal);
        }
        if !CA_KEY_TYPES.contains(&ca_key_type) {
            return Err(LineError::KeyType);
        }
        if ca_key_base64.len() > MAX_CA_KEY_BYTES || !is_canonical_base64(ca_key_base64) {
            return Err(LineError::Key);
        }
        let port = if options.port_forwarding { ",port-forwarding" } else { "" };
        let agent = if options.agent_forwarding { ",agent-forwarding" } else { "" };
        let x11 = if options.x11_forwarding { ",X11-forwarding" } else { "" };
        Ok(Self(format!(
            "restrict,pty{port}{agent}{x11},cert-authority,principals=\"{principal}\",expiry-time=\"{expires}\" \
             {ca_key_type} {ca_key_base64}"
        )))
    }

    /// The line as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The line as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The line, to be sent as [`crate::Message::Line`].
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for AdmitLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` is non-empty RFC 4648 §4 base64 with padding whose unused last bits are zero.
fn is_canonical_base64(text: &str) -> bool {
    let value = |b: u8| -> Option<u8> {
        Some(match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    let core = text.trim_end_matches('=');
    let spare_bits = match text.len() - core.len() {
        0 => 0,
        1 => 0b11,
        2 => 0b1111,
        _ => return false,
    };
    let last = core.bytes().last().and_then(value);
    text.len().is_multiple_of(4)
        && core.bytes().all(|b| value(b).is_some())
        && last.is_some_and(|bits| bits & spare_bits == 0)
}
