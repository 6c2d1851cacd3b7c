//! Reading the file and its drop-ins: each is checked alone (so that an error has its line),
//! then they are laid over each other in the order of their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::file::Config;
use crate::store::{StoreError, read_capped};

/// The configuration file.
pub const FILE: &str = "/etc/nightlatch/nightlatch.toml";
/// The folder of its drop-ins.
pub const DROP_INS: &str = "/etc/nightlatch/conf.d";
/// The largest configuration file, in bytes.
const MAX_CONFIG_BYTES: u64 = 256 * 1024;
/// The most drop-ins.
const MAX_DROP_INS: usize = 64;

/// Why the configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("the configuration cannot be read")]
    Store(#[source] StoreError),
    /// A file breaks the rules; the text names line, column and key.
    #[error("`{path}`: {text}")]
    Bad {
        /// The file.
        path: PathBuf,
        /// The parser's words, with the line.
        text: String,
    },
    /// The folder of drop-ins cannot be read: what stands in it may be what makes this node strict.
    #[error("the drop-ins in `{0}` cannot be read ({1}): `chmod go+rx {0}`")]
    Folder(PathBuf, std::io::Error),
    /// Somebody leaves a folder full of files.
    #[error("more than {MAX_DROP_INS} drop-ins in `{0}`")]
    TooMany(PathBuf),
    /// Somebody else than root could change what is decided.
    #[error("`{0}` must be owned by root and writable by nobody else: `chown root {0}; chmod go-w {0}`")]
    Ownership(PathBuf),
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This file.
    File(PathBuf),
    /// Found out on the machine: azure.json, IMDS.
    Machine(&'static str),
    /// Built in.
    Default,
}

/// One value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The dotted key.
    pub key: String,
    /// The value as it would stand in the file.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// The configuration with the origin of each key that was set.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Dotted key to the file that set it last.
    pub origins: BTreeMap<String, PathBuf>,
}

/// Loads the installed configuration.
///
/// # Errors
/// As [`load`].
pub fn load_installed() -> Result<Loaded, ConfigError> {
    load(Path::new(FILE), Path::new(DROP_INS))
}

/// Loads `main` and `drop_ins/*.toml`; a missing file is an empty one.
///
/// # Errors
/// The first file that is refused; nothing of it is used.
pub fn load(main: &Path, drop_ins: &Path) -> Result<Loaded, ConfigError> {
    let mut files = vec![main.to_path_buf()];
    files.extend(drop_ins_in(drop_ins)?);
    let mut whole = toml::Table::new();
    let mut origins = BTreeMap::new();
    for path in files {
        let Some(bytes) = read_capped(&path, MAX_CONFIG_BYTES).map_err(ConfigError::Store)? else { continue };
        check_owner(&path)?;
        let bad = |text: String| ConfigError::Bad { path: path.clone(), text };
        let text = String::from_utf8(bytes).map_err(|_| bad("not UTF-8".into()))?;
        // Alone first, so that the message has the line of this file.
        toml::from_str::<Config>(&text).map_err(|cause| bad(cause.to_string().trim_end().to_owned()))?;
        let table: toml::Table = toml::from_str(&text).map_err(|cause| bad(cause.to_string()))?;
        overlay(&mut whole, table, "", &path, &mut origins);
    }
    let config = Config::deserialize(toml::Value::Table(whole))
        .map_err(|cause| ConfigError::Bad { path: main.to_path_buf(), text: cause.to_string() })?;
    Ok(Loaded { config, origins })
}

/// The drop-ins in the order of their names; none where there is no folder.
fn drop_ins_in(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |cause| ConfigError::Folder(folder.to_path_buf(), cause);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(unreadable(cause)),
    };
    check_owner(folder)?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            found.push(path);
        }
        if found.len() > MAX_DROP_INS {
            return Err(ConfigError::TooMany(folder.to_path_buf()));
        }
    }
    found.sort();
    Ok(found)
}

fn check_owner(path: &Path) -> Result<(), ConfigError> {
    use std::os::unix::fs::MetadataExt;
    let refused = || ConfigError::Ownership(path.to_path_buf());
    let meta = std::fs::metadata(path).map_err(|_| refused())?;
    let trusted = meta.uid() == 0 || meta.uid() == nix::unistd::geteuid().as_raw();
    if trusted && meta.mode() & 0o022 == 0 { Ok(()) } else { Err(refused()) }
}

