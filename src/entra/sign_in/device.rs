//! A sign-in on another device: what the person is shown, and how often Entra may be asked meanwhile.

use std::time::Duration;

use nightlatch_model::Secret;
use serde::Deserialize;

/// The longest that a device code is waited for, whatever Entra says.
pub const DEVICE_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long to wait between two questions when Entra does not say (RFC 8628 section 3.2).
const DEFAULT_INTERVAL: u64 = 5;
/// The shortest and the longest wait that is believed, in seconds.
const INTERVALS: (u64, u64) = (1, 60);
/// What `slow_down` adds to the wait (RFC 8628 section 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// The longest text that is shown from the answer, in bytes.
const MAX_SHOWN_BYTES: usize = 512;

/// A device code and what to show of it.
pub struct Device {
    code: Secret,
    claims: Option<String>,
    /// What the person types.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// Entra's own sentence about it.
    pub message: String,
    /// How long the code is good.
    pub expires_in: Duration,
    interval: Duration,
}

#[derive(Deserialize)]
struct Raw {
    device_code: String,
    user_code: String,
    // The older name of the field is `verification_url`.
    #[serde(alias = "verification_url")]
    verification_uri: String,
    expires_in: u64,
    interval: Option<u64>,
    #[serde(default)]
    message: String,
}

impl Device {
    /// Reads the answer of the endpoint; `None` when it is none, or would show something strange.
    pub(super) fn read(body: &[u8], claims: Option<&str>) -> Option<Self> {
        let raw: Raw = serde_json::from_slice(body).ok()?;
        let code = Secret::new(raw.device_code);
        let shown = |text: &String| {
            text.len() <= MAX_SHOWN_BYTES && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        };
        let page = raw.verification_uri.starts_with("https://");
        if !page
            || raw.user_code.is_empty()
            || ![&raw.user_code, &raw.verification_uri].into_iter().all(shown)
        {
            return None;
        }
        let interval = raw.interval.unwrap_or(DEFAULT_INTERVAL).clamp(INTERVALS.0, INTERVALS.1);
        Some(Self {
            code,
            claims: claims.map(str::to_owned),
            user_code: raw.user_code,
            verification_uri: raw.verification_uri,
            message: Some(raw.message).filter(shown).unwrap_or_default(),
            expires_in: Duration::from_secs(raw.expires_in).min(DEVICE_LIMIT),
            interval: Duration::from_secs(interval),
        })
    }

    pub(super) fn code(&self) -> &str {
        self.code.expose()
    }

    pub(super) fn claims(&self) -> Option<&str> {
        self.claims.as_deref()
    }

    /// The waits between the questions.
    #[must_use]
    pub const fn pace(&self) -> Pace {
        Pace { interval: self.interval, left: self.expires_in }
    }
}

/// How long to wait before each question, until the code has ended.
#[derive(Clone, Debug)]
pub struct Pace {
    interval: Duration,
    left: Duration,
}

impl Pace {
    /// The wait before the next question; `None` when the code has ended by then.
    pub fn wait(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(self.interval)?;
        Some(self.interval)
    }

    /// From now on more slowly: Entra said so, or could not be reached.
    pub fn slow_down(&mut self) {
        self.interval = self.interval.saturating_add(SLOW_DOWN);
    }
}
