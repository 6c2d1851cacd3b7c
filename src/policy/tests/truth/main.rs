//! What the decision must be: truth tables, past bugs of other products by name, properties, and a
//! second evaluation of Azure RBAC that shares no code with the first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod combine;
mod decide;
mod decisions;
#[allow(dead_code, reason = "other tests need more of it")]
mod dice;
mod given;
mod grace;
mod grace_properties;
mod judge;
mod properties;
mod rbac;
mod rbac_model;
mod text;
mod world;
