//! Which kubeconfigs count: those that kubectl would read (Kubernetes documentation, "Organizing Cluster
//! Access Using kubeconfig Files").

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

/// The largest kubeconfig, in bytes.
const MAX_KUBECONFIG_BYTES: u64 = 4 * 1024 * 1024;
/// The most files that KUBECONFIG may list.
const MAX_FILES: usize = 64;

/// The file that was named, else those of `$KUBECONFIG`, else `~/.kube/config`. Of the listed ones those that
/// exist, as with kubectl; a file that was named alone must exist.
pub(in crate::cli) fn kubeconfigs(
    named: Option<&Path>,
    listed: Option<&OsStr>,
    home: Option<&Path>,
) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named.to_path_buf()];
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for file in listed.map(std::env::split_paths).into_iter().flatten().take(MAX_FILES) {
        if !file.as_os_str().is_empty() && !files.contains(&file) {
            files.push(file);
        }
    }
    if files.is_empty() {
        files.extend(home.map(|home| home.join(".kube/config")));
    }
    files.retain(|file| file.exists());
    files
}

/// Reads one.
pub(in crate::cli) fn read(file: &Path) -> Result<Value, String> {
    let name = file.display();
    let about = std::fs::metadata(file).map_err(|cause| format!("{name}: {cause}"))?;
    if !about.is_file() {
        return Err(format!("{name} is no file"));
    }
    if about.len() > MAX_KUBECONFIG_BYTES {
        return Err(format!("{name}: larger than {MAX_KUBECONFIG_BYTES} bytes; is it a kubeconfig?"));
    }
    let bytes = std::fs::read(file).map_err(|cause| format!("{name}: {cause}"))?;
    serde_yaml_ng::from_slice(&bytes).map_err(|cause| format!("{name}: {cause}"))
}

/// The entries of a list of named things: `users`, `contexts`.
pub(in crate::cli) fn named<'a>(whole: &'a Value, list: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let entries = whole.get(list).and_then(Value::as_sequence).into_iter().flatten();
    entries.filter_map(|entry| Some((entry.get("name")?.as_str()?, entry)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeconfig_lists_files_of_which_those_that_exist_count() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            std::fs::write(at(name), "users: []\n").unwrap();
        }
        std::fs::create_dir(at(".kube")).unwrap();
        std::fs::write(at(".kube/config"), "users: []\n").unwrap();
        let list = std::env::join_paths([at("a"), PathBuf::new(), at("gone"), at("b"), at("a")]).unwrap();
        assert_eq!(kubeconfigs(None, Some(&list), Some(folder.path())), [at("a"), at("b")]);
        assert_eq!(kubeconfigs(None, None, Some(folder.path())), [at(".kube/config")]);
        assert_eq!(kubeconfigs(None, Some(OsStr::new("")), Some(folder.path())), [at(".kube/config")]);
        assert_eq!(kubeconfigs(Some(&at("gone")), Some(&list), None), [at("gone")]);
        assert!(kubeconfigs(None, None, None).is_empty());
        assert!(read(&at("gone")).unwrap_err().contains("gone"));
        assert!(read(folder.path()).unwrap_err().contains("is no file"));
    }
}
