//! Puts the product into a node: the programs as they were built, the units as they stand in the
//! repository, and what a package would run after unpacking them.
//!
//! A test must never run against yesterday's program, so an executable older than any of its sources
//! (by cargo's own list of them) is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::node::Node;
use crate::run::{WorldError, source_folder, target_folder};

/// The product's programs, found and fresh.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// (built file, place in the node).
    programs: Vec<(PathBuf, &'static str)>,
}

/// Below the target folder, and where it is installed.
const PROGRAMS: [(&str, &str); 6] = [
    ("debug/nightlatchd", "/usr/sbin/nightlatchd"),
    ("debug/nightlatch", "/usr/bin/nightlatch"),
    ("debug/userdbd", "/usr/libexec/nightlatch/userdbd"),
    ("debug/sessiond", "/usr/libexec/nightlatch/sessiond"),
    ("static/hook/authorized-keys", "/usr/libexec/nightlatch/authorized-keys"),
    ("static/hook/pam", "/usr/libexec/nightlatch/pam"),
];

impl Binaries {
    /// The programs under the target folder.
    ///
    /// # Errors
    /// When one is missing or older than its sources; the cure is `make build`.
    pub fn find() -> Result<Self, WorldError> {
        Self::find_in(&target_folder())
    }

    /// The programs under a given target folder.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn find_in(target: &Path) -> Result<Self, WorldError> {
        let mut programs = Vec::new();
        for (built, installed) in PROGRAMS {
            let path = target.join(built);
            check_fresh(&path)?;
            programs.push((path, installed));
        }
        Ok(Self { programs })
    }
}

/// Refuses an executable that is missing, or older than a file that cargo says it was made from.
fn check_fresh(path: &Path) -> Result<(), WorldError> {
    let missing = |what: &Path| WorldError::new(format!("{} is missing: run `make build`", what.display()));
    let built = modified(path).ok_or_else(|| missing(path))?;
    let list = path.with_extension("d");
    let list = fs::read_to_string(&list).map_err(|_| missing(&list))?;
    match sources_of(&list).find(|source| modified(Path::new(source)).is_none_or(|changed| changed > built)) {
        None => Ok(()),
        Some(source) => Err(WorldError::new(format!(
            "{} is older than {source} (or that file is gone): run `make build`",
            path.display()
        ))),
    }
}

/// The source files in a dep-info file, `program: source source …`; a space in a name is `\ `.
fn sources_of(list: &str) -> impl Iterator<Item = String> {
    let line = list.lines().next().unwrap_or_default();
    let sources = line.split_once(": ").map_or("", |(_, sources)| sources).replace("\\ ", "\0");
    sources
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| word.replace('\0', " "))
        .collect::<Vec<_>>()
        .into_iter()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// Installs the product: programs, units, users and folders; starts what its units start.
///
/// # Errors
/// When a file cannot be placed or a unit does not start; the unit's journal is in the error.
pub fn install(node: &Node, binaries: &Binaries) -> Result<(), WorldError> {
    node.shell("install -d -m 0755 /usr/libexec/nightlatch /etc/nightlatch /usr/lib/systemd/system")?;
    for (built, installed) in &binaries.programs {
        node.copy_in(built, installed, 0o755)?;
    }
    let folder = source_folder().join("systemd");
    let mut units = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|why| WorldError::io(folder.display(), &why))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let place = match name.as_str() {
            "sysusers.conf" => "/usr/lib/sysusers.d/nightlatch.conf".to_owned(),
            "tmpfiles.conf" => "/usr/lib/tmpfiles.d/nightlatch.conf".to_owned(),
            "nightlatch.catalog" => "/usr/lib/systemd/catalog/nightlatch.catalog".to_owned(),
            unit if [".service", ".socket", ".path"].iter().any(|end| unit.ends_with(end)) => {
                units.push(unit.to_owned());
                format!("/usr/lib/systemd/system/{unit}")
            }
            _ => continue,
        };
        node.copy_in(&entry.path(), &place, 0o644)?;
    }
    node.shell("systemd-sysusers && systemd-tmpfiles --create && journalctl --update-catalog && systemctl daemon-reload")?;
    // Sockets first: they are bound before the service that takes them over.
    units.sort_by_key(|unit| (!unit.ends_with(".socket"), unit.clone()));
    for unit in units {
        if let Err(why) = node.shell(&format!("systemctl enable --now {unit}")) {
            let journal = node.journal(&["-u", &unit]).unwrap_or_default();
            return Err(WorldError::new(format!("{why}\njournal of {unit}:\n{journal}")));
        }
    }
    watchdogs(node, false)
}

/// Whether systemd ends a service of the node that has not shown itself in time. A machine under test stands still for longer
/// than the 500 ms of the name responder now and then: off, except in the stories that are about it.
///
/// # Errors
/// What systemctl says.
pub fn watchdogs(node: &Node, on: bool) -> Result<(), WorldError> {
    node.shell(&format!("systemctl service-watchdogs {}", if on { "yes" } else { "no" })).map(drop)
}

/// Attaches the product to sshd, PAM, NSS and sudo with its own command. The configuration must be in
/// place, with `mode = "enforce"`.
///
/// # Errors
/// What `nightlatch attach` says when it refuses.
pub fn attach(node: &Node) -> Result<(), WorldError> {
    node.shell("nightlatch attach").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dep_info_is_read_with_its_escapes() {
        let list = "/t/debug/x: /a/one.rs /a/with\\ space.rs\n\n/a/one.rs:\n";
        assert_eq!(sources_of(list).collect::<Vec<_>>(), ["/a/one.rs", "/a/with space.rs"]);
    }

    #[test]
    fn a_stale_or_missing_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let source = folder.path().join("main.rs");
        let said = check_fresh(&program).unwrap_err().to_string();
        assert!(said.contains("make build"), "{said}");

        fs::write(&source, "fn main() {}").unwrap();
        fs::write(&program, "elf").unwrap();
        fs::write(folder.path().join("program.d"), format!("{}: {}\n", program.display(), source.display()))
            .unwrap();
        check_fresh(&program).unwrap();

        let later = modified(&program).unwrap() + std::time::Duration::from_secs(1);
        fs::File::options().append(true).open(&source).unwrap().set_modified(later).unwrap();
        let said = check_fresh(&program).unwrap_err().to_string();
        assert!(said.contains("main.rs"), "{said}");
    }
}
