//! Authentication contexts of Conditional Access: numbered names to which a tenant ties policies. A sign-in asks for one,
//! and the claim `acrs` of its tokens says which ones it satisfied (Microsoft Learn, "Developer guide to Conditional
//! Access authentication context").

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The largest number of a context.
const MAX_CONTEXT: u8 = 99;

/// One context, `c1` to `c99`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthContext(u8);

/// Why a text names no context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an authentication context is `c1` to `c99`")]
pub struct NoContext;

impl FromStr for AuthContext {
    type Err = NoContext;

    fn from_str(text: &str) -> Result<Self, NoContext> {
        let digits = text.strip_prefix('c').ok_or(NoContext)?;
        let plain = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        let number = digits.parse().ok().filter(|number| plain && *number <= MAX_CONTEXT);
        number.map(Self).ok_or(NoContext)
    }
}

impl fmt::Display for AuthContext {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "c{}", self.0)
    }
}
