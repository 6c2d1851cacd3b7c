//! Stories on a real node: one file a topic, one test binary. Real sshd, real PAM, real NSS.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a failed assumption of a story is a failed story, and stories happen in real time"
)]

mod acceptance;
mod breakage;
mod doors;
mod logins;
mod matrix;
mod past_bugs;
mod people;
mod review;
mod site;
mod storms;
