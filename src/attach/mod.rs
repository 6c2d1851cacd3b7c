//! Attaching Nightlatch to sshd, PAM, NSS and sudo, taking it out again, and finding out whether
//! all of it is in force. The edits are functions from text to text; `place` writes them.
//!
//! Must never change what a local user meets: each line is bound to our names or our uids, nothing
//! is switched before sshd and visudo have accepted it, and what does not hold is put back.

mod blocks;
pub mod doctor;
pub mod glob;
mod interactive;
pub mod nsswitch;
pub mod pam_edit;
pub mod pam_stack;
mod place;
pub mod plan;
pub mod ready;
mod refusal;
mod reload;
mod run;
pub mod sshd_config;
pub mod sshd_edit;
mod tools;

#[cfg(test)]
mod run_tests;

pub use interactive::Interactive;
pub use place::Root;
pub use plan::{Mode, Wish};
pub use refusal::Refusal;
pub use run::{Report, attach, detach};
pub use tools::{Said, System, Tools};
