//! Sign-in sessions and what stands for them: refresh tokens, authorization codes, device codes. Old
//! refresh tokens stay good when new ones are issued, as Entra's do.

use std::collections::HashMap;
use std::time::Instant;

use crate::ids;

/// Somebody signed in once, to some application.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Session {
    pub(crate) oid: String,
    /// Client the session belongs to; empty: any (the seeded refresh tokens).
    pub(crate) client_id: String,
    /// Unix seconds of the sign-in.
    pub(crate) auth_time: i64,
    /// Did the person give credentials at this very sign-in (`prompt=login`)? Then no pinned time stands.
    pub(crate) fresh: bool,
    pub(crate) acrs: Vec<String>,
    pub(crate) scope: String,
    pub(crate) nonce: String,
}

/// An authorization code waiting to be redeemed.
#[derive(Debug, Clone)]
pub(crate) struct Code {
    pub(crate) session: Session,
    pub(crate) redirect_uri: String,
    pub(crate) challenge: String,
    pub(crate) challenge_method: String,
    /// Unix seconds.
    pub(crate) expires: i64,
}

/// A device code waiting for its user.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) user_code: String,
    pub(crate) client_id: String,
    pub(crate) scope: String,
    pub(crate) claims: String,
    pub(crate) polls: u64,
    /// Seconds that the client must leave between polls.
    pub(crate) interval: u64,
    /// When it polled last.
    pub(crate) polled: Option<Instant>,
    /// `None`: waiting. `Some(None)`: declined. `Some(Some(oid))`: approved by that person.
    pub(crate) outcome: Option<Option<String>>,
    /// Unix seconds.
    pub(crate) expires: i64,
}

/// Everything outstanding.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) refresh: HashMap<String, Session>,
    pub(crate) codes: HashMap<String, Code>,
    pub(crate) devices: HashMap<String, Device>,
}

impl Sessions {
    /// A new refresh token for `session`.
    pub(crate) fn issue_refresh(&mut self, session: &Session) -> String {
        let token = format!("0.AX{}", ids::base64url(&ids::random::<48>()));
        self.refresh.insert(token.clone(), session.clone());
        token
    }

    /// A new authorization code.
    pub(crate) fn issue_code(&mut self, code: Code) -> String {
        let text = format!("1.AX{}", ids::base64url(&ids::random::<48>()));
        self.codes.insert(text.clone(), code);
        text
    }

    /// The device code a user code belongs to.
    pub(crate) fn device_by_user_code(&mut self, user_code: &str) -> Option<&mut Device> {
        self.devices.values_mut().find(|device| device.user_code.eq_ignore_ascii_case(user_code))
    }
}
