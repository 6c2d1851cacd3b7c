//! The two numbers that the kernel's audit keeps for a login (pam_loginuid(8) sets them): whose it is and
//! which. What cannot be read is said to be unset; it is never guessed.

use std::fs;

use nightlatch_wire::NO_LOGINUID;

/// The login uid of this process; [`NO_LOGINUID`] when unset or when the kernel keeps none.
#[must_use]
pub fn loginuid() -> u32 {
    number("/proc/self/loginuid")
}

/// The audit session of this process; [`NO_LOGINUID`] when unset or when the kernel keeps none.
#[must_use]
pub fn session() -> u32 {
    number("/proc/self/sessionid")
}

fn number(file: &str) -> u32 {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim_end().parse().unwrap_or(NO_LOGINUID)
}
