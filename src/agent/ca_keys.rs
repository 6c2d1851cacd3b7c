//! Thin for now: only what a machine off Azure needs.
pub(super) async fn keep_fresh(
    _: super::settings::Settings,
    _: std::sync::Arc<super::gate::Gate>,
    _: std::path::PathBuf,
) {
}
