//! What the access rules must say: a second telling of the walk, and what must hold of it in a decision.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod case;
mod chance;
#[path = "../truth/dice.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod dice;
mod forward;
#[path = "../truth/given.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod given;
mod mistakes;
mod model;
mod narrow;
mod places;
mod plain;
mod role;
mod session;
mod text;
mod told;
mod walk;
mod when;
mod whole;
mod world;
