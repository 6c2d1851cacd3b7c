//! A real node for tests, demo, playground and benches: systemd as pid 1, sshd, PAM, logind and NSS.
//!
//! A node is an overlay of this host's own root, booted by `systemd-nspawn` in namespaces of its own.
//! It holds the product's programs, and nothing of it is simulated. This crate must never change the
//! host: no package, no file outside the target folder and `/tmp`, no mount that others see, no process
//! that outlives the owner of a [`Node`].
#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits on other programs: it polls with a deadline and reads the clock"
)]

mod certificate;
mod cluster;
mod desk;
mod image;
mod install;
mod node;
mod openpubkey;
mod person;
pub mod playground;
mod prompt;
mod run;
mod service;
mod story;
mod tenant;

pub use certificate::{CertificateSpec, LocalCa};
pub use cluster::Cluster;
pub use image::{Image, prepare};
pub use install::{Binaries, attach, install, watchdogs};
pub use node::{AZURE_HOSTS, InNetwork, Node, NodeSpec};
pub use openpubkey::{
    OPENPUBKEY_CLIENT, OPENPUBKEY_SCOPE, as_traveller, openpubkey_holder, openpubkey_person,
    openpubkey_sign_in, register_openpubkey, traveller, traveller_of, traveller_shell,
};
pub use person::{Person, SshOutcome, local_user};
pub use prompt::AtThePrompt;
pub use run::{WorldError, wait_until};
pub use service::{Service, interop, interop_drivers};
pub use story::Story;
pub use tenant::{Metadata, Tenant};
