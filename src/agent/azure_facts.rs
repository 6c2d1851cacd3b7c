//! Thin for now: only what a machine off Azure needs.
pub(super) async fn find_out(_: &crate::config::Config) -> super::settings::Machine {
    super::settings::Machine::default()
}
