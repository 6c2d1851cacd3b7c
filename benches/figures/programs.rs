//! The programs that are measured, as built: nothing here may be older than its sources, and the floor must
//! be built the way the hook is.

use std::path::{Path, PathBuf};
use std::process::Command;

use nightlatch_world::Binaries;

/// Where everything lies.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
    /// The static hook.
    pub(crate) hook: PathBuf,
    /// The static floor of the hook.
    pub(crate) floor: PathBuf,
    /// The static helper that says yes.
    pub(crate) exit0: PathBuf,
    /// The static floor of the credential plugin.
    pub(crate) token: PathBuf,
    /// The command line in this bench's own profile.
    pub(crate) command: PathBuf,
    /// The daemon in the same profile.
    pub(crate) daemon: PathBuf,
    /// The name responder in the same profile.
    pub(crate) userdbd: PathBuf,
    /// What `make build` made, for everything else that a node gets.
    pub(crate) built: Binaries,
}

impl Programs {
    /// Checks what is there and builds what only a bench needs.
    ///
    /// # Errors
    /// When something is missing or stale, or the floor's profile is not the hook's.
    pub(crate) fn find() -> Result<Self, String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let target = scratch.parent().ok_or("no target folder")?.to_owned();
        let built = Binaries::find().map_err(|why| why.to_string())?;
        same_profiles(source)?;
        let floor = source.join("benches/floor/Cargo.toml");
        let floors = target.join("floor");
        for name in ["floor", "exit0", "token"] {
            let mut command = cargo();
            command.args(["rustc", "--quiet", "--locked", "--profile", "hook", "--bin", name]);
            command.arg("--manifest-path").arg(&floor).arg("--target-dir").arg(&floors);
            run(command.args(["--", "-C", "target-feature=+crt-static"]))?;
        }
        let daemon = PathBuf::from(env!("CARGO_BIN_EXE_nightlatchd"));
        let folder = daemon.parent().ok_or("no folder of programs")?.to_owned();
        let mut command = cargo();
        command
            .args(["build", "--quiet", "--locked", "-p", "nightlatch-userdbd", "--target-dir"])
            .arg(&target);
        if folder.ends_with("release") {
            command.arg("--release");
        }
        run(command.arg("--manifest-path").arg(source.join("Cargo.toml")))?;
        Ok(Self {
            hook: target.join("static/hook/authorized-keys"),
            floor: floors.join("hook/floor"),
            exit0: floors.join("hook/exit0"),
            token: floors.join("hook/token"),
            command: PathBuf::from(env!("CARGO_BIN_EXE_nightlatch")),
            userdbd: folder.join("userdbd"),
            daemon,
            target,
            built,
        })
    }
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|why| format!("cargo: {why}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}

/// The floor is a workspace of its own and so has a copy of the profiles; a stale copy would measure the
/// compiler instead of the hook.
fn same_profiles(source: &Path) -> Result<(), String> {
    let read = |path: PathBuf| -> Result<toml::Table, String> {
        let text = std::fs::read_to_string(&path).map_err(|why| format!("{}: {why}", path.display()))?;
        text.parse().map_err(|why| format!("{}: {why}", path.display()))
    };
    let (root, floor) = (read(source.join("Cargo.toml"))?, read(source.join("benches/floor/Cargo.toml"))?);
    for profile in ["release", "hook"] {
        let of = |manifest: &toml::Table| manifest.get("profile").and_then(|all| all.get(profile)).cloned();
        if of(&root).is_none() || of(&root) != of(&floor) {
            return Err(format!(
                "[profile.{profile}] of benches/floor/Cargo.toml is not the root's: copy it"
            ));
        }
    }
    Ok(())
}