fn overlay(
    whole: &mut toml::Table,
    table: toml::Table,
    prefix: &str,
    path: &Path,
    origins: &mut BTreeMap<String, PathBuf>,
) {
    for (key, value) in table {
        let dotted = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (whole.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(table)) => {
                overlay(below, table, &dotted, path, origins);
            }
            (_, toml::Value::Table(table)) => {
                let mut below = toml::Table::new();
                overlay(&mut below, table, &dotted, path, origins);
                whole.insert(key, toml::Value::Table(below));
            }
            (_, value) => {
                origins.insert(dotted, path.to_path_buf());
                whole.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Mode, Span};

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn read(folder: &tempfile::TempDir) -> Result<Loaded, ConfigError> {
        load(&folder.path().join("main.toml"), &folder.path().join("conf.d"))
    }

    #[test]
    fn no_file_at_all_is_a_configuration() {
        let loaded = read(&folder(&[])).unwrap();
        assert!(loaded.config.tenant.is_none() && loaded.origins.is_empty());
    }

    #[test]
    fn drop_ins_win_and_are_named() {
        let folder = folder(&[
            ("main.toml", "mode = \"observe\"\n[trust]\nmax_lifetime = \"2h\"\n"),
            ("conf.d/10-a.toml", "mode = \"enforce\"\n[trust]\nca_grace = \"1h\"\n"),
        ]);
        let loaded = read(&folder).unwrap();
        assert_eq!(loaded.config.mode, Some(Mode::Enforce));
        assert_eq!(loaded.config.trust.max_lifetime, Some(Span(7_200)));
        assert_eq!(loaded.config.trust.ca_grace, Some(Span(3_600)));
        assert!(loaded.origins["mode"].ends_with("10-a.toml"));
        assert!(loaded.origins["trust.max_lifetime"].ends_with("main.toml"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let loaded =
            read(&folder(&[("main.toml", "mode = \"enforce\"\n[login]\nallow_groups = [\"admins\"]\n")]));
        let text = loaded.unwrap_err().to_string();
        assert!(text.contains("line 3") && text.contains("allow_groups"), "{text}");
    }

    /// himmelblau CVE-2025-49012: a group's display name is no identity, so there is no key for one.
    #[test]
    fn group_names_cannot_be_configured() {
        for key in ["groups", "allow_groups", "pam_allow_groups"] {
            assert!(read(&folder(&[("main.toml", &format!("[login]\n{key} = [\"admins\"]\n"))])).is_err());
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder(&[("main.toml", "")]);
        let path = folder.path().join("main.toml");
        let others_may = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        others_may(&path, 0o666);
        assert!(matches!(read(&folder), Err(ConfigError::Ownership(_))));
        others_may(&path, 0o644);
        assert!(read(&folder).is_ok());
        // Whoever can write the folder can take away what makes this node strict.
        others_may(&folder.path().join("conf.d"), 0o777);
        assert!(matches!(read(&folder), Err(ConfigError::Ownership(_))));
    }

    #[test]
    fn drop_ins_that_cannot_be_read_are_not_taken_for_none() {
        let folder = folder(&[("main.toml", "mode = \"observe\"\n")]);
        let drop_ins = folder.path().join("conf.d");
        std::fs::remove_dir(&drop_ins).unwrap();
        assert_eq!(read(&folder).unwrap().config.mode, Some(Mode::Observe), "no folder is no drop-in");
        std::fs::write(&drop_ins, "").unwrap();
        let text = read(&folder).unwrap_err().to_string();
        assert!(text.contains("conf.d") && text.contains("chmod go+rx"), "{text}");
        std::fs::remove_file(&drop_ins).unwrap();
        std::fs::create_dir(&drop_ins).unwrap();
        for n in 0..=MAX_DROP_INS {
            assert!(read(&folder).is_ok());
            std::fs::write(drop_ins.join(format!("{n}.toml")), "").unwrap();
        }
        assert!(matches!(read(&folder), Err(ConfigError::TooMany(_))));
    }
}
